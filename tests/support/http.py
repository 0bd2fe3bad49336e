"""A tiny HTTP/1.1 client over a Unix socket: plain requests, streamed answers, hijacked connections with half-close.

It shares no code with the engine or its client, so that the tests see the bytes a foreign client would see.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

TIMEOUT = 30.0  # seconds without a byte before a test gives up


class Disconnected(Exception):
    """The engine closed the connection before the whole answer had come."""


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines() if line.strip()]

    @property
    def message(self) -> str:
        """The engine's error message."""
        message = self.json()["message"]
        assert isinstance(message, str)
        return message


class _Wire:
    """A socket with a read buffer."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.buffer = b""
        try:
            self.socket.settimeout(TIMEOUT)
            self.socket.connect(str(path))
        except BaseException:
            self.socket.close()
            raise

    def some(self) -> bytes:
        """The next bytes, b"" at end of stream."""
        if self.buffer:
            data, self.buffer = self.buffer, b""
            return data
        return self.socket.recv(65536)

    def line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                raise Disconnected(f"connection closed inside a line: {self.buffer!r}")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def exactly(self, count: int) -> bytes:
        parts: list[bytes] = []
        while count:
            data = self.some()
            if not data:
                raise Disconnected(f"connection closed {count} bytes early")
            parts.append(data[:count])
            self.buffer = data[count:] + self.buffer if len(data) > count else self.buffer
            count -= len(parts[-1])
        return b"".join(parts)

    def head(self) -> tuple[int, dict[str, str]]:
        status_line = self.line()
        status = int(status_line.split(b" ", 2)[1])
        headers: dict[str, str] = {}
        while line := self.line():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return status, headers

    def body(self, method: str, status: int, headers: Mapping[str, str]) -> Iterator[bytes]:
        """The body as it comes, per RFC 9112 section 6.3."""
        if method == "HEAD" or status in (204, 304) or status < 200:
            return
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(self.line().split(b";")[0], 16):
                yield self.exactly(size)
                self.line()
            self.line()
        elif "content-length" in headers:
            left = int(headers["content-length"])
            while left:
                data = self.some()
                if not data:
                    raise Disconnected(f"connection closed {left} bytes early")
                left -= len(data)
                yield data
        else:
            while data := self.some():
                yield data

    def close(self) -> None:
        self.socket.close()


class Stream:
    """An answer whose body is read as it comes. A context manager; leaving it closes the connection."""

    def __init__(self, wire: _Wire, method: str, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers
        self._wire = wire
        self._body = wire.body(method, status, headers)
        self._rest = b""

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._wire.close()

    def settimeout(self, seconds: float) -> None:
        self._wire.socket.settimeout(seconds)

    def chunks(self) -> Iterator[bytes]:
        if self._rest:
            rest, self._rest = self._rest, b""
            yield rest
        yield from self._body

    def read(self) -> bytes:
        return b"".join(self.chunks())

    def lines(self) -> Iterator[bytes]:
        while True:
            line, newline, rest = self._rest.partition(b"\n")
            if newline:
                self._rest = rest
                yield line
                continue
            data = next(self._body, b"")
            if not data:
                if self._rest:
                    yield self._rest
                return
            self._rest += data

    def next_line(self) -> bytes:
        return next(self.lines())

    def json_lines(self) -> Iterator[Any]:
        for line in self.lines():
            if line.strip():
                yield json.loads(line)

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Multiplexed output: (stream, data), stream 1 for stdout and 2 for stderr."""
        yield from split_frames(self.chunks())


