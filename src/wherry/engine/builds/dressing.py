"""An image with a manifest of its own: OCI's, with annotations, and an index over it where something is attested.

Documents are written first; one transaction records them and gives the names, which then mean that manifest or index:
it is what a push sends and what `save` writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack

import msgspec

from wherry.engine.images.service import Images
from wherry.engine.transfers.packing import Packing, encode
from wherry.model import annotations as kinds
from wherry.model.annotations import Annotation, chosen
from wherry.model.attestations import attestation_config, attestation_descriptor, attestation_manifest
from wherry.model.failpoints import failpoint
from wherry.model.image import Image
from wherry.model.manifests import MEDIA_INDEX, MEDIA_MANIFEST, DescribedPlatform, Descriptor, Index
from wherry.model.platforms import Platform
from wherry.model.reference import Reference
from wherry.storage.blobs import Blobs
from wherry.storage.image_records import KnownManifest

Attesting = Callable[[str], Mapping[str, bytes]]
"""The statements about the image whose manifest has this digest, by type of predicate; none: no index is made."""


class Dressing:
    def __init__(self, images: Images, blobs: Blobs, packing: Packing) -> None:
        self._images = images
        self._records = images.records
        self._blobs = blobs
        self._packing = packing

    async def dress(
        self, image: Image, names: Iterable[Reference], annotations: Iterable[Annotation], attesting: Attesting
    ) -> Descriptor:
        """The names mean the image dressed so. What is said of the top beside its digest is in what is returned."""
        platform = Platform(image.os, image.architecture, image.variant).normal()
        held = list(annotations)
        async with AsyncExitStack() as stack:
            running = [await stack.enter_async_context(self._packing.compress(each)) for each in image.diff_ids]
            layers = [(await each.done()).blob for each in running]
        manifest = await self._packing.assemble(image, layers, oci=True)
        manifest.annotations = chosen(held, kinds.MANIFEST, platform) or msgspec.UNSET
        text = encode(manifest)
        digest = await asyncio.to_thread(self._blobs.put, text)
        beside = chosen(held, kinds.MANIFEST_DESCRIPTOR, platform) or None
        described = DescribedPlatform(image.architecture, image.os, image.os_version, image.variant)
        top = Descriptor(MEDIA_MANIFEST, digest, len(text), beside, described)
        known = KnownManifest(
            digest, MEDIA_MANIFEST, len(text), image.id, tuple(layer.digest for layer in manifest.layers), dressed=True
        )
        if statements := attesting(digest):
            attested, parts = await asyncio.to_thread(self._attest, statements, digest)
            said = chosen(held, kinds.INDEX) or msgspec.UNSET
            index = encode(Index(manifests=[top, attested], annotations=said))
            index_digest = await asyncio.to_thread(self._blobs.put, index)
            top = Descriptor(MEDIA_INDEX, index_digest, len(index), chosen(held, kinds.INDEX_DESCRIPTOR) or None)
            known = msgspec.structs.replace(known, indexes=(index_digest,), attached={index_digest: parts})
        failpoint("builds.dress.stored")
        with self._records.transaction() as connection:
            for diff_id, blob in zip(image.diff_ids, layers, strict=True):
                self._records.put_blob(connection, diff_id, blob)
            for name in names:
                self._images.name(connection, image, name, top.digest)
                self._images.event("tag", image, name.familiar)
            earlier = self._records.manifests.get(digest)
            if earlier is not None:
                self._records.drop_manifest(connection, digest)
                known = _with(known, earlier, frozenset(self._records.targets.values()))
            self._records.put_manifest(connection, known)
        failpoint("builds.dress.recorded")
        return top

    def _attest(self, statements: Mapping[str, bytes], subject: str) -> tuple[Descriptor, tuple[str, ...]]:
        """Keep an attestation manifest; how an index names it, and its blobs, itself first. Blocking."""
        config = attestation_config(statements.values())
        document = encode(attestation_manifest(statements, config))
        parts = tuple(self._blobs.put(data) for data in (document, config, *statements.values()))
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
