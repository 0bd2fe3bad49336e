"""`build --check` and `build --plan`: what a Dockerfile says, without anything being built.

Only the configurations of base images come from elsewhere: from the engine, as far as it is there and has them. What an
unknown image would add (its environment, its triggers) is left out, and that is said.
"""

from __future__ import annotations

import os
import sys

from wherry.cli.errors import Failure
from wherry.client.connection import ConnectionFailed, ProtocolError
from wherry.client.engine import ApiMismatch, EngineError
from wherry.model import platforms
from wherry.model.dockerfile.options import BaseImage
from wherry.model.dockerfile.planning import check_dockerfile, plan_dockerfile
from wherry.model.dockerfile.source import DockerfileError, frame
from wherry.model.reference import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, TypeVar

    from wherry.client.engine import Engine
    from wherry.model.dockerfile.checks import Finding
    from wherry.model.dockerfile.options import PlanOptions
    from wherry.model.platforms import Platform

    T = TypeVar("T")

PLAN_FORMS = ("text", "mermaid")
_NOT_KNOWN: dict[str, Any] = {"config": {}, "rootfs": {"diff_ids": ["sha256:" + "0" * 64]}}


def host_platform() -> Platform:
    """Of this machine, which stands for the engine's."""
    return platforms.from_machine(os.uname().machine)


class KnownImages:
    """Base images as the engine tells of them; `unknown` collects those it cannot."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.unknown: list[str] = []

    async def base_image(self, reference: str, platform: Platform) -> BaseImage:
        try:
            found = self._engine.get(f"/images/{reference}/json") or {}
        except (EngineError, ApiMismatch, ConnectionFailed, ProtocolError):
            self.unknown.append(parse(reference).familiar)
            return BaseImage(reference, _NOT_KNOWN | {"os": platform.os, "architecture": platform.architecture})
        return BaseImage(
            reference,
            {
                "architecture": found.get("Architecture") or "",
                "os": found.get("Os") or "",
                "variant": found.get("Variant") or "",
                "author": found.get("Author") or "",
                "config": found.get("Config") or {},
                "rootfs": {"diff_ids": (found.get("RootFS") or {}).get("Layers") or []},
            },
        )

    def tell(self) -> None:
        for name in dict.fromkeys(self.unknown):
            print(f"The engine does not know {name}: its environment and triggers are not in this.", file=sys.stderr)


def check(engine: Engine, data: bytes, name: str, options: PlanOptions) -> int:
    """Print what the build checks find, as buildx does; the exit code is 1 if they find anything."""
    images = KnownImages(engine)
    checked = _completed(check_dockerfile(data, options, images))
    count = len(checked.findings)
    found = f"{count} warning has" if count == 1 else f"{count} warnings have"
    if count or checked.error is None:
        print(f"Check complete, {found} been found!" if count else "Check complete, no warnings found.")
    text = data.decode("utf-8", "replace")
    for finding in checked.findings:
        print("\n" + shown(finding, name, text))
    images.tell()
    if checked.error is not None:
        raise failure(checked.error, name, text)
    return 1 if count else 0


def show(engine: Engine, data: bytes, name: str, options: PlanOptions, form: str = "text") -> int:
    """Print the graph of the target, as text or as a drawing. Raises Failure."""
    images = KnownImages(engine)
    try:
        plan = _completed(plan_dockerfile(data, options, images))
    except DockerfileError as error:
        raise failure(error, name, data.decode("utf-8", "replace")) from None
    if form == "mermaid":
        from wherry.model.build_drawings import mermaid

        print(mermaid(plan.target.vertex), end="")
    else:
        from wherry.model.build_graph import render

        print(render(plan.target.vertex), end="")
    images.tell()
    return 0


def shown(finding: Finding, name: str, text: str) -> str:
    """One finding with the source it is about."""
    page = f" - {finding.rule.url}"
    return f"WARNING: {finding.rule.name}{page}\n{finding.message}\n{frame(name, text, finding.lines)}"


def failure(error: DockerfileError, name: str, text: str) -> Failure:
    """The error with the source around it, to be told as buildx tells it."""
    message = f"ERROR: failed to build: failed to solve: {error}"
    return Failure(f"{frame(name, text, error.lines)}\n{message}" if error.lines else message)


def _completed(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing: the client's requests block."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("planning waited")
