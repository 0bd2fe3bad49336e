"""`save`: images as an archive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from wherry.engine.images.catalog import Catalog
from wherry.engine.images.keeping import Keeper
from wherry.errors import NotFound, SystemFailure
from wherry.model.image import chain_ids
from wherry.model.reference import Reference, parse_any
from wherry.storage.archives import END, Member, SavedImage, SavedLayer, plan_archive
from wherry.storage.blobs import Blobs
from wherry.storage.image_records import LayerBlob
from wherry.storage.snapshots import Snapshots
from wherry.storage.streams import Decompressed

_CHUNK = 1 << 20


class Saving:
    def __init__(self, catalog: Catalog, keeper: Keeper, blobs: Blobs, snapshots: Snapshots) -> None:
        self._catalog = catalog
        self._records = catalog.records
        self._keeper = keeper
        self._blobs = blobs
        self._snapshots = snapshots

    async def save(self, refs: Sequence[str]) -> AsyncIterator[bytes]:
        """See Images.save."""
        wanted = self._names(refs)
        blobs = dict(self._records.blobs)
        members = await asyncio.to_thread(self._plan, wanted)
        for image_id in wanted:
            self._catalog.event("save", self._records.images[image_id], image_id)
        return self._archive(members, blobs)

    def _names(self, refs: Sequence[str]) -> dict[str, list[Reference]]:
        """The images by ID, each with the names it is saved under."""
        wanted: dict[str, list[Reference]] = {}
        for ref in refs:
            reference = parse_any(ref)
            if isinstance(reference, str):
                wanted.setdefault(self._catalog.resolve(ref).id, [])
            elif reference.tag or reference.digest:
                image_id = self._records.names.get(reference.without_tag().canonical)
                if image_id is None:
                    if len(found := self._catalog.by_prefix(ref)) != 1:  # sha256:abcd looks like a tag
                        raise NotFound("reference does not exist")
                    wanted.setdefault(found[0].id, [])
                else:
                    names = wanted.setdefault(image_id, [])
                    if reference.tag and reference not in names:
                        names.append(reference)
            elif pairs := self._catalog.names_in_repository(reference):
                for name, image_id in pairs:
                    names = wanted.setdefault(image_id, [])
                    if name not in names:
                        names.append(name)
            elif len(found := self._catalog.by_prefix(ref)) == 1:
                wanted.setdefault(found[0].id, [])
            else:
                raise NotFound(f"No such image: {ref}")
        return wanted

    def _plan(self, wanted: dict[str, list[Reference]]) -> list[Member]:
        saved = []
        for image_id, names in wanted.items():
            image = self._records.images[image_id]
            layers = [
                SavedLayer(diff_id, self._snapshots.layer(chain_id).tar_size)
                for diff_id, chain_id in zip(image.diff_ids, chain_ids(image.diff_ids), strict=True)
            ]
            saved.append(SavedImage(image, self._blobs.read(image_id), layers, names))
        return plan_archive(saved)

    async def _archive(self, members: list[Member], blobs: dict[str, LayerBlob]) -> AsyncIterator[bytes]:
        async with self._keeper.holding():
            small = bytearray()
            for member in members:
                small += member.header()
                if not member.layer:
                    small += member.data + member.padding
                    continue
                yield bytes(small)
                sent = 0
                async for piece in self._layer_tar(blobs[member.layer]):
                    sent += len(piece)
                    yield piece
                if sent != member.size:
                    raise SystemFailure(f"layer {member.layer}: {sent} bytes where {member.size} were recorded")
                small = bytearray(member.padding)
            yield bytes(small) + END

    async def _layer_tar(self, blob: LayerBlob) -> AsyncIterator[bytes]:
        with await asyncio.to_thread(self._blobs.open, blob.digest) as file:
            source = await asyncio.to_thread(Decompressed, file)
            while piece := await asyncio.to_thread(source.read, _CHUNK):
                yield piece
