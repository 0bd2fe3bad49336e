"""HTTP/1.1 over a Unix socket with as little of its own as possible, so that what is measured is the engine."""

from __future__ import annotations

import json
import socket
from typing import Any


class Failed(Exception):
    """The engine answered with an error."""


class Connection:
    """One kept-alive connection."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(120)
        self._socket.connect(path)
        self._buffer = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded JSON of the answer, None without a body. Raises Failed from status 400 on."""
        content = b"" if body is None else json.dumps(body).encode()
        return self.send(method, path, content, "application/json")

    def send(self, method: str, path: str, content: bytes, content_type: str) -> Any:
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: engine\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + content)
        status, answer = self._answer(method)
        if status >= 400:
            raise Failed(f"{method} {path}: {status} {answer.decode(errors='replace').strip()}")
        try:
            return json.loads(answer) if answer else None
        except ValueError:
            return answer.decode(errors="replace")

    def stream(self, method: str, path: str, body: Any) -> bytes:
        """A request whose answer goes on until the engine closes the connection; this connection ends with it."""
        content = json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + content)
        status = self._head()[0]
        rest = self._buffer
        while data := self._socket.recv(65536):
            rest += data
        if status >= 400:
            raise Failed(f"{method} {path}: {status} {rest!r}")
        return rest

    def _head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(first.split()[1]), headers

    def _answer(self, method: str) -> tuple[int, bytes]:
        status, headers = self._head()
        if status in (204, 304) or method == "HEAD":
            return status, b""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return status, self._chunks()
        return status, self._take(int(headers.get("content-length", "0")))

    def _chunks(self) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self._buffer:
                self._fill()
            size, _, self._buffer = self._buffer.partition(b"\r\n")
            length = int(size.split(b";")[0], 16)
            body += self._take(length)
            self._take(2)
            if length == 0:
                return body

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _fill(self) -> None:
        data = self._socket.recv(262144)
        if not data:
            raise Failed("the engine closed the connection")
        self._buffer += data
