"""`save`: images as an archive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from wherry.engine.images.catalog import Catalog
from wherry.engine.images.keeping import Keeper
from wherry.errors import NotFound, SystemFailure
from wherry.model.image import Image, chain_ids
from wherry.model.manifests import MEDIA_INDEX, Descriptor
from wherry.model.reference import Reference, parse_any
from wherry.storage.archives import END, DressedImage, Member, SavedImage, SavedLayer, plan_archive
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
        diff_ids = {diff_id for image_id in wanted for diff_id in self._records.images[image_id].diff_ids}
        blobs = {diff_id: blob for diff_id, blob in self._records.blobs.items() if diff_id in diff_ids}
        targets = {name: self._records.targets.get(name.canonical, "") for names in wanted.values() for name in names}
        dressed = {name: target for name, target in targets.items() if target and self._records.dressed(target)}
        members = await asyncio.to_thread(self._plan, wanted, dressed)
        for image_id in wanted:
            self._catalog.event("save", self._records.images[image_id], image_id)
        return self._archive(members, blobs, list(wanted))

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

    async def save_dressed(self, image: Image, top: Descriptor, names: Sequence[Reference]) -> AsyncIterator[bytes]:
        """An archive of one image as a manifest or index made for it has it, with whatever names."""
        parts = self._records.parts(top.digest)
        saved = await asyncio.to_thread(self._dressed, image, top, parts, list(names))
        return self._archive(plan_archive([saved]), {}, [image.id])

    def _dressed(self, image: Image, top: Descriptor, parts: list[str], names: list[Reference]) -> DressedImage:
        known = next(
            manifest
            for manifest in self._records.manifests_of(image.id)
            if top.digest == manifest.digest or top.digest in manifest.indexes
        )
        sizes = {digest: self._blobs.size(digest) for digest in parts}
        return DressedImage(image, top, sizes, list(known.layers), names)

    def _plan(self, wanted: dict[str, list[Reference]], dressed: dict[Reference, str]) -> list[Member]:
        saved: list[SavedImage | DressedImage] = []
        for image_id, all_names in wanted.items():
            image = self._records.images[image_id]
            for digest in dict.fromkeys(dressed[name] for name in all_names if name in dressed):
                kind = manifest.media_type if (manifest := self._records.manifests.get(digest)) else MEDIA_INDEX
                top = Descriptor(kind, digest, self._blobs.size(digest))
                named = [name for name in all_names if dressed.get(name) == digest]
                saved.append(self._dressed(image, top, self._records.parts(digest), named))
            names = [name for name in all_names if name not in dressed]
            if all_names and not names:
                continue
            layers = [
                SavedLayer(diff_id, self._snapshots.layer(chain_id).tar_size)
                for diff_id, chain_id in zip(image.diff_ids, chain_ids(image.diff_ids), strict=True)
            ]
            saved.append(SavedImage(image, self._blobs.read(image_id), layers, names))
        return plan_archive(saved)

    async def _archive(
        self, members: list[Member], blobs: dict[str, LayerBlob], image_ids: list[str]
    ) -> AsyncIterator[bytes]:
        async with self._keeper.lease() as lease:
            for image_id in image_ids:
                if image_id in self._records.images:
                    await lease.add(self._keeper.belongings(image_id))
            await lease.shield(blobs={*(blob.digest for blob in blobs.values()), *(member.blob for member in members)})
            small = bytearray()
            for member in members:
                small += member.header()
                if not member.layer and not member.blob:
                    small += member.data + member.padding
                    continue
                yield bytes(small)
                sent = 0
                pieces = self._blob(member.blob) if member.blob else self._layer_tar(blobs[member.layer])
                async for piece in pieces:
                    sent += len(piece)
                    yield piece
                if sent != member.size:
                    name = member.layer or member.blob
                    raise SystemFailure(f"layer {name}: {sent} bytes where {member.size} were recorded")
                small = bytearray(member.padding)
            yield bytes(small) + END

    async def _layer_tar(self, blob: LayerBlob) -> AsyncIterator[bytes]:
        with await asyncio.to_thread(self._blobs.open, blob.digest) as file:
            source = await asyncio.to_thread(Decompressed, file)
            while piece := await asyncio.to_thread(source.read, _CHUNK):
                yield piece

    async def _blob(self, digest: str) -> AsyncIterator[bytes]:
        with await asyncio.to_thread(self._blobs.open, digest) as file:
            while piece := await asyncio.to_thread(file.read, _CHUNK):
                yield piece
