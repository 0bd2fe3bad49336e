"""Images that were made here get a manifest and compressed layers, once; images that were pulled have theirs.

The same layer gives the same bytes each time (no time, no name in the gzip header), so that what a registry has is
found there again. Which compressor: docs/decisions.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import msgspec
import zstandard
from isal import isal_zlib

from wherry.engine.transfers.shared import Running, Shared
from wherry.errors import NotFound, SystemFailure
from wherry.model.failpoints import failpoint
from wherry.model.image import Image
from wherry.model.layer_formats import USUAL, LayerFormat
from wherry.model.manifests import (
    MEDIA_CONFIG,
    MEDIA_DOCKER_CONFIG,
    MEDIA_DOCKER_LAYER,
    MEDIA_DOCKER_LAYER_PLAIN,
    MEDIA_DOCKER_MANIFEST,
    MEDIA_LAYER,
    MEDIA_MANIFEST,
    Descriptor,
    Index,
    Manifest,
)
from wherry.storage.blobs import Blobs
from wherry.storage.image_records import ImageRecords, KnownManifest, LayerBlob
from wherry.storage.streams import Decompressed, in_thread

_SENDABLE = ("gzip", "zstd")  # what registries and engines take; anything else is compressed again
_LEVEL = 2
_ZSTD_LEVEL = 3
_GZIP = 31  # window of 32 kB, gzip header (zlib.h, deflateInit2)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Packed:
    """A manifest byte for byte, and what it consists of."""

    digest: str
    media_type: str
    data: bytes
    manifest: Manifest
    image: Image


class Packing:
    def __init__(self, records: ImageRecords, blobs: Blobs) -> None:
        self._records = records
        self._blobs = blobs
        self._shared: Shared[Compression] = Shared()

    async def known(self, manifest: KnownManifest) -> Packed:
        """A manifest of the store."""
        data = await asyncio.to_thread(self._blobs.read, manifest.digest)
        parsed = await asyncio.to_thread(msgspec.json.decode, data, type=Manifest)
        return Packed(manifest.digest, manifest.media_type, data, parsed, self._records.images[manifest.image_id])

    def compress(self, diff_id: str, form: LayerFormat = USUAL) -> AbstractAsyncContextManager[Running[Compression]]:
        """Inside the block the layer is compressed, if it is not; shared with whoever wants it too."""
        kept = self._records.blobs.get(diff_id)
        return self._shared.join(f"{form} {diff_id}", lambda: Compression(self._blobs, kept, diff_id, form))

    async def describe(self, layers: Iterable[Compression], *, docker: bool) -> list[Descriptor]:
        """Compressed layers as manifests name them. Those in gzip are recorded: they serve the next time."""
        done = list(layers)
        with self._records.transaction() as connection:
            for layer in done:
                if layer.blob.compression == "gzip":
                    self._records.put_blob(connection, layer.diff_id, layer.blob)
        sizes = await asyncio.to_thread(lambda: [self._blobs.size(layer.blob.digest) for layer in done])
        return [_descriptor(layer.blob, size, docker) for layer, size in zip(done, sizes, strict=True)]

    async def assemble(self, image: Image, kept: list[LayerBlob], *, oci: bool = False) -> Manifest:
        """The manifest of layers: Docker's own kind where that can be, unless it is to be OCI's."""
        config = await asyncio.to_thread(self._blobs.size, image.id)
        sizes = await asyncio.to_thread(lambda: [self._blobs.size(blob.digest) for blob in kept])
        return _manifest(Descriptor(digest=image.id, size=config), kept, sizes, oci=oci)

    async def pack(self, image: Image, layers: Iterable[Compression]) -> Packed:
        """Make and record the manifest of compressed layers. Raises NotFound: the image has been removed meanwhile."""
        kept = [layer.blob for layer in layers]
        manifest = await self.assemble(image, kept)
        data = encode(manifest)
        digest = await asyncio.to_thread(self._blobs.put, data)
        known = KnownManifest(
            digest, manifest.media_type, len(data), image.id, tuple(layer.digest for layer in manifest.layers)
        )
        failpoint("pushes.pack.stored")
        if image.id not in self._records.images:
            raise NotFound(f"No such image: {image.id}")
        with self._records.transaction() as connection:
            for diff_id, blob in zip(image.diff_ids, kept, strict=True):
                self._records.put_blob(connection, diff_id, blob)
            self._records.put_manifest(connection, known)
        failpoint("pushes.pack.recorded")
        return Packed(digest, manifest.media_type, data, manifest, image)


class Compression:
    """One layer. `current` of `total` bytes are done; `blob` is what it became."""

    def __init__(self, blobs: Blobs, kept: LayerBlob | None, diff_id: str, form: LayerFormat) -> None:
        self._blobs = blobs
        self._kept = kept
        self._stopped = False
        self._form = form
        self.diff_id = diff_id
        self.current = 0
        self.total = 0
        self.blob = kept or LayerBlob("", "")

    async def run(self) -> None:
        """Raises SystemFailure."""
        if self._kept is None:
            raise SystemFailure(f"the blob of layer {self.diff_id} is gone; load or pull the image again")
        if self._serves(self._kept.compression):
            return
        work = in_thread(lambda: self._compress(self.blob))
        try:
            self.blob = LayerBlob(await asyncio.shield(work), self._form.kind)
        finally:
            self._stopped = True
            await asyncio.wait((work,))
            if not work.cancelled():
                work.exception()

    def _serves(self, compression: str) -> bool:
        """Whether the blob is what is wanted, as it is."""
        if compression == self._form.kind:
            return self._form.level is None or not self._form.forced
        return compression in _SENDABLE and not self._form.forced

    def _compress(self, kept: LayerBlob) -> str:
        self.total = self._blobs.size(kept.digest)
        compressor = _compressor(self._form)
        with self._blobs.open(kept.digest) as file, self._blobs.ingest() as ingest:
            plain = Decompressed(file)
            while piece := plain.read(_CHUNK):
                if self._stopped:
                    return ""
                if compressed := compressor.compress(piece):
                    ingest.write(compressed)
                self.current = file.tell()
            ingest.write(compressor.flush())
            return ingest.commit()


class _Plain:
    """No compression at all, with the methods of one."""

    def compress(self, piece: bytes) -> bytes:
        return piece

    def flush(self) -> bytes:
        return b""


def _compressor(form: LayerFormat) -> Any:
    if not form.kind:
        return _Plain()
    if form.kind == "zstd":
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL if form.level is None else form.level).compressobj()
    if form.level is None:
        return isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP)
    return zlib.compressobj(form.level, zlib.DEFLATED, _GZIP)


def _manifest(config: Descriptor, layers: list[LayerBlob], sizes: list[int], *, oci: bool) -> Manifest:
    """Docker's own kind, which every registry takes; it knows no zstd and no annotations, so OCI's for these."""
    docker = not oci and all(layer.compression in ("gzip", "") for layer in layers)
    config.media_type = MEDIA_DOCKER_CONFIG if docker else MEDIA_CONFIG
    return Manifest(
        media_type=MEDIA_DOCKER_MANIFEST if docker else MEDIA_MANIFEST,
        config=config,
        layers=[_descriptor(layer, size, docker) for layer, size in zip(layers, sizes, strict=True)],
    )


def encode(document: Manifest | Index) -> bytes:
    """As it is kept and sent."""
    return msgspec.json.format(msgspec.json.encode(document), indent=3)


def _descriptor(layer: LayerBlob, size: int, docker: bool) -> Descriptor:
    if docker and layer.compression in ("gzip", ""):
        kind = MEDIA_DOCKER_LAYER if layer.compression else MEDIA_DOCKER_LAYER_PLAIN
    else:
        kind = f"{MEDIA_LAYER}+{layer.compression}" if layer.compression else MEDIA_LAYER
    return Descriptor(kind, layer.digest, size)
