"""HTTP/1.1 as bytes (RFC 9112): heads of requests read, bodies unframed, heads of answers written. No I/O.

What is malformed is refused in the words of Go's net/http, which clients of the real engine see.
"""

from __future__ import annotations

import http
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

MAX_HEAD = (1 << 20) + 4096  # bytes of request line and headers, as in Go: filters and credentials travel in them
REPEATED_HEAD = 256  # bytes: heads up to this are those of clients that ask the same again and again
MAX_CHUNK_LINE = 4096  # bytes of a chunk's size and extensions
MAX_TRAILER = 16 << 10  # bytes of what follows the last chunk, which nobody reads

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE = re.compile(rb"(%b) ([\x21-\x7e\x80-\xff]+) HTTP/([0-9])\.([0-9])" % _TOKEN)
_FIELDS = re.compile(rb"(?:\r\n%b:[\t\x20-\x7e\x80-\xff]*)*" % _TOKEN)
_SPACED_NAME = re.compile(rb"\r\n%b[ \t]+:" % _TOKEN)
_ESCAPED = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")
_HOST = re.compile(r"[!$%&'()*+,.:;=@\[\]_~0-9A-Za-z-]*")
_ABSOLUTE = re.compile(r"https?://[^/?]+(?=[/?]|$)", re.IGNORECASE)
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TOO_LARGE = re.compile(rb"[0-9A-Fa-f]{17}")

REASONS = {status.value: status.phrase for status in http.HTTPStatus}


class Malformed(Exception):
    """A request that cannot be understood: what to answer before the connection is closed."""

    def __init__(self, why: str = "", status: int = 400) -> None:
        super().__init__(why)
        text = f"{status} {REASONS[status]}" + (f": {why}" if why else "")
        self.answer = (
            f"HTTP/1.1 {text}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n{text}"
        ).encode()


class Headers(dict[str, str]):
    """Header fields by name, whatever the case it is asked in. Repeated ones are joined by a comma."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())


@dataclass(slots=True)
class Head:
    """Request line and headers, not to be changed. `length` counts the body's bytes; None: it comes in chunks."""

    method: str
    path: str  # percent-encoded, as it came
    query: str  # what followed "?", as it came
    headers: Headers
    length: int | None
    keep_alive: bool
    persistent: bool  # HTTP/1.1: knows chunks and interim answers
    expects_continue: bool  # the client waits with the body until it is asked for it


def read_head(data: bytes) -> Head:
    """Read what came before the first empty line. Raises Malformed."""
    return _repeated(data) if len(data) <= REPEATED_HEAD else _read(data)


@lru_cache(maxsize=32)
def _repeated(data: bytes) -> Head:
    return _read(data)


def _read(data: bytes) -> Head:
    line = _LINE.match(data)
    if line is None:
        raise Malformed()
    if not _FIELDS.fullmatch(data, line.end()):
        raise Malformed("invalid header name" if _SPACED_NAME.search(data) else "")
    method, target, major, minor = line.groups()
    if major != b"1":
        raise Malformed("unsupported protocol version", 505)
    fields: dict[str, str] = {}
    for field in data[line.end() :].decode("utf-8", "surrogateescape").split("\r\n")[1:]:
        name, _, value = field.partition(":")
        name, value = name.lower(), value.strip(" \t")
        if name not in fields:
            fields[name] = value
        elif name == "host" or (name == "content-length" and fields[name] != value):
            raise Malformed()
        elif name != "content-length":
            fields[name] += f", {value}"
    persistent = minor != b"0"
    if persistent and "host" not in fields:
        raise Malformed("missing required Host header")
    if not _HOST.fullmatch(fields.get("host", "")):
        raise Malformed("malformed Host header")
    expect = fields.get("expect", "").lower()
    if expect not in ("", "100-continue"):
        raise Malformed(status=417)
    path, _, query = _origin(target.decode("utf-8", "surrogateescape")).partition("?")
    if not _ESCAPED.fullmatch(path):
        raise Malformed()
    return Head(
        method=method.decode("ascii"),
        path=path,
        query=query,
        headers=Headers(fields),
        length=_length(fields, persistent),
        keep_alive=_keep_alive(fields.get("connection", "").lower(), persistent),
        persistent=persistent,
        expects_continue=bool(expect) and persistent,
    )


def _origin(target: str) -> str:
    """The path and query of a target that may be a whole URL (RFC 9112 section 3.2)."""
    if target.startswith("/") or target == "*":
        return target
    match = _ABSOLUTE.match(target)
    if match is None:
        raise Malformed()
    rest = target[match.end() :]
    return rest if rest.startswith("/") else f"/{rest}"


def _keep_alive(connection: str, persistent: bool) -> bool:
    if not connection:
        return persistent
    options = {option.strip() for option in connection.split(",")}
    return "close" not in options if persistent else "keep-alive" in options


def _length(fields: Mapping[str, str], persistent: bool) -> int | None:
    """RFC 9112 section 6.3; what could be read in two ways is refused."""
    coding, length = fields.get("transfer-encoding"), fields.get("content-length")
    if coding is not None:
        if coding.lower() != "chunked":
            raise Malformed("unsupported transfer encoding", 501)
        if length is not None or not persistent:
            raise Malformed("message with both Transfer-Encoding and Content-Length")
        return None
    if length is None:
        return 0
    if not (length.isascii() and length.isdigit() and len(length) < 19):
        raise Malformed()
    return int(length)


