"""Images with manifests of their own: with annotations, layers compressed as asked for, and an index over them where
there are several platforms, or something is attested.

Documents are written first; one transaction records them and gives the names, which then mean that manifest or index:
it is what a push sends and what `save` writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import msgspec

from wherry.engine.builds.attesting import Statements
from wherry.engine.images.service import Images
from wherry.engine.transfers.packing import Packing, encode
from wherry.model import annotations as kinds
from wherry.model.annotations import Annotation, chosen
from wherry.model.attestations import attestation_config, attestation_descriptor, attestation_manifest
from wherry.model.failpoints import failpoint
from wherry.model.image import Image
from wherry.model.layer_formats import USUAL, LayerFormat
from wherry.model.manifests import (
    MEDIA_DOCKER_INDEX,
    MEDIA_INDEX,
    MEDIA_MANIFEST,
    DescribedPlatform,
    Descriptor,
    Index,
)
from wherry.model.platforms import Platform
from wherry.model.reference import Reference
from wherry.storage.blobs import Blobs
from wherry.storage.image_records import KnownManifest, LayerBlob


@dataclass(frozen=True)
class Part:
    """One image of what was built. `below` are the layers that it began with, by diff ID."""

    image: Image
    below: frozenset[str] = frozenset()
    attesting: Callable[[str], Statements] = lambda digest: ()
    """The statements about the image whose manifest has this digest."""


@dataclass(frozen=True)
class Style:
    """How documents and layers shall be. `oci` False: with Docker's media types."""

    annotations: Sequence[Annotation] = ()
    layers: LayerFormat = USUAL
    oci: bool = True


@dataclass(frozen=True)
class _Dressed:
    image: Image
    top: Descriptor
    layers: list[LayerBlob]
    attested: Descriptor | None
    parts: tuple[str, ...]  # what is attested: a manifest, then its blobs

    def known(self, index: str) -> KnownManifest:
        """`index` "": there is none."""
        found = KnownManifest(
            self.top.digest,
            self.top.media_type,
            self.top.size,
            self.image.id,
            tuple(layer.digest for layer in self.layers),
            dressed=True,
        )
        attached = {index: self.parts} if self.parts else {}
        return msgspec.structs.replace(found, indexes=(index,), attached=attached) if index else found


class Dressing:
    def __init__(self, images: Images, blobs: Blobs, packing: Packing) -> None:
        self._images = images
        self._records = images.records
        self._blobs = blobs
        self._packing = packing

    async def dress(self, parts: Sequence[Part], meant: Image, names: Iterable[Reference], style: Style) -> Descriptor:
        """The names mean the image `meant`, one of the parts', dressed so; the images of other parts are found by what
        is above them all. What is said of the top beside its digest is in what is returned.
        """
        dressed = [await self._dress(part, style) for part in parts]
        top, index = dressed[0].top, ""
        if len(dressed) > 1 or any(each.attested for each in dressed):
            top = await self._index(dressed, style)
            index = top.digest
        failpoint("builds.dress.stored")
        with self._records.transaction() as connection:
            for each in dressed:
                for diff_id, blob in zip(each.image.diff_ids, each.layers, strict=True):
                    if style.layers.usual:
                        self._records.put_blob(connection, diff_id, blob)
            for name in names:
                self._images.name(connection, meant, name, top.digest)
                self._images.event("tag", meant, name.familiar)
            for each in dressed:
                known = each.known(index)
                earlier = self._records.manifests.get(known.digest)
                if earlier is not None:
                    self._records.drop_manifest(connection, known.digest)
                    known = _with(known, earlier, frozenset(self._records.targets.values()))
                self._records.put_manifest(connection, known)
        failpoint("builds.dress.recorded")
        return top

    async def _dress(self, part: Part, style: Style) -> _Dressed:
        """The image's manifest and, where something is attested, the manifest of that; kept, not recorded."""
        image = part.image
        platform = Platform(image.os, image.architecture, image.variant).normal()
        anew = msgspec.structs.replace(style.layers, forced=True)
        async with AsyncExitStack() as stack:
            running = [
                await stack.enter_async_context(
                    self._packing.compress(diff_id, style.layers if diff_id in part.below else anew)
                )
                for diff_id in image.diff_ids
            ]
            layers = [(await each.done()).blob for each in running]
        manifest = await self._packing.assemble(image, layers, oci=style.oci)
        manifest.annotations = chosen(style.annotations, kinds.MANIFEST, platform) or msgspec.UNSET
        text = encode(manifest)
        digest = await asyncio.to_thread(self._blobs.put, text)
        beside = chosen(style.annotations, kinds.MANIFEST_DESCRIPTOR, platform) or None
        described = DescribedPlatform(image.architecture, image.os, image.os_version, image.variant)
        top = Descriptor(manifest.media_type, digest, len(text), beside, described)
        if not (statements := part.attesting(digest)):
            return _Dressed(image, top, layers, None, ())
        attested, held = await asyncio.to_thread(self._attest, statements, digest)
        return _Dressed(image, top, layers, attested, held)

    async def _index(self, dressed: list[_Dressed], style: Style) -> Descriptor:
        """Images first, then what is attested of each."""
        manifests = [each.top for each in dressed] + [each.attested for each in dressed if each.attested]
        said = chosen(style.annotations, kinds.INDEX) or msgspec.UNSET
        kind = MEDIA_INDEX if style.oci else MEDIA_DOCKER_INDEX
        text = encode(Index(media_type=kind, manifests=manifests, annotations=said))
        digest = await asyncio.to_thread(self._blobs.put, text)
        return Descriptor(kind, digest, len(text), chosen(style.annotations, kinds.INDEX_DESCRIPTOR) or None)

    def _attest(self, statements: Statements, subject: str) -> tuple[Descriptor, tuple[str, ...]]:
        """Keep an attestation manifest; how an index names it, and its blobs, itself first. Blocking."""
        contents = [data for _, data in statements]
        config = attestation_config(contents)
        document = encode(attestation_manifest(statements, config))
        parts = tuple(self._blobs.put(data) for data in (document, config, *contents))
        return attestation_descriptor(document, MEDIA_MANIFEST, subject), parts


def _with(known: KnownManifest, earlier: KnownManifest, meant: frozenset[str]) -> KnownManifest:
    """The manifest as it is, still part of the indexes it was in; of those made here, only what some name means."""
    left = [index for index in earlier.indexes if index not in earlier.attached or index in meant]
    attached = {index: parts for index, parts in earlier.attached.items() if index in left}
    return msgspec.structs.replace(
        known,
        indexes=tuple(dict.fromkeys((*left, *known.indexes))),
        attached=attached | known.attached,
    )
