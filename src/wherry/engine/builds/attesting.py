"""The statements about an image that was built: its provenance, and the packages in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from wherry.engine.builds.contents import packages_of
from wherry.engine.builds.shop import Shop
from wherry.engine.builds.trees import Tree
from wherry.model.attestations import PREDICATE_PROVENANCE, PREDICATE_SBOM, PROVENANCE, SBOM, statement
from wherry.model.build_graph import Vertex, ordered
from wherry.model.dockerfile.planning import Plan
from wherry.model.ids import new_id
from wherry.model.image import Image
from wherry.model.packages import spdx
from wherry.model.platforms import Platform
from wherry.model.provenance import Invocation, Material, Performed, predicate
from wherry.model.reference import Reference
from wherry.model.timestamps import rfc3339_nano

Attestations = Mapping[str, Mapping[str, str]]
"""Which are wanted, with the options of each."""


@dataclass(frozen=True)
class Report:
    """What a build was, for its provenance. Times in ns since the epoch; `epoch` is SOURCE_DATE_EPOCH in seconds."""

    asked: Invocation
    plan: Plan
    materials: Callable[[Iterable[Vertex]], list[Material]]
    started_ns: int
    epoch: int | None
    id: str = field(default_factory=lambda: new_id()[:25])


async def predicates(shop: Shop, report: Report, wanted: Attestations, tree: Tree, name: str) -> dict[str, object]:
    """By type of predicate, the SBOM first. Raises NotSupported: it has packages that cannot be listed."""
    found: dict[str, object] = {}
    if SBOM in wanted:
        seconds = report.epoch if report.epoch is not None else time.time_ns() // 10**9
        created = rfc3339_nano(seconds * 10**9)
        listed = await asyncio.to_thread(packages_of, shop, tree)
        found[PREDICATE_SBOM] = spdx(listed, name or "image", created, "wherry")
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
        found[PREDICATE_PROVENANCE] = predicate(report.asked, done, wanted[PROVENANCE])
    return found


def statements(found: Mapping[str, object], image: Image, names: Iterable[Reference], digest: str) -> dict[str, bytes]:
    """About the image with the manifest of this digest."""
    platform = Platform(image.os, image.architecture, image.variant).normal()
    held = list(names)
    return {kind: statement(kind, each, held, platform, digest) for kind, each in found.items()}
