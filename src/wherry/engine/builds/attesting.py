"""The statements about an image that was built: its provenance, and the packages in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from wherry.engine.builds.contents import files_in, packages_of
from wherry.engine.builds.shop import Shop
from wherry.engine.builds.trees import Tree
from wherry.errors import InvalidParameter
from wherry.model.attestations import PROVENANCE, SBOM, Attested, attested, statement, subjects
from wherry.model.build_graph import Vertex, ordered
from wherry.model.dockerfile.options import BaseImage
from wherry.model.dockerfile.planning import Plan
from wherry.model.image import Image
from wherry.model.packages import spdx
from wherry.model.platforms import Platform
from wherry.model.provenance import Invocation, Material, Performed, predicate
from wherry.model.reference import Reference, parse
from wherry.model.sbom_scans import OUT, read_statement, scan
from wherry.model.timestamps import rfc3339_nano

Statements = Sequence[tuple[str, bytes]]
"""Each with its type of predicate."""

Attestations = Mapping[str, Mapping[str, str]]
"""Which are wanted, with the options of each."""


@dataclass(frozen=True)
class Report:
    """What a build was for one platform, for its provenance. Times in ns since the epoch; `epoch` is SOURCE_DATE_EPOCH
    in seconds.
    """

    asked: Invocation
    plan: Plan
    materials: Callable[[Iterable[Vertex]], list[Material]]
    started_ns: int
    epoch: int | None
    id: str
    platform: Platform


class Trees(Protocol):
    """Who knows what vertices come to."""

    async def tree_of(self, vertex: Vertex) -> Tree: ...
    async def base_image(self, reference: str, platform: Platform) -> BaseImage: ...


async def attest(shop: Shop, trees: Trees, report: Report, wanted: Attestations, name: str) -> list[Attested]:
    """The SBOMs first. Raises NotSupported: there are packages that cannot be listed."""
    found = []
    if SBOM in wanted:
        generator = wanted[SBOM].get("generator", "")
        made = _generated(shop, trees, report, generator) if generator else _listed(shop, trees, report, name)
        found += [attested(SBOM, each.predicate, wanted[SBOM], each.file, each.subjects) for each in await made]
    if PROVENANCE in wanted:
        target = report.plan.target.vertex
        done = Performed(
            report.id,
            target,
            report.materials(ordered(target)),
            report.started_ns,
            time.time_ns(),
            report.plan.places,
        )
        found.append(attested(PROVENANCE, predicate(report.asked, done, wanted[PROVENANCE]), wanted[PROVENANCE]))
    return found


@dataclass(frozen=True)
class _Sbom:
    file: str
    predicate: object
    subjects: list[dict[str, Any]] = field(default_factory=list)


async def _listed(shop: Shop, trees: Trees, report: Report, name: str) -> list[_Sbom]:
    """What the engine itself reads out of databases of packages."""
    seconds = report.epoch if report.epoch is not None else time.time_ns() // 10**9
    created = rfc3339_nano(seconds * 10**9)
    found = []
    for scanned, vertex in {"": report.plan.target.vertex, **report.plan.scanned}.items():
        listed = await asyncio.to_thread(packages_of, shop, await trees.tree_of(vertex))
        file = f"sbom-{scanned}.spdx.json" if scanned else ""
        found.append(_Sbom(file, spdx(listed, scanned or name or "image", created, "wherry")))
    return found


async def _generated(shop: Shop, trees: Trees, report: Report, generator: str) -> list[_Sbom]:
    """What an image that is run for it writes. Raises InvalidParameter: nothing, or what is no statement."""
    host, plan = report.asked.host, report.plan
    image = await trees.base_image(parse(generator).with_default_tag().canonical, host)
    tree = await trees.tree_of(scan(image, host, plan.target.vertex, plan.scanned))
    written = await asyncio.to_thread(files_in, shop, tree, OUT)
    if not written:
        raise InvalidParameter(f"the sbom generator {generator} wrote nothing to /{OUT}")
    return [_Sbom(file, *read_statement(file, data)) for file, data in written.items()]


def statements(found: Iterable[Attested], image: Image, names: Iterable[Reference], digest: str) -> Statements:
    """About the image with the manifest of this digest."""
    platform = Platform(image.os, image.architecture, image.variant).normal()
    about = subjects(names, platform, digest)
    return [(each.type, msgspec.json.encode(statement(each, about))) for each in found]


def documents(found: Iterable[Attested], digests: Mapping[str, str], prefix: str, suffix: str) -> dict[str, bytes]:
    """Statements about files, by the name each has beside them; `digests` are the files' SHA-256 by path."""
    about = [{"name": path, "digest": {"sha256": digest}} for path, digest in digests.items()]
    named = {}
    for each in found:
        stem, _, ending = each.file.rpartition(".")
        text = msgspec.json.format(msgspec.json.encode(statement(each, about)), indent=2)
        named[f"{prefix}{stem}{suffix}.{ending}"] = text
    return named
