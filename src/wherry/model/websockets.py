"""WebSocket frames (RFC 6455), as a server reads and writes them. Pure."""

from __future__ import annotations

import base64
import hashlib
import struct

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
NORMAL, PROTOCOL_ERROR, TOO_BIG = 1000, 1002, 1009
MAX_FRAME = 1 << 20  # bytes of one frame of a client

_CONTINUATION = 0
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Broken(Exception):
    """The client does not keep to the protocol; `code` is to be sent before the connection is closed."""

    def __init__(self, code: int) -> None:
        super().__init__(f"WebSocket close code {code}")
        self.code = code


def accept(key: str) -> str:
    """Sec-WebSocket-Accept for a client's Sec-WebSocket-Key (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode("ascii", "replace") + _GUID).digest()).decode("ascii")


def is_key(key: str) -> bool:
    """16 bytes in base64 (section 4.2.1)."""
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except ValueError:
        return False


def frame(opcode: int, data: bytes) -> bytes:
    """A whole message, unmasked, as a server sends it."""
    size = len(data)
    if size < 126:
        return bytes((0x80 | opcode, size)) + data
    if size < 1 << 16:
        return struct.pack(">BBH", 0x80 | opcode, 126, size) + data
    return struct.pack(">BBQ", 0x80 | opcode, 127, size) + data


def close_frame(code: int) -> bytes:
    return frame(CLOSE, struct.pack(">H", code))


class Decoder:
    """Finds frames in what a client sends. The pieces of a message are given as they come, each as data."""

    def __init__(self) -> None:
        self._pending = b""
        self._in_message = False  # the last data frame was not a message's last

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Whole frames: BINARY (whatever carries data), PING, PONG or CLOSE, and their bytes. Raises Broken."""
        self._pending += data
        found: list[tuple[int, bytes]] = []
        while (one := self._next()) is not None:
            found.append(one)
        return found

    def _next(self) -> tuple[int, bytes] | None:
        pending = self._pending
        if len(pending) < 2:
            return None
        first, second = pending[0], pending[1]
        final, opcode, size = bool(first & 0x80), first & 0x0F, second & 0x7F
        if first & 0x70 or not second & 0x80:  # extensions were not agreed on; clients mask
            raise Broken(PROTOCOL_ERROR)
        if opcode >= CLOSE:
            if opcode > PONG or not final or size > 125:
                raise Broken(PROTOCOL_ERROR)
        elif opcode > BINARY or (opcode == _CONTINUATION) is not self._in_message:
            raise Broken(PROTOCOL_ERROR)
        start = {126: 4, 127: 10}.get(size, 2)
        if len(pending) < start + 4:
            return None
        if start > 2:
            size = int.from_bytes(pending[2:start], "big")
        if size > MAX_FRAME:
            raise Broken(TOO_BIG)
        end = start + 4 + size
        if len(pending) < end:
            return None
        if opcode < CLOSE:
            self._in_message = not final
        self._pending = pending[end:]
        return (opcode if opcode >= CLOSE else BINARY), _unmask(pending[start : start + 4], pending[start + 4 : end])


def _unmask(key: bytes, data: bytes) -> bytes:
    """Exclusive or with the key over and over, done as one large number."""
    repeated = (key * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(data), "big")
