"""The engine's multiplexed streams: frames of an 8-byte header (stream, three zeros, length big-endian) and data."""

from __future__ import annotations

STDIN, STDOUT, STDERR, SYSTEM = 0, 1, 2, 3


class FrameError(ValueError):
    """The bytes are no frames."""


class Demultiplexer:
    """Takes bytes as they come, gives (stream, data); a frame's data is handed on as it arrives, in pieces."""

    def __init__(self) -> None:
        self._header = b""
        self._stream = 0
        self._left = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        found = []
        view = memoryview(data)
        while view:
            if self._left == 0:
                take = 8 - len(self._header)
                self._header += bytes(view[:take])
                view = view[take:]
                if len(self._header) < 8:
                    break
                self._stream, self._left = self._header[0], int.from_bytes(self._header[4:], "big")
                if self._stream > SYSTEM:
                    raise FrameError(f"Unrecognized input header: {self._stream}")
                self._header = b""
                continue
            piece = bytes(view[: self._left])
            view = view[len(piece) :]
            self._left -= len(piece)
            found.append((self._stream, piece))
        return found
