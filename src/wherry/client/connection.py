"""HTTP/1.1 to an engine by unix socket, TCP, TLS or ssh: as much of it as the API uses, and little to import.

A connection carries one request at a time and is reused once the answer's body has been read to its end. Attach and
exec take the connection over: `Response.detach()` hands out the socket and what was read ahead.
"""

from __future__ import annotations

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wherry.client.ssh import Carrier
    from wherry.client.tls import Relay


class ConnectionFailed(OSError):
    """No engine answers at the address."""


class ProtocolError(OSError):
    """What answers does not speak HTTP, or the connection ended in the middle of an answer."""


class AddressError(ValueError):
    """The address of an engine is malformed."""


class SshAddress:
    """`user` is "" and `port` 0 where they are ssh's own choice, `path` of the socket there "" for the usual one."""

    def __init__(self, user: str, name: str, port: int, path: str) -> None:
        self.user, self.name, self.port, self.path = user, name, port, path


class TlsFiles:
    """How TLS is spoken: paths, "" where there is none. Without `ca` the system's authorities count."""

    def __init__(self, ca: str = "", cert: str = "", key: str = "", *, verify: bool = True) -> None:
        self.ca = ca
        self.cert = cert
        self.key = key
        self.verify = verify


def parse_host(host: str, port: int = 2375) -> tuple[str, str | tuple[str, int] | SshAddress]:
    """("unix", path), ("tcp", (name, port)) or ("ssh", SshAddress) of an engine's address; `port` is the usual one.

    Raises AddressError.
    """
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = "tcp", host
    if scheme == "unix":
        return "unix", rest or "/run/wherry/wherry.sock"
    if scheme in ("tcp", "http"):
        address = rest.split("/", 1)[0]
        name, colon, given = address.rpartition(":")
        if not colon or address.endswith("]"):
            name, given = address, str(port)
        if given.isdigit() and int(given) < 65536:
            return "tcp", (name.strip("[]") or "localhost", int(given))
    if scheme == "ssh":
        return "ssh", _ssh_address(host)
    raise AddressError(f"invalid bind address format: {host}")


def _ssh_address(host: str) -> SshAddress:
    from urllib.parse import unquote, urlsplit

    wrong = f"invalid SSH URL {host}"
    try:
        url = urlsplit(host)
        port = url.port or 0
    except ValueError as error:
        raise AddressError(f"{wrong}: {error}") from None
    name, user = url.hostname or "", unquote(url.username or "")
    if url.password is not None:
        raise AddressError(f"{wrong}: plain-text password is not supported")
    if not name or name.startswith("-") or user.startswith("-"):
        raise AddressError(f"{wrong}: no host specified")
    if url.query or url.fragment:
        raise AddressError(f"{wrong}: extra words after the host")
    path = url.path.rstrip("/")
    if any(not (letter.isalnum() or letter in "/._-") for letter in path):
        raise AddressError(f"{wrong}: the path of the socket may have letters, digits and /._- only")
    return SshAddress(user, name, port, path)


class Connection:
    """One socket to the engine, connected at once. Raises ConnectionFailed."""

    def __init__(self, host: str, tls: TlsFiles | None = None) -> None:
        _, address = parse_host(host, 2375 if tls is None else 2376)
        self.used = False
        self._buffer = b""
        self._carrier: Carrier | Relay | None = None
        try:
            if isinstance(address, str):
                self.socket = _unix(address)
            elif isinstance(address, SshAddress):
                from wherry.client import ssh

                self.socket, self._carrier = ssh.dial(address)
            else:
                self.socket = _tcp(address)
        except OSError as error:
            raise ConnectionFailed(error.errno, error.strerror, host) from error
        if tls is not None and isinstance(address, tuple):
            self._encrypt(address[0], tls)

    def _encrypt(self, name: str, tls: TlsFiles) -> None:
        from wherry.client import tls as tls_

        try:
            self.socket, self._carrier = tls_.dial(self.socket, name, tls)
        except OSError as error:
            self.socket.close()
            raise ProtocolError(str(error.args[-1] if error.args else error)) from None

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
        if self._carrier is not None:
            self._carrier.close()

    def _ended(self) -> ProtocolError:
        if self._carrier is not None and not self.used:
            return ProtocolError(self._carrier.explain())
        return ProtocolError("the connection ended before an answer")

    def _head(self) -> list[str]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                if self._carrier is None:
                    raise
                more = b""  # it ended with part of the request unread
            if not more:
                raise ProtocolError("unexpected EOF") if self._buffer else self._ended()
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


def _unix(address: str) -> _socket.socket:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def _tcp(address: tuple[str, int]) -> _socket.socket:
    name, port = address
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
