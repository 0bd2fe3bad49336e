"""The statements about an image that was built: its provenance, and the packages in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from wherry.engine.builds.contents import packages_of
from wherry.engine.builds.shop import Shop
from wherry.engine.builds.trees import Tree
from wherry.model.attestations import PROVENANCE, SBOM, Attested, attested, statement, subjects
from wherry.model.build_graph import Vertex, ordered
from wherry.model.dockerfile.planning import Plan
from wherry.model.image import Image
from wherry.model.packages import spdx
from wherry.model.platforms import Platform
from wherry.model.provenance import Invocation, Material, Performed, predicate
from wherry.model.reference import Reference
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


async def attest(shop: Shop, report: Report, wanted: Attestations, tree: Tree, name: str) -> list[Attested]:
    """The SBOM first. Raises NotSupported: the tree has packages that cannot be listed."""
    found = []
    if SBOM in wanted:
        seconds = report.epoch if report.epoch is not None else time.time_ns() // 10**9
        created = rfc3339_nano(seconds * 10**9)
        listed = await asyncio.to_thread(packages_of, shop, tree)
        found.append(attested(SBOM, spdx(listed, name or "image", created, "wherry"), wanted[SBOM]))
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
