"""What a build came to, kept for builds elsewhere: layers first, then the configuration, then the manifest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Protocol

from wherry.engine.builds.cache import Cache
from wherry.engine.builds.progress import Progress, Warned
from wherry.engine.builds.publishing import Pusher
from wherry.engine.builds.solving import Known, Solve
from wherry.engine.builds.trees import Tree
from wherry.engine.transfers.needs import Destination
from wherry.errors import WherryError
from wherry.model import build_caches
from wherry.model.build_caches import Result
from wherry.model.build_graph import Vertex
from wherry.model.build_session import CachePlace
from wherry.model.failpoints import failpoint


class Shelf(Destination, Protocol):
    """Where a cache goes: a repository, or a directory of the client's."""

    async def put_manifest(self, ref: str, media_type: str, data: bytes) -> str: ...


async def results_of(
    solve: Solve, cache: Cache, known: Mapping[Vertex, Known], within: Tree | None
) -> dict[str, Result]:
    """What is known of a build, by every key that finds it; with `within` only what that tree is made of."""
    found: dict[str, Result] = {}
    for vertex, state in known.items():
        diff_ids = state.tree.diff_ids
        if not diff_ids or (within is not None and within.diff_ids[: len(diff_ids)] != diff_ids):
            continue
        cached = await solve.kept(vertex)
        if cached is not None and tuple(cached.diff_ids) == diff_ids:
            found.update((key, Result(diff_ids, cached.created_ns)) for key in cache.keys_of(cached))
    return found


async def export(
    place: CachePlace, shelf: Shelf, ref: str, results: Mapping[str, Result], pusher: Pusher, progress: Progress
) -> None:
    """Raises WherryError, unless the place says that it does not matter."""
    try:
        with progress.activity(f"exporting cache to {place.shown}") as activity:
            diff_ids = list(dict.fromkeys(diff_id for result in results.values() for diff_id in result.diff_ids))
            layers = await pusher.layers(
                shelf,
                f"{id(shelf)} {place.shown}",
                diff_ids,
                activity.transfer,
                compression=place.compression,
                docker=not place.oci_mediatypes,
            )
            failpoint("builds.export.layers-sent")
            blobs = dict(zip(diff_ids, layers, strict=True))
            document = build_caches.configuration(results, blobs)
            config = build_caches.described(document)
            if not await shelf.has_blob(config.digest):
                await shelf.upload(config, lambda offset: _one(document[offset:]), lambda sent: None)
            media_type, manifest = build_caches.manifest(
                config, blobs, image=place.image_manifest, oci=place.oci_mediatypes
            )
            failpoint("builds.export.configured")
            activity.say(f"cache manifest {await shelf.put_manifest(ref, media_type, manifest)}")
    except WherryError as error:
        if not place.ignore_error:
            raise
        progress.tell(Warned(f"the cache was not exported to {place.shown}: {error}"))


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


def check(places: Iterable[CachePlace], *, written: bool) -> str:
    """What is wrong with them, "" if nothing is."""
    for place in places:
        if place.type not in ("registry", "local", "inline") or (place.type == "inline" and not written):
            return f"unknown type of cache: {place.type}: it is registry, local or inline (which is only written)"
        if place.type == "registry" and not place.ref:
            return "a cache of type registry needs ref"
        if place.mode not in ("min", "max"):
            return f"unknown mode of a cache: {place.mode}: it is min or max"
        if place.type == "inline" and place.mode == "max":
            return "an inline cache holds what the image is made of: mode=max needs another type"
        if place.compression not in ("gzip", "zstd"):
            return f"unknown compression of a cache: {place.compression}: it is gzip or zstd"
        if not place.oci_mediatypes and (place.image_manifest or place.compression == "zstd"):
            return "oci-mediatypes=false needs image-manifest=false and compression=gzip"
    return ""
