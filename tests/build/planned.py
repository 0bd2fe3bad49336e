"""Cases planned by ours without anything being built."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tests.build.cases import Case
from wherry.errors import NotFound
from wherry.model.dockerfile.ignore import IGNORE_FILE, read_patterns
from wherry.model.dockerfile.options import BaseImage, Context, LocalContext, PlanOptions
from wherry.model.dockerfile.planning import Plan, plan_dockerfile
from wherry.model.platforms import Platform

HOST = Platform("linux", "amd64")


class Known:
    """Base images whose configurations are at hand, by canonical reference."""

    def __init__(self, documents: Mapping[str, Mapping[str, Any]]) -> None:
        self._documents = documents

    async def base_image(self, reference: str, platform: Platform) -> BaseImage:
        for name, document in self._documents.items():
            if reference in (name, f"docker.io/library/{name}"):
                return BaseImage(reference, document)
        raise NotFound(f"No such image: {reference}")


def options_of(case: Case) -> PlanOptions:
    """The arguments of `build` as options of a plan."""
    named: dict[str, list[str]] = {}
    words = iter(case.arguments)
    for word in words:
        named.setdefault(word, []).append(next(words))
    pairs = {flag: dict(text.split("=", 1) for text in named.get(flag, ())) for flag in ("--build-arg", "--label")}
    ignore = next((case.files[name] for name in (f"Dockerfile{IGNORE_FILE}", IGNORE_FILE) if name in case.files), None)
    patterns = tuple(read_patterns(ignore.data.decode())) if ignore else ()
    contexts: dict[str, Context] = {name: LocalContext(name) for name in case.contexts}
    return PlanOptions(
        HOST,
        target=named.get("--target", [""])[0],
        build_args=pairs["--build-arg"],
        labels=pairs["--label"],
        main=LocalContext("context", patterns),
        contexts=contexts,
    )


def planned(case: Case, documents: Mapping[str, Mapping[str, Any]]) -> Plan:
    data = case.dockerfile.encode("utf-8")
    return asyncio.run(plan_dockerfile(data, options_of(case), Known(documents)))


def document_of(plan: Plan, documents: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The image configuration that the plan leads to, times and layers apart."""
    target = plan.target
    history: list[dict[str, Any]] = []
    if target.base is not None:
        reference = getattr(target.base.operation, "reference", "")
        history += [
            entry
            for name, document in documents.items()
            if reference in (name, f"docker.io/library/{name}")
            for entry in document["history"]
        ]
    for step in target.history:
        entry = {"created_by": step.created_by, "comment": step.comment}
        history.append(entry if step.vertex is not None else {**entry, "empty_layer": True})
    return {**target.config, "history": history}
