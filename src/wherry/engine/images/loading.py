"""`load`: images from an archive."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from wherry.engine.images.admission import Admission, check, verify
from wherry.engine.images.catalog import Catalog
from wherry.engine.images.leases import Lease
from wherry.engine.images.staging import Staging
from wherry.errors import InvalidParameter
from wherry.model.failpoints import failpoint
from wherry.model.image import Image, chain_ids, parse_image
from wherry.model.platforms import Platform
from wherry.model.progress import progress_bar
from wherry.model.reference import Reference, short_id
from wherry.storage.archives import ArchivedImage, Received
from wherry.storage.blobs import Blobs, Ingest
from wherry.storage.image_records import KnownManifest, LayerBlob
from wherry.storage.snapshots import Counted, Snapshots, Staged
from wherry.storage.streams import Decompressed, consume, in_thread
from wherry.storage.tar import Source


@dataclass
class _Loaded:
    image: Image
    names: list[Reference]
    blobs: dict[str, LayerBlob]  # by diff ID
    manifest: KnownManifest | None  # that it came with

    @property
    def top(self) -> str:
        """The digest of what its names mean in a registry."""
        return (*self.manifest.indexes, self.manifest.digest)[0] if self.manifest is not None else ""


@dataclass(frozen=True)
class _Layer:
    """A layer to take. `as_it_came`: its blob is kept, even where another one has the same content."""

    ingest: Ingest
    parent: str
    chain_id: str
    diff_id: str
    as_it_came: bool


class Loading:
    def __init__(
        self, catalog: Catalog, admission: Admission, blobs: Blobs, snapshots: Snapshots, host: Platform
    ) -> None:
        self._catalog = catalog
        self._records = catalog.records
        self._admission = admission
        self._blobs = blobs
        self._snapshots = snapshots
        self._host = host

    async def load(self, stream: AsyncIterable[bytes], *, quiet: bool) -> AsyncIterator[dict[str, Any]]:
        """See Images.load."""
        async with self._admission.lease() as lease, self._staging() as staging:
            with Received() as received:
                await consume(stream, lambda source: received.receive(source, self._blobs, staging.begin))
                failpoint("images.load.received")
                found = await asyncio.to_thread(received.images, self._host)
                for archived in found:
                    loaded: _Loaded | None = None
                    async for message in self._load_image(archived, staging, lease):
                        if isinstance(message, _Loaded):
                            loaded = message
                        elif not quiet:
                            yield message
                    assert loaded is not None
                    for line in self._record(loaded, archived.parent):
                        yield {"stream": line}

    @asynccontextmanager
    async def _staging(self) -> AsyncIterator[Staging]:
        staging = Staging(self._snapshots, self._is_known)
        try:
            yield staging
        finally:
            await asyncio.shield(in_thread(staging.close))

    def _is_known(self, name: str) -> bool:
        """Most archives name a layer's member after its digest."""
        return any(f"sha256:{part}" in self._records.blobs for part in re.findall(r"[0-9a-f]{64}", name))

    async def _load_image(
        self, archived: ArchivedImage, staging: Staging, lease: Lease
    ) -> AsyncIterator[dict[str, Any] | _Loaded]:
        """Layers into place, one after another, with progress; at the end the image, not recorded yet."""
        image = await asyncio.to_thread(parse_image, archived.document)
        if image.os != "linux":
            raise InvalidParameter("operating system is not supported")
        if len(image.diff_ids) != len(archived.layers):
            raise InvalidParameter(
                f"invalid manifest, layers length mismatch: expected {len(image.diff_ids)}, got {len(archived.layers)}"
            )
        manifest = _manifest(archived, image)
        documents = archived.documents if manifest is not None else []
        await lease.shield(
            chains=chain_ids(image.diff_ids),
            blobs=[image.id, *(ingest.digest for ingest in (*archived.layers, *documents))],
            diff_ids=image.diff_ids,
        )
        blobs: dict[str, LayerBlob] = {}
        parent = ""
        for diff_id, chain_id, ingest in zip(image.diff_ids, chain_ids(image.diff_ids), archived.layers, strict=True):
            progress = _Progress(short_id(diff_id), ingest.size, partial(staging.position, ingest))
            layer = _Layer(ingest, parent, chain_id, diff_id, as_it_came=manifest is not None)
            work = asyncio.create_task(asyncio.to_thread(self._take_layer, layer, staging, progress))
            try:
                while not work.done():
                    await asyncio.wait((work,), timeout=0.1)
                    if (message := progress.message()) is not None:
                        yield message
            finally:
                await _settled(work)
            blob = work.result()
            if blob is not None:
                blobs[diff_id] = blob
            parent = chain_id
        for ingest in documents:
            if not ingest.committed:
                await asyncio.to_thread(ingest.commit)
        image = await self._admission.prepare(archived.document)
        failpoint("images.load.stored")
        yield _Loaded(image, archived.names, blobs, manifest)

    def _take_layer(self, layer: _Layer, staging: Staging, progress: _Progress) -> LayerBlob | None:
        """Unpack one layer unless it is there, and keep its blob unless one is kept. Blocking.

        Returns the blob to record, None where one is recorded. Raises InvalidParameter if it is not the named content.
        """
        ingest, diff_id = layer.ingest, layer.diff_id
        there = layer.chain_id in self._snapshots.chains()
        kept = self._records.blobs.get(diff_id)
        wanted = layer.as_it_came and not (
            self._records.contents.get(ingest.digest) == diff_id and self._blobs.has(ingest.digest)
        )
        if there and kept is not None and not wanted:
            return None
        taken = None if there else staging.take(ingest)
        if taken is not None:
            compression = self._place(*taken, ingest, layer.parent, diff_id)
        else:
            compression = self._read_layer(ingest, layer.parent, there, diff_id, progress)
        if kept is not None and not wanted:
            return None
        failpoint("images.load.layer-unpacked")
        if not ingest.committed:
            ingest.commit()
        return LayerBlob(ingest.digest, compression) if kept is None else None

    def _place(self, staged: Staged, compression: str, ingest: Ingest, parent: str, diff_id: str) -> str:
        with staged:
            if not staged.diff_id:
                check(ingest.digest, diff_id)
            self._snapshots.place(staged, parent, diff_id)
        return compression

    def _read_layer(self, ingest: Ingest, parent: str, there: bool, diff_id: str, progress: _Progress) -> str:
        """What was not unpacked while it arrived. Returns the compression."""
        verified = ingest.digest == diff_id
        path = ingest.path if not ingest.committed else self._blobs.path(ingest.digest)
        with open(path, "rb", buffering=0) as file:
            source = Decompressed(progress.watch(file))
            if not there:
                self._snapshots.unpack(source, parent, diff_id, verified=verified)
            elif not verified:
                verify(source, diff_id)
        return source.compression

    def _record(self, loaded: _Loaded, parent: str) -> list[str]:
        lines = []
        with self._records.transaction() as connection:
            image = self._admission.record(connection, loaded.image, loaded.blobs, parent)
            if loaded.manifest is not None:
                self._records.put_manifest(connection, loaded.manifest)
            for name in loaded.names:
                previous = self._records.names.get(name.canonical)
                if previous is not None and previous != image.id:
                    lines.append(
                        f"The image {name.familiar} already exists, renaming the old one with ID {previous}"
                        " to empty string\n"
                    )
                self._catalog.name(connection, image, name, loaded.top)
                lines.append(f"Loaded image: {name.familiar}\n")
            if not loaded.names:
                lines.append(f"Loaded image ID: {image.id}\n")
            self._catalog.event("load", image, image.id)
            failpoint("images.load.recorded")
        return lines


