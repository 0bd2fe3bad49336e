"""Blobs on their way in: a few at once, each once however many want it, going on where an earlier attempt ended."""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Patience:
    """Who brings fewer than `least` bytes in `seconds` gives way, where another registry has not been asked yet."""

    seconds: float = 10.0
    least: int = 512 << 10


class Downloads:
    """`fetched` is told of each blob before it gets its name, so that it is not taken for one that nobody needs."""

    def __init__(
        self, blobs: Blobs, partials: Partials, limit: Callable[[], int], fetched: Callable[[FetchedBlob], None]
    ) -> None:
        self.blobs = blobs
        self.partials = partials
        self.limit = Limit(limit)
        self.fetched = fetched
        self.patience = Patience()
        self._shared: Shared[Download] = Shared()

    @asynccontextmanager
    async def want(self, descriptor: Descriptor, repository: Registry) -> AsyncIterator[Running[Download]]:
        """Inside the block the blob arrives; this repository is asked for it when those named earlier fail or are slow.

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
        self._asked = 0  # so many of them
        self._slow: list[Registry] = []  # of these, who gave way and did not fail
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
        while (source := self._next()) is not None:  # those who join meanwhile bring theirs
            try:
                while (anew := await self._fetch_from(source)) is not None:
                    source = anew
                return
            except WherryError as error:
                log.info("blob %s: %s", self._descriptor.digest, error)
                failures.append(error)
        raise failures[0]

    def _next(self) -> Registry | None:
        """Who is asked now: those who have not been, then those who were slow."""
        if self._asked < len(self.sources):
            self._asked += 1
            return self.sources[self._asked - 1]
        return self._slow.pop(0) if self._slow else None

    async def _fetch_from(self, source: Registry) -> Registry | None:
        """Whom to ask for all of it again, where other bytes came than were promised."""
        descriptor = self._descriptor
        self._partial = None
        self._readable.clear()
        partials = self._downloads.partials
        partial = await finished(lambda: partials.open(descriptor.digest, descriptor.size), undo=Partial.close)
        with partial:
            self._partial = partial
            self._readable.set()
            self.phase = Phase.DOWNLOADING
            mixed = False
            while partial.size < descriptor.size and not await self._receive(source, partial):
                self._slow.append(source)
                source = self._next() or source
                mixed = True
            self.phase = Phase.VERIFYING
            try:
                await finished(partial.verify)
            except WrongContent:
                if partial.resumed or mixed or source.distrust(descriptor.digest):  # another's bytes are anybody's
                    return source
                raise
            self._downloads.fetched(FetchedBlob(descriptor.digest, descriptor.size, time.time_ns()))
            await finished(partial.commit)
        return None

    async def _receive(self, source: Registry, partial: Partial) -> bool:
        """The rest of the blob; False where it comes slowly and another source can be asked for what is missing."""
        patience = self._downloads.patience
        pieces = source.blob(self._descriptor, partial.size)
        work = asyncio.create_task(consume(pieces, lambda arriving: _write(arriving, partial)))
        try:
            while not work.done():
                before = partial.size
                await asyncio.wait((work,), timeout=patience.seconds)
                if not work.done() and self._asked < len(self.sources) and partial.size - before < patience.least:
                    log.info("blob %s: comes slowly, another registry is asked for the rest", self._descriptor.digest)
                    return False
            work.result()
        finally:
            work.cancel()
            await asyncio.wait((work,))
            if not work.cancelled():
                work.exception()  # seen
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


def _write(source: Source, partial: Partial) -> None:
    while piece := source.read(_CHUNK):
        partial.write(piece)