class Hijacked:
    """A connection taken over for raw bytes both ways. A context manager; leaving it closes the connection."""

    def __init__(self, wire: _Wire, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.came_with_head = wire.buffer  # output read together with the headers
        self._wire = wire

    def __enter__(self) -> Hijacked:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._wire.close()

    def settimeout(self, seconds: float) -> None:
        self._wire.socket.settimeout(seconds)

    def send(self, data: bytes) -> None:
        self._wire.socket.sendall(data)

    def half_close(self) -> None:
        """No more stdin; output goes on."""
        self._wire.socket.shutdown(socket.SHUT_WR)

    def chunks(self) -> Iterator[bytes]:
        while data := self._wire.some():
            yield data

    def read(self) -> bytes:
        return b"".join(self.chunks())

    def read_until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`; what follows stays for the next read."""
        data = b""
        while mark not in data:
            more = self._wire.some()
            if not more:
                raise Disconnected(f"closed before {mark!r} came: {data!r}")
            data += more
        end = data.index(mark) + len(mark)
        self._wire.buffer = data[end:] + self._wire.buffer
        return data[:end]

    def frames(self) -> Iterator[tuple[int, bytes]]:
        yield from split_frames(self.chunks())

    def output(self) -> tuple[bytes, bytes]:
        """Everything until the end: (stdout, stderr)."""
        return join_frames(self.frames())

    def answer(self) -> Response:
        """The body of an answer that turned out not to be a hijacked connection (an error)."""
        return Response(self.status, self.headers, b"".join(self._wire.body("POST", self.status, self.headers)))


def split_frames(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    buffer = b""
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= 8:
            stream, size = struct.unpack(">BxxxL", buffer[:8])
            if len(buffer) < 8 + size:
                break
            yield stream, buffer[8 : 8 + size]
            buffer = buffer[8 + size :]
    if buffer:
        raise Disconnected(f"the stream ended inside a frame: {buffer[:80]!r}")


def join_frames(frames: Iterable[tuple[int, bytes]]) -> tuple[bytes, bytes]:
    out, err = b"", b""
    for stream, data in frames:
        if stream == 1:
            out += data
        else:
            assert stream == 2, f"frame of unknown stream {stream}"
            err += data
    return out, err


Body = bytes | Iterable[bytes] | None


class Client:
    """Requests to one engine. Every request has a connection of its own."""

    def __init__(self, path: Path, version: str = "v1.45") -> None:
        self.path = path
        self.version = version

    def _send(
        self, method: str, path: str, query: Mapping[str, Any], data: Any, body: Body, headers: Mapping[str, str]
    ) -> _Wire:
        if self.version:
            path = f"/{self.version}{path}"
        if query:
            path += "?" + urlencode({key: _text(value) for key, value in query.items()}, doseq=True)
        fields = {"Host": "engine", "User-Agent": "wherry-tests", **headers}
        if data is not None:
            body = json.dumps(data).encode()
            fields.setdefault("Content-Type", "application/json")
        if isinstance(body, bytes):
            fields["Content-Length"] = str(len(body))
        elif body is not None:
            fields["Transfer-Encoding"] = "chunked"
        elif method == "POST":
            fields["Content-Length"] = "0"
        wire = _Wire(self.path)
        try:
            head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n"
            wire.socket.sendall(head.encode())
            try:
                if isinstance(body, bytes):
                    wire.socket.sendall(body)
                elif body is not None:
                    for chunk in body:
                        wire.socket.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                    wire.socket.sendall(b"0\r\n\r\n")
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before the whole body was read; the answer says why
        except BaseException:
            wire.close()
            raise
        return wire

    def request(
        self,
        method: str,
        path: str,
        /,
        *,
        json: Any = None,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Response:
        wire = self._send(method, path, query, json, body, headers or {})
        try:
            status, answer_headers = wire.head()
            return Response(status, answer_headers, b"".join(wire.body(method, status, answer_headers)))
        finally:
            wire.close()

    def get(self, path: str, /, **query: Any) -> Response:
        return self.request("GET", path, **query)

    def head(self, path: str, /, **query: Any) -> Response:
        return self.request("HEAD", path, **query)

    def post(self, path: str, json: Any = None, *, body: Body = None, **query: Any) -> Response:
        return self.request("POST", path, json=json, body=body, **query)

    def delete(self, path: str, /, **query: Any) -> Response:
        return self.request("DELETE", path, **query)

    def stream(self, method: str, path: str, /, *, json: Any = None, body: Body = None, **query: Any) -> Stream:
        """Returns when the headers have come."""
        wire = self._send(method, path, query, json, body, {})
        try:
            status, headers = wire.head()
        except BaseException:
            wire.close()
            raise
        return Stream(wire, method, status, headers)

    def hijack(self, path: str, json: Any = None, *, upgrade: bool = True, **query: Any) -> Hijacked:
        """POST and take the connection over: answered 101 with `upgrade`, 200 without."""
        headers = {"Connection": "Upgrade", "Upgrade": "tcp"} if upgrade else {}
        wire = self._send("POST", path, query, json, None, headers)
        try:
            status, answer_headers = wire.head()
        except BaseException:
            wire.close()
            raise
        return Hijacked(wire, status, answer_headers)


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, dict):
        return json.dumps(value)
    return value
