"""Layers into their places while their blobs arrive, each once however many pulls want it.

Files are made for a few layers at a time, whatever their order, and never for fewer than are downloaded: one that waits
for a slow registry leaves room for the others. A layer gets its place when the one below has its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from wherry.engine.images.admission import KeptLayer, verify
from wherry.engine.transfers.downloads import Download, Kept
from wherry.engine.transfers.shared import Limit, Running, Shared, finished
from wherry.errors import InvalidParameter, NotFound
from wherry.model.failpoints import failpoint
from wherry.model.image import next_chain_id
from wherry.storage.following import Follower, Interrupted
from wherry.storage.image_records import LayerBlob
from wherry.storage.snapshots import Snapshots, Staged
from wherry.storage.streams import Decompressed, in_thread
from wherry.storage.tar import Source

_AT_ONCE = 2  # at least, as `load`: creating files is the kernel's work, and goes on in parallel between layers
_CHUNK = 1 << 20


class Unpacking:
    def __init__(self, snapshots: Snapshots, downloads: Callable[[], int]) -> None:
        self.snapshots = snapshots
        self.limit = Limit(lambda: max(_AT_ONCE, downloads()))
        self._shared: Shared[Layer] = Shared()

    def want(
        self,
        download: Running[Download],
        digest: str,
        below: Running[Layer] | None,
        parent: str,
        diff_id: str,
        known: bool,
    ) -> AbstractAsyncContextManager[Running[Layer]]:
        """Inside the block the layer is put on the chain `parent`, whose top is `below` or is there already.

        `known`: the blob `digest` is known to hold the layer, which need not be verified again where it is in place.
        Who wants a layer wants those below it as long.
        """
        key = f"{next_chain_id(parent, diff_id)} {digest}"

        def fits(layer: Layer) -> bool:  # its download may be one that is about to have failed, with another's source
            return layer.download is download and layer.below is below

        return self._shared.join(key, lambda: Layer(self, download, digest, below, parent, diff_id, known), fits=fits)


class Layer:
    """One layer of a pull. `kept` is there once it is done; `current` (bytes of the blob read) is for who draws it."""

    def __init__(
        self,
        unpacking: Unpacking,
        download: Running[Download],
        digest: str,
        below: Running[Layer] | None,
        parent: str,
        diff_id: str,
        known: bool,
    ) -> None:
        self._snapshots = unpacking.snapshots
        self._limit = unpacking.limit
        self.download = download
        self._digest = digest
        self.below = below
        self._parent = parent
        self._diff_id = diff_id
        self._chain_id = next_chain_id(parent, diff_id)
        self._known = known
        self._source: Follower | Kept | None = None
        self._compression = ""
        self._staged: Staged | None = None
        self.kept: KeptLayer | None = None

    @property
    def current(self) -> int:
        return self._source.position if self._source is not None else 0

    def result(self) -> KeptLayer:
        """After it is done."""
        assert self.kept is not None
        return self.kept

    async def run(self) -> None:
        """Raises InvalidParameter (other content than the configuration says, hostile tar), or as the download does."""
        try:
            while not await self._read(await self._follow()):
                pass
            await self.download.done()
            if self.below is not None:
                await self.below.done()
            self.kept = await finished(self._place)
        finally:
            if self._staged is not None:
                await finished(self._staged.discard)

    async def _follow(self) -> Follower | Kept:
        try:
            self._source = await self.download.job.source()
        except NotFound:
            await self.download.done()  # raises the reason
            raise
        return self._source

    async def _read(self, source: Follower | Kept) -> bool:
        """The blob to its end, in a thread; False where what came was not the blob, which came anew."""
        try:
            async with self._limit:
                work = in_thread(lambda: self._take(source))
                try:
                    await asyncio.shield(work)
                finally:
                    source.stop()
                    await asyncio.wait((work,))
                    if not work.cancelled():
                        work.exception()
        except (Interrupted, InvalidParameter):
            await self.download.done()  # raises the reason; what is not the promised blob is forgotten then
            if source.broken:
                return False
            raise
        finally:
            source.close()
        return True

    def _take(self, source: Source) -> None:
        """Blocking. The source's end comes only once the blob is verified."""
        plain = _Whole(source)
        self._compression = plain.compression
        if not plain.compression and self._digest != self._diff_id:
            while plain.read(_CHUNK):  # if it is not even the blob that was promised, that is what is told
                pass
            raise InvalidParameter(f"layer digest mismatch: expected {self._diff_id}, got {self._digest}")
        if self._chain_id not in self._snapshots.chains():
            # what arrives plain is hashed as a blob already
            self._staged = self._snapshots.stage(plain, hashed=bool(plain.compression))
        elif not self._known:
            verify(plain, self._diff_id)

    def _place(self) -> KeptLayer:
        """Blocking."""
        if self._staged is not None:
            self._snapshots.place(self._staged, self._parent, self._diff_id)
        failpoint("pulls.pull.layer-unpacked")
        size = self._snapshots.layer(self._chain_id).size
        return KeptLayer(self._chain_id, self._diff_id, size, LayerBlob(self._digest, self._compression))


class _Whole:
    """A blob's plain bytes; the end is told only when the whole blob has been read, also what follows the stream."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._plain = Decompressed(source)
        self.compression = self._plain.compression

    def read(self, size: int, /) -> bytes:
        piece = self._plain.read(size)
        if not piece:
            while self._source.read(_CHUNK):
                pass
        return piece
