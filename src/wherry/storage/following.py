"""Reading a file while another thread still writes it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable


class Interrupted(Exception):
    """What is followed will not be completed, or nobody wants it any more."""


class Follower:
    """A source of a growing file's bytes. Reads block until there is something to read, the end, or a failure.

    `state` tells, under `changed`, how many bytes are there, whether that is all, and whether there will never be all.
    It owns `fd`.
    """

    def __init__(self, fd: int, changed: threading.Condition, state: Callable[[], tuple[int, bool, bool]]) -> None:
        self._fd = fd
        self._changed = changed
        self._state = state
        self._stopped = False
        self.position = 0  # bytes read

    def read(self, size: int, /) -> bytes:
        """Raises Interrupted."""
        with self._changed:
            while True:
                there, complete, failed = self._state()
                if self._stopped or (failed and not complete):
                    raise Interrupted
                if there > self.position:
                    break
                if complete:
                    return b""
                self._changed.wait()
        piece = os.pread(self._fd, min(size, there - self.position), self.position)
        self.position += len(piece)
        return piece

    @property
    def broken(self) -> bool:
        """What is followed will never be whole, and what was read of it may be anything."""
        with self._changed:
            _, complete, failed = self._state()
            return failed and not complete

    def stop(self) -> None:
        """Let the reader, in its thread, give up."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self) -> None:
        """By who reads, at the end. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
