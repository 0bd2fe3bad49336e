"""A digest that a thread of its own computes, so that a second processor has work while the first one copies."""

from __future__ import annotations

import hashlib
import queue
import threading

from wherry.storage.tar import Source

_AHEAD = 8  # pieces that may wait


class Digesting:
    """A source whose bytes are counted and hashed as they are read. Pieces should be large. `close` ends the thread.

    with contextlib.closing(Digesting(source)) as counted:
        ...                                  # read it
        digest, size = counted.finish(), counted.size
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self._queue: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
        self._thread = threading.Thread(target=self._run, name="digest", daemon=True)
        self._thread.start()
        self.size = 0

    def read(self, size: int, /) -> bytes:
        piece = self._source.read(size)
        self.size += len(piece)
        if piece:
            self._queue.put(piece)
        return piece

    def finish(self) -> str:
        """The digest of what was read."""
        self.close()
        return "sha256:" + self._hash.hexdigest()

    def close(self) -> None:
        """Idempotent."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (piece := self._queue.get()) is not None:
            self._hash.update(piece)