def _manifest(archived: ArchivedImage, image: Image) -> KnownManifest | None:
    """The manifest that the image is to keep. One of plain layers that says nothing else, whoever saved it made up."""
    found = archived.manifest
    if found is None or (found.is_plain(image.diff_ids) and not found.dressed):
        return None
    return KnownManifest(
        digest=found.descriptor.digest,
        media_type=found.descriptor.media_type or found.manifest.media_type,
        size=found.descriptor.size,
        image_id=image.id,
        layers=tuple(layer.digest for layer in found.manifest.layers),
        indexes=found.indexes,
        attached=dict(found.attached),
        dressed=found.dressed,
    )


class _Progress:
    """How far a layer is: counted in its thread, asked for by the loop.

    `position` tells it of a layer that is unpacked while it arrives, as long as that goes on.
    """

    def __init__(self, layer: str, total: int, position: Callable[[], int | None]) -> None:
        self._layer = layer
        self._total = total
        self._position = position
        self._current = 0
        self._counted: Counted | None = None

    def watch(self, source: Source) -> Source:
        self._counted = Counted(source, hashed=False)
        return self._counted

    def message(self) -> dict[str, Any] | None:
        if self._counted is not None:
            self._current = self._counted.size
        else:
            position = self._position()
            self._current = self._total if position is None else position
        if not self._total:
            return None
        current = self._current
        return {
            "status": "Loading layer",
            "progressDetail": {"current": current, "total": self._total},
            "progress": progress_bar(current, self._total),
            "id": self._layer,
        }


async def _settled(task: asyncio.Task[Any]) -> None:
    """Wait for a thread's end, whatever it is: it cannot be cancelled, and nothing may be torn from under it."""
    await asyncio.wait((task,))
    task.exception()  # seen, also where another failure is the one that is raised
