"""HTTP/1.1 to an engine over a Unix or TCP socket: as much of it as the Engine API uses, and little to import.

A connection carries one request at a time and is reused once the answer's body has been read to its end. Attach and
exec take the connection over: `Response.detach()` hands out the socket and what was read ahead.
"""

from __future__ import annotations

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class ConnectionFailed(OSError):
    """No engine answers at the address."""


class ProtocolError(OSError):
    """What answers does not speak HTTP, or the connection ended in the middle of an answer."""


class AddressError(ValueError):
    """The address of an engine is malformed."""


def parse_host(host: str) -> tuple[str, str | tuple[str, int]]:
    """("unix", path) or ("tcp", (name, port)) of `unix:///path` or `tcp://name:port`. Raises AddressError."""
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = "tcp", host
    if scheme == "unix":
        return "unix", rest or "/run/wherry/wherry.sock"
    if scheme in ("tcp", "http"):
        address = rest.split("/", 1)[0]
        name, colon, port = address.rpartition(":")
        if not colon or address.endswith("]"):
            name, port = address, "2375"
        if port.isdigit() and int(port) < 65536:
            return "tcp", (name.strip("[]") or "localhost", int(port))
    raise AddressError(f"invalid bind address format: {host}")


class Connection:
    """One socket to the engine, connected at once. Raises ConnectionFailed."""

    def __init__(self, host: str) -> None:
        kind, address = parse_host(host)
        self.used = False
        self._buffer = b""
        try:
            self.socket = _unix(address) if kind == "unix" else _tcp(address)
        except OSError as error:
            raise ConnectionFailed(error.errno, error.strerror, host) from error

    def send(
        self, method: str, target: str, headers: dict[str, str], body: bytes | Iterable[bytes] | None = None
    ) -> None:
        """Send one request. A body that is not bytes goes out in chunks."""
        lines = [f"{method} {target} HTTP/1.1", "Host: api.moby.localhost", "User-Agent: wherry-client"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if isinstance(body, bytes):
            lines.append(f"Content-Length: {len(body)}")
        elif body is not None:
            lines.append("Transfer-Encoding: chunked")
        elif method == "POST":
            lines.append("Content-Length: 0")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")
        if body is None or isinstance(body, bytes):
            self.socket.sendall(head + (body or b""))
            return
        self.socket.sendall(head)
        for chunk in body:
            if chunk:
                self.socket.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self.socket.sendall(b"0\r\n\r\n")

    def receive(self, method: str) -> Response:
        """The head of the answer to the request just sent; interim answers (1xx but 101) are passed over."""
        while True:
            response = Response(self, method, self._head())
            if response.status >= 200 or response.status == 101:
                self.used = True
                return response

    def close(self) -> None:
        self.socket.close()

    def _head(self) -> list[str]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if not (more := self.socket.recv(65536)):
                raise ProtocolError("the connection ended before an answer" if not self._buffer else "unexpected EOF")
            self._buffer += more
        head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
        return head.decode("latin-1").split("\r\n")

    def take(self, limit: int) -> bytes:
        """At least one byte and at most `limit`, b"" at the end."""
        if self._buffer:
            data, self._buffer = self._buffer[:limit], self._buffer[limit:]
            return data
        return self.socket.recv(min(limit, 1 << 16))

    def line(self) -> bytes:
        """Up to and without the next line end."""
        while (end := self._buffer.find(b"\n")) < 0:
            if not (more := self.socket.recv(65536)):
                raise ProtocolError("unexpected EOF")
            self._buffer += more
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return line.rstrip(b"\r")

    @property
    def stale(self) -> bool:
        """Whether the engine has closed the connection (or said something unasked) while nobody used it."""
        try:
            self.socket.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    @property
    def ahead(self) -> bool:
        """Whether bytes are here that nobody has taken yet."""
        return bool(self._buffer)

    def rest(self) -> bytes:
        data, self._buffer = self._buffer, b""
        return data


def _unix(address: str | tuple[str, int]) -> _socket.socket:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def _tcp(address: str | tuple[str, int]) -> _socket.socket:
    name, port = (address, 0) if isinstance(address, str) else address
    error: OSError | None = None
    for family, kind, protocol, _, resolved in _socket.getaddrinfo(name, port, 0, _socket.SOCK_STREAM):
        connection = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, protocol)
        try:
            connection.connect(resolved)
            connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        except OSError as failure:
            connection.close()
            error = failure
        else:
            return connection
    raise error or OSError("no address")


class Response:
    """Status, headers (names in lower case) and the body, which is read once: whole, by pieces or by lines."""

    def __init__(self, connection: Connection, method: str, head: list[str]) -> None:
        self.connection = connection
        protocol, _, status = head[0].partition(" ")
        if not protocol.startswith("HTTP/1.") or not status[:3].isdigit():
            raise ProtocolError(f"malformed HTTP response: {head[0][:80]!r}")
        self.status = int(status[:3])
        self.headers: dict[str, str] = {}
        for line in head[1:]:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        self.done = False
        self._chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        self._left = -1
        if method == "HEAD" or self.status in (204, 304):
            self._left = 0
        elif not self._chunked and "content-length" in self.headers:
            self._left = int(self.headers["content-length"])
        if self._chunked:
            self._left = 0
        elif self._left == 0:
            self.done = True

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request."""
        bounded = self._chunked or "content-length" in self.headers or self._left == 0
        return self.done and bounded and self.headers.get("connection", "").lower() != "close"

    def piece(self, limit: int = 1 << 16) -> bytes:
        """The next bytes of the body, b"" at its end. Raises ProtocolError if the connection ends before the body."""
        if self.done:
            return b""
        if self._chunked:
            if self._left == 0 and not self._next_chunk():
                return b""
            data = self.connection.take(min(limit, self._left))
        elif self._left < 0:
            data = self.connection.take(limit)
            self.done = not data
            return data
        else:
            data = self.connection.take(min(limit, self._left))
        if not data:
            raise ProtocolError("unexpected EOF")
        self._left -= len(data)
        if self._left == 0:
            if self._chunked:
                self.connection.line()
            else:
                self.done = True
        return data

    def _next_chunk(self) -> bool:
        size = self.connection.line().split(b";")[0]
        try:
            self._left = int(size, 16)
        except ValueError:
            raise ProtocolError(f"malformed chunk size: {size[:20]!r}") from None
        if self._left:
            return True
        while self.connection.line():
            pass
        self.done = True
        return False

    def pieces(self) -> Iterator[bytes]:
        while data := self.piece():
            yield data

    def read(self) -> bytes:
        return b"".join(self.pieces())

    def lines(self) -> Iterator[bytes]:
        """The body line by line as it arrives; a last line without an end counts."""
        waiting = b""
        for data in self.pieces():
            *whole, waiting = (waiting + data).split(b"\n")
            yield from whole
        if waiting:
            yield waiting

    def detach(self) -> tuple[_socket.socket, bytes]:
        """The raw socket and the bytes already read from it; the connection carries no more requests."""
        self.done = False
        return self.connection.socket, self.connection.rest()
