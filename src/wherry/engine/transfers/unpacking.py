"""Layers into their places while their blobs arrive, each once however many pulls want it."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

from wherry.engine.images.admission import KeptLayer, verify
from wherry.engine.transfers.downloads import Download, Kept
from wherry.engine.transfers.shared import Running, Shared
from wherry.errors import NotFound
from wherry.model.image import next_chain_id
from wherry.storage.following import Follower, Interrupted
from wherry.storage.image_records import LayerBlob
from wherry.storage.snapshots import Snapshots
from wherry.storage.streams import Decompressed, in_thread
from wherry.storage.tar import Source

_CHUNK = 1 << 20


class Unpacking:
    def __init__(self, snapshots: Snapshots) -> None:
        self.snapshots = snapshots
        self._shared: Shared[Layer] = Shared()

    def want(
        self, download: Running[Download], digest: str, parent: str, diff_id: str, known: bool
    ) -> AbstractAsyncContextManager[Running[Layer]]:
        """Inside the block the layer is put on the chain `parent`, which is there. Wait for it with `done`.

        `known`: the blob `digest` is known to hold the layer, which need not be verified again where it is in place.
        """
        key = f"{next_chain_id(parent, diff_id)} {digest}"
        return self._shared.join(key, lambda: Layer(self, download, digest, parent, diff_id, known))


class Layer:
    """One layer of a pull. `kept` is there once it is done; `current` (bytes of the blob read) is for who draws it."""

    def __init__(
        self, unpacking: Unpacking, download: Running[Download], digest: str, parent: str, diff_id: str, known: bool
    ) -> None:
        self._snapshots = unpacking.snapshots
        self._download = download
        self._digest = digest
        self._parent = parent
        self._diff_id = diff_id
        self._known = known
        self._source: Follower | Kept | None = None
        self.kept: KeptLayer | None = None

    @property
    def current(self) -> int:
        return self._source.position if self._source is not None else 0

    async def run(self) -> None:
        """Raises InvalidParameter (other content than the configuration says, hostile tar), or as the download does."""
        try:
            source = self._source = await self._download.job.source()
        except NotFound:
            await self._download.done()  # raises the reason
            raise
        work = in_thread(lambda: self._take(source))
        try:
            await asyncio.shield(work)
        except Interrupted:
            await self._download.done()  # raises the reason
            raise
        finally:
            source.stop()
            await asyncio.wait((work,))
            if not work.cancelled():
                work.exception()
            source.close()
        await self._download.done()

    def _take(self, source: Source) -> None:
        """Blocking. The layer appears only after the end of the source, which comes only once the blob is verified."""
        chain_id = next_chain_id(self._parent, self._diff_id)
        plain = _Whole(source)
        if chain_id not in self._snapshots.chains():
            self._snapshots.unpack(plain, self._parent, self._diff_id)
        elif not self._known:
            verify(plain, self._diff_id)
        layer = self._snapshots.layer(chain_id)
        self.kept = KeptLayer(chain_id, self._diff_id, layer.size, LayerBlob(self._digest, plain.compression))


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