class Measured:
    """Unframes a body of known length."""

    def __init__(self, length: int) -> None:
        self.left = length  # bytes that are still to come
        self.complete = length == 0

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The body's bytes among these, and what came after its end."""
        if len(data) < self.left:
            self.left -= len(data)
            return [data], b""
        body, rest = data[: self.left], data[self.left :]
        self.left = 0
        self.complete = True
        return [body] if body else [], rest

    def scan(self, data: bytes | bytearray, end: int) -> tuple[list[tuple[int, int]], int]:
        """Where in the first `end` bytes the body's are, as starts and ends, and how many have been looked at."""
        taken = min(self.left, end)
        self.left -= taken
        self.complete = not self.left
        return [(0, taken)] if taken else [], taken

    def take_pending(self) -> bytes:
        """What was fed and is to be looked at again with what follows: nothing."""
        return b""


class Chunked:
    """Unframes a body in chunks (RFC 9112 section 7.1)."""

    def __init__(self) -> None:
        self._pending = b""  # the beginning of a line
        self.left = 0  # bytes of this chunk that are still to come
        self._between = False  # a chunk's bytes are complete: its line end is to come
        self._trailer: int | None = None  # bytes of the trailer so far, once the last chunk has come
        self.complete = False

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The body's bytes among these, and what came after its end. Raises Malformed."""
        data = self._pending + data if self._pending else data
        ranges, position = self.scan(data, len(data))
        pieces = [data[start:end] for start, end in ranges]
        if self.complete:
            return pieces, data[position:]
        self._pending = data[position:]
        return pieces, b""

    def scan(self, data: bytes | bytearray, end: int) -> tuple[list[tuple[int, int]], int]:
        """Where in the first `end` bytes the body's are, as starts and ends, and how many have been looked at.

        What follows those is the beginning of a line, or after the body's end. Raises Malformed.
        """
        ranges: list[tuple[int, int]] = []
        position = 0
        while position < end:
            if self.left:
                taken = min(self.left, end - position)
                ranges.append((position, position + taken))
                position += taken
                self.left -= taken
                self._between = not self.left
                continue
            line_end = data.find(b"\n", position, end)
            if line_end < 0:
                if end - position > MAX_CHUNK_LINE:
                    raise Malformed("header line too long")
                if self._between and data[position:end] != b"\r":
                    raise Malformed("malformed chunked encoding")
                break
            line = bytes(data[position:line_end])
            if not line.endswith(b"\r"):  # whoever takes this for a line and whoever does not see different requests
                raise Malformed("malformed chunked encoding" if self._between else "chunked line ends with bare LF")
            line, position = line[:-1], line_end + 1
            if self._line(line):
                self.complete = True
                break
        return ranges, position

    def take_pending(self) -> bytes:
        """What was fed and is to be looked at again with what follows: the beginning of a line."""
        pending, self._pending = self._pending, b""
        return pending

    def _line(self, line: bytes) -> bool:
        """Take one line between chunks; True for the body's last."""
        if self._trailer is not None:
            self._trailer += len(line)
            if self._trailer > MAX_TRAILER:
                raise Malformed("too large trailer")
            return not line
        if self._between:
            if line:
                raise Malformed("malformed chunked encoding")
            self._between = False
            return False
        if len(line) > MAX_CHUNK_LINE:
            raise Malformed("header line too long")
        size = _SIZE.fullmatch(line)
        if size is None:
            raise Malformed(_size_problem(line))
        self.left = int(size[1], 16)
        if self.left == 0:
            self._trailer = 0
        return False


def head(status: int, headers: Mapping[str, str], *more: str) -> bytes:
    """The head of an answer, with its date and its empty line. `more` are lines of the server's own.

    Raises ValueError for a line break in a header.
    """
    own = b"".join([line.encode("ascii") + b"\r\n" for line in more])
    return _constant(status, tuple(headers.items())) + own + _date()


@lru_cache(maxsize=64)
def _constant(status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    """What is the same in many answers: the status line and a handler's headers."""
    lines = [f"HTTP/1.1 {status} {REASONS[status]}", *(f"{name}: {value}" for name, value in headers), ""]
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
        raise ValueError(f"line break in a header of the answer: {dict(headers)!r}")
    return text.encode("utf-8", "surrogateescape")


_dates: tuple[int, bytes] = (0, b"")


def _date() -> bytes:
    """The Date line of this second (RFC 9110 section 5.6.7), and the empty line."""
    global _dates
    now = int(time.time())
    if _dates[0] != now:
        moment = time.gmtime(now)
        day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[moment.tm_wday]
        months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
        clock = f"{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02}"
        date = f"{day}, {moment.tm_mday:02} {months[moment.tm_mon - 1]} {moment.tm_year} {clock} GMT"
        _dates = now, f"Date: {date}\r\n\r\n".encode()
    return _dates[1]


def _size_problem(line: bytes) -> str:
    """What is wrong with a chunk's size, in Go's words."""
    word = line.partition(b";")[0].rstrip(b" \t")
    if not word:
        return "empty hex number for chunk length"
    return "http chunk length too large" if _TOO_LARGE.match(word) else "invalid byte in chunk length"


def chunk(data: bytes) -> bytes:
    """One chunk of a body; not for no bytes, which would end it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
