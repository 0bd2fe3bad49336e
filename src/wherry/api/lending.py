"""A request's body read by a thread, straight off the socket.

Big uploads are all copying: past the loop each byte is received once and written once, and the loop stays free for
everybody else (1 GB of `docker cp`: half the processor time).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque

from wherry.api.http1 import Chunked, Malformed, Measured
from wherry.errors import InvalidParameter

BUFFER = 1 << 20
_VECTORS = 512  # pieces in one writev(2); IOV_MAX is 1024


class LentBody:
    """A blocking source (`wherry.storage.tar.Source`) for one thread. `ahead` has come already.

    `cancel` may be called from elsewhere: the thread then reads no more. `broken` is why the body has no end.
    """

    def __init__(self, connection: socket.socket, frames: Measured | Chunked, ahead: list[bytes]) -> None:
        self.broken: InvalidParameter | None = None
        self._socket = connection
        self._frames = frames
        self._ahead = deque(ahead)
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self._ranges: deque[tuple[int, int]] = deque()  # of the buffer, that are the body's and unread
        pending = frames.take_pending()
        self._buffer[: len(pending)] = pending
        self._position, self._end = 0, len(pending)  # what of the buffer was not looked at

    def read(self, size: int, /) -> bytes:
        """Between 1 and `size` bytes, b"" at the end. Raises InvalidParameter where the body breaks off."""
        return b"".join(self._take(size))

    def copy_to(self, descriptor: int, limit: int) -> int:
        """Write what comes next, at most `limit` bytes; how many. 0 at the end. Raises OSError, InvalidParameter."""
        pieces = self._take(limit)
        size = sum(map(len, pieces))
        _write_all(descriptor, pieces)
        return size

    def cancel(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    def unread(self) -> tuple[list[bytes], bytes]:
        """What was received and not read: of the body, and what follows that and was not looked at."""
        pieces = [*self._ahead, *(bytes(self._view[start:end]) for start, end in self._ranges)]
        return pieces, bytes(self._view[self._position : self._end])

    def _take(self, limit: int) -> list[memoryview]:
        """Pieces of at most `limit` bytes in all, valid until the next call."""
        taken: list[memoryview] = []
        if self._ahead:
            piece = memoryview(self._ahead.popleft())
            if len(piece) > limit:
                self._ahead.appendleft(bytes(piece[limit:]))
            return [piece[:limit]]
        self._fill()
        while self._ranges and limit and len(taken) < _VECTORS:
            start, end = self._ranges.popleft()
            if end - start > limit:
                self._ranges.appendleft((start + limit, end))
                end = start + limit
            taken.append(self._view[start:end])
            limit -= end - start
        return taken

    def _fill(self) -> None:
        """Receive until there is something of the body, or its end."""
        while not self._ranges and not self._frames.complete:
            left = self._end - self._position
            if left:
                self._buffer[:left] = self._buffer[self._position : self._end]
            self._position, self._end = 0, left + self._receive(self._view[left:])
            try:
                ranges, self._position = self._frames.scan(self._buffer, self._end)
            except Malformed as error:
                self._break(str(error))
            self._ranges += ranges

    def _receive(self, place: memoryview) -> int:
        try:
            size = self._socket.recv_into(place)
        except OSError:  # the client's end is gone, or its patience with it
            size = 0
        if not size:
            self._break("unexpected EOF: the sender went away")
        return size

    def _break(self, why: str) -> None:
        self._position = self._end = 0
        self.broken = InvalidParameter(why)
        raise self.broken


def _write_all(descriptor: int, pieces: list[memoryview]) -> None:
    """writev(2), and again where it wrote less."""
    while pieces:
        written = os.writev(descriptor, pieces)
        while pieces and written >= len(pieces[0]):
            written -= len(pieces.pop(0))
        if pieces:
            pieces[0] = pieces[0][written:]
