"""Results of builds elsewhere, found under the same keys as ours: from registries, clients' directories and images.

What a cache says a step came to is believed, since who asked for the build named the cache. That its layers are what
they are said to be is verified as with a pull, and they are fetched only when a step is found.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from wherry.engine.builds.bases import Puller
from wherry.engine.builds.operations import Outcome
from wherry.engine.builds.progress import Progress, Warned
from wherry.engine.builds.solving import Imported
from wherry.engine.builds.trees import Tree
from wherry.engine.images.admission import KeptLayer
from wherry.engine.transfers.needs import Document, Source
from wherry.errors import InvalidParameter, NotFound, WherryError
from wherry.model import build_caches
from wherry.model.build_graph import Vertex
from wherry.model.image import chain_ids, parse_image
from wherry.model.manifests import CONFIG_MAX, NESTING_MAX, Descriptor, Index, choose, parse
from wherry.model.platforms import Platform


class Shelf(Source, Protocol):
    """Where a cache is: a repository, or a directory of the client's."""

    async def manifest(self, ref: str) -> Document: ...


@dataclass(frozen=True)
class _Read:
    name: str
    shelf: Shelf
    offer: build_caches.Offer
    matched: dict[Vertex, build_caches.Result] = field(default_factory=dict)


class CacheImports:
    """The caches that one build may take from. A step whose layers cannot be had is done as if it were in none."""

    def __init__(self, puller: Puller, chains: Callable[[], set[str]], progress: Progress, platform: Platform) -> None:
        self._bring = puller.layers
        self._chains = chains
        self._progress = progress
        self._platform = platform
        self._read: list[_Read] = []

    async def add(self, name: str, shelf: Shelf, ref: str) -> None:
        """Read what is under `ref`. A cache that cannot be read is told of, and that is all."""
        try:
            with self._progress.activity(f"importing cache manifest from {name}"):
                self._read.append(_Read(name, shelf, await self._offer(shelf, ref)))
        except WherryError as error:
            self._progress.tell(Warned(f"the cache {name} is not used: {error}"))

    def add_offer(self, name: str, shelf: Shelf, offer: build_caches.Offer) -> None:
        """One that is at hand."""
        self._read.append(_Read(name, shelf, offer))

    def add_matched(self, name: str, shelf: Shelf, results: dict[Vertex, build_caches.Result]) -> None:
        """What steps of this build came to in an image that is here."""
        self._read.append(_Read(name, shelf, build_caches.Offer(), results))

    async def find(self, vertex: Vertex, key: str, *, fetch: bool) -> Imported | None:
        """See `wherry.engine.builds.solving.Imports`."""
        for read in self._read:
            result = read.offer.results.get(key) or read.matched.get(vertex)
            if result is None:
                continue
            here = await asyncio.to_thread(self._chains)
            chains = chain_ids(result.diff_ids)
            if not fetch and chains[-1] not in here:
                continue
            try:
                layers = await self._fetch(read, result.diff_ids)
            except WherryError as error:
                self._progress.tell(Warned(f"the cache {read.name} is not used for a step: {error}"))
                continue
            new = tuple(layer for layer in layers if layer.chain_id not in here)
            return Imported(Outcome(Tree(chains[-1], result.diff_ids), new), result.created_ns)
        return None

    async def _fetch(self, read: _Read, diff_ids: Sequence[str]) -> list[KeptLayer]:
        def tell(message: dict[str, Any]) -> None:
            activity.transfer(message)

        with self._progress.activity(f"importing cache from {read.name}") as activity:
            return await self._bring(read.shelf, diff_ids, read.offer.blobs, tell)

    # reading

    async def _offer(self, shelf: Shelf, ref: str) -> build_caches.Offer:
        document = await shelf.manifest(ref)
        for _ in range(NESTING_MAX + 1):
            found = build_caches.parts_of(document.data)
            if found is not None:
                config, layers = found
                text = await small_blob(shelf, config, build_caches.CONFIG_MAX)
                return await asyncio.to_thread(build_caches.read, text, layers)
            parsed = parse(document.media_type, document.data)
            if not isinstance(parsed, Index):
                text = await small_blob(shelf, parsed.config, CONFIG_MAX)
                return await asyncio.to_thread(offered_by, text, parsed.layers)
            document = await shelf.manifest(choose(parsed, self._platform).digest)
        raise InvalidParameter(f"invalid manifest: indexes nested more than {NESTING_MAX} deep")


def offered_by(config: bytes, layers: Sequence[Descriptor]) -> build_caches.Offer:
    """The inline cache of an image. Raises NotFound where it has none, InvalidParameter. Blocking."""
    image = parse_image(config)
    text = msgspec.json.decode(config).get(build_caches.INLINE)
    if text is None:
        raise NotFound("the image has no inline cache")
    if layers and len(layers) != len(image.diff_ids):
        raise InvalidParameter("layers from manifest don't match image configuration")
    return build_caches.read_inline(text, image.diff_ids, layers)


async def small_blob(shelf: Shelf, descriptor: Descriptor, most: int) -> bytes:
    """A blob as a whole, verified."""
    if descriptor.size > most:
        raise InvalidParameter(f"invalid cache: {descriptor.digest} of {descriptor.size} bytes cannot be read")
    data = bytearray()
    async with aclosing(shelf.blob(descriptor)) as pieces:
        async for piece in pieces:
            data += piece
            if len(data) > descriptor.size:
                break
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != descriptor.digest:
        raise InvalidParameter(f"verification failed for digest {descriptor.digest}")
    return bytes(data)
