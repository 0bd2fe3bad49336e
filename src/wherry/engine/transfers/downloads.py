"""Blobs on their way in: a few at once, each once however many want it, going on where an earlier attempt ended."""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import BinaryIO

from wherry.engine.transfers.needs import Source as Registry
from wherry.engine.transfers.shared import Limit, Running, Shared, finished
from wherry.errors import InvalidParameter, WherryError
from wherry.model.manifests import Descriptor
from wherry.storage.blobs import Blobs
from wherry.storage.following import Follower, Interrupted
from wherry.storage.image_records import FetchedBlob
from wherry.storage.partials import Partial, Partials, WrongContent
from wherry.storage.streams import consume
from wherry.storage.tar import Source

log = logging.getLogger(__name__)
_CHUNK = 1 << 20


class Phase(enum.IntEnum):
    WAITING = 0
    DOWNLOADING = 1
    VERIFYING = 2
    COMPLETE = 3


class Downloads:
    """`fetched` is told of each blob before it gets its name, so that it is not taken for one that nobody needs."""

    def __init__(
        self, blobs: Blobs, partials: Partials, limit: Callable[[], int], fetched: Callable[[FetchedBlob], None]
    ) -> None:
        self.blobs = blobs
        self.partials = partials
        self.limit = Limit(limit)
        self.fetched = fetched
        self._shared: Shared[Download] = Shared()

    @asynccontextmanager
    async def want(self, descriptor: Descriptor, repository: Registry) -> AsyncIterator[Running[Download]]:
        """Inside the block the blob arrives; this repository is asked for it when those named earlier fail.

        Whose manifest tells another size is not joined: one lie would fail them all.
        """
        size = descriptor.size
        async with self._shared.join(
            descriptor.digest, lambda: Download(self, descriptor), fits=lambda job: job.total == size
        ) as running:
            running.job.sources.append(repository)
            yield running

    def busy(self) -> set[str]:
        """Digests of those under way."""
        return self._shared.keys()


class Download:
    """One blob. `phase` and `current` (bytes) are for who draws it; `sources` grow while it runs."""

    def __init__(self, downloads: Downloads, descriptor: Descriptor) -> None:
        self._downloads = downloads
        self._descriptor = descriptor
        self.sources: list[Registry] = []
        self._partial: Partial | None = None
        self._readable = asyncio.Event()
        self.phase = Phase.WAITING
        self.total = descriptor.size

    @property
    def current(self) -> int:
        return self._partial.size if self._partial is not None else 0

    async def run(self) -> None:
        """Raises what the first source's client raised, or InvalidParameter for other content than was promised."""
        downloads, descriptor = self._downloads, self._descriptor
        try:
            if not await asyncio.to_thread(is_kept, downloads.blobs, descriptor):
                async with downloads.limit:
                    await self._fetch()
            self.phase = Phase.COMPLETE
        finally:
            self._readable.set()

    async def _fetch(self) -> None:
        failures: list[WherryError] = []
        for source in self.sources:  # those who join meanwhile bring theirs
            try:
                while not await self._fetch_from(source):
                    pass
                return
            except WherryError as error:
                log.info("blob %s: %s", self._descriptor.digest, error)
                failures.append(error)
        raise failures[0]

    async def _fetch_from(self, source: Registry) -> bool:
        """False where other bytes came and it is worth asking again."""
        descriptor = self._descriptor
        self._partial = None
        self._readable.clear()
        partials = self._downloads.partials
        partial = await finished(lambda: partials.open(descriptor.digest, descriptor.size), undo=Partial.close)
        with partial:
            self._partial = partial
            self._readable.set()
            self.phase = Phase.DOWNLOADING
            if partial.size < descriptor.size:
                await consume(source.blob(descriptor, partial.size), lambda pieces: _receive(pieces, partial))
            self.phase = Phase.VERIFYING
            try:
                await finished(partial.verify)
            except WrongContent:
                if partial.resumed or source.distrust(descriptor.digest):  # an earlier attempt's bytes are anybody's
                    return False
                raise
            self._downloads.fetched(FetchedBlob(descriptor.digest, descriptor.size, time.time_ns()))
            await finished(partial.commit)
        return True

    async def source(self) -> Follower | Kept:
        """The blob's bytes, as far as they have arrived; the reader waits for the rest. Close it.

        Where the download fails `read` raises Interrupted, and this NotFound.
        """
        await self._readable.wait()
        if self._partial is not None and self._partial.open and self.phase is not Phase.COMPLETE:
            return self._partial.follow()
        blobs = self._downloads.blobs
        return Kept(await finished(lambda: blobs.open(self._descriptor.digest), undo=lambda file: file.close()))


class Kept:
    """A blob that is there, as a source with a position."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._stopped = False
        self.position = 0
        self.broken = False

    def read(self, size: int, /) -> bytes:
        if self._stopped:
            raise Interrupted
        piece = self._file.read(size)
        self.position += len(piece)
        return piece

    def stop(self) -> None:
        """Let the reader, in its thread, give up."""
        self._stopped = True

    def close(self) -> None:
        self._file.close()


def is_kept(blobs: Blobs, descriptor: Descriptor) -> bool:
    """Raises InvalidParameter where the blob is there and the size that was promised is not its size."""
    if not blobs.has(descriptor.digest):
        return False
    if (size := blobs.size(descriptor.digest)) != descriptor.size:
        raise InvalidParameter(
            f"invalid manifest: blob {descriptor.digest} has {size} bytes and is said to have {descriptor.size}"
        )
    return True


def _receive(source: Source, partial: Partial) -> None:
    while piece := source.read(_CHUNK):
        partial.write(piece)
