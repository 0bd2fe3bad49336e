"""Unpacking layers while their archive still arrives, before it is known which of its members are layers, and whose."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

from wherry.errors import InvalidParameter
from wherry.storage.blobs import Ingest
from wherry.storage.following import Follower, Interrupted
from wherry.storage.snapshots import Snapshots, Staged
from wherry.storage.streams import Decompressed

_WORKERS = 2  # creating files is the kernel's work, and goes on in parallel between layers
_PENDING_MAX = 64  # members that wait to be unpacked; each holds a descriptor


class Arriving:
    """A member that is unpacked while it arrives."""

    def __init__(self, ingest: Ingest) -> None:
        self.ingest = ingest
        self.follower: Follower = ingest.follow()
        self.result: Future[tuple[Staged, str]] = Future()  # with how it was compressed

    def unpack(self, snapshots: Snapshots) -> None:
        try:
            plain = Decompressed(self.follower)
            # what arrives plain is hashed as a blob already
            self.result.set_result((snapshots.stage(plain, hashed=bool(plain.compression)), plain.compression))
        except BaseException as error:
            self.result.set_exception(error)
        finally:
            self.follower.close()


class Staging:
    """Of one archive. `begin` is for the thread that receives, `take` for the one that knows what is wanted.

    `is_known` tells whether a member of that name is likely to be there already; then it is left alone.
    """

    def __init__(self, snapshots: Snapshots, is_known: Callable[[str], bool]) -> None:
        self._snapshots = snapshots
        self._is_known = is_known
        self._arriving: dict[Ingest, Arriving] = {}
        self._queue: SimpleQueue[Arriving | None] = SimpleQueue()
        self._workers: list[threading.Thread] = []

    def begin(self, name: str, ingest: Ingest) -> None:
        """A member that may be a layer begins to arrive."""
        waiting = sum(not arriving.result.done() for arriving in self._arriving.values())
        if waiting >= _PENDING_MAX or self._is_known(name):
            return
        arriving = self._arriving[ingest] = Arriving(ingest)
        self._queue.put(arriving)
        if len(self._workers) < _WORKERS:
            worker = threading.Thread(target=self._work, name="unpacking", daemon=True)
            worker.start()
            self._workers.append(worker)

    def _work(self) -> None:
        while (arriving := self._queue.get()) is not None:
            arriving.unpack(self._snapshots)

    def position(self, ingest: Ingest) -> int | None:
        """Bytes of the member that were read so far; None if it is not unpacked here."""
        arriving = self._arriving.get(ingest)
        return arriving.follower.position if arriving is not None else None

    def take(self, ingest: Ingest) -> tuple[Staged, str] | None:
        """Wait until the member, which has arrived, is unpacked: what was staged, and how it was compressed. Blocking.

        None if it was not begun or has been taken. Raises as Snapshots.stage.
        """
        arriving = self._arriving.get(ingest)
        if arriving is None:
            return None
        try:
            result = arriving.result.result()
        except Interrupted:
            raise InvalidParameter("unexpected EOF: a layer did not arrive") from None
        del self._arriving[ingest]
        return result

    def close(self) -> None:
        """Forget what was not taken, and wait for the threads. What still arrives is discarded first. Blocking."""
        for arriving in self._arriving.values():
            arriving.follower.stop()
        for _ in self._workers:
            self._queue.put(None)
        for worker in self._workers:
            worker.join()
        for arriving in self._arriving.values():
            if arriving.result.exception() is None:
                arriving.result.result()[0].discard()
        self._arriving.clear()
