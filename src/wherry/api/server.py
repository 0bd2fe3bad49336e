"""Listening sockets and connections: HTTP/1.1 by aiohttp, with what a container engine needs beyond it.

A connection may be taken over as a raw stream (`Connection.take_over`), a client that only closed its sending half
is still served, and a client that is gone stops what only served it. `Listener` makes a protocol for each accepted
connection through one factory: another protocol on the same sockets is another factory in front.
"""

from __future__ import annotations

import asyncio
import errno
import grp
import logging
import os
import re
import select
import socket
import stat
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from wherry.errors import InvalidParameter, SystemFailure

T = TypeVar("T")
log = logging.getLogger(__name__)

MAX_LINE = 256 << 10  # bytes of a request line: filters travel in it
MAX_FIELD = 64 << 10  # bytes of one header: registry credentials travel in them
HELD = 64 << 10  # bytes read ahead for a stream that is not taken over yet
BACKLOG = 4096

_TAKES_OVER = re.compile(rb"POST (?:/v[0-9.]+)?/(?:containers/[^ ?]+/attach|exec/[^ ?]+/start)[ ?]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)


class ClientGone(ConnectionError):
    """Nobody is there to answer, or the daemon is stopping."""


class Silent(web.StreamResponse):
    """For aiohttp: there is nothing more to send, close the connection."""

    def __init__(self) -> None:
        super().__init__()
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_busy", "_given", "_gone", "_hang_up", "_held", "_line", "_tasks", "half_closed")

    def __init__(self, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self.half_closed = False  # the client will send nothing more, but reads on
        self._busy = False  # bytes of a request came whose answer has not ended
        self._gone = False
        self._held: bytearray | None = (
            None  # bytes of, then after, a request that may take over; None when there is none
        )
        self._line = b""  # the beginning of a request line
        self._given = False  # that request went to aiohttp: what is held belongs to the stream
        self._hang_up: HangUp | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def data_received(self, data: bytes) -> None:
        if self._held is not None:
            self._hold(data)
            return
        if data and not self._busy:
            data = bytes(self._line) + data
            if b"\n" not in data and len(data) <= MAX_LINE:
                self._line = data  # not yet clear what is asked
                return
            self._line = b""
            self._busy = True
            if _TAKES_OVER.match(data):
                self._held = bytearray()
                self._hold(data)
                return
        super().data_received(data)

    def _hold(self, data: bytes) -> None:
        """Give aiohttp exactly one request and keep what follows it."""
        held = self._held
        assert held is not None
        held += data
        if self._given:
            if len(held) >= HELD and self.transport is not None:
                self.transport.pause_reading()
            return
        end = _request_end(held)
        if (end is None or end > len(held)) and len(held) <= MAX_LINE:
            return
        request = bytes(held if end is None else held[:end])
        del held[: len(request)]
        self._given = True
        super().data_received(request)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more. It may still read: only a client that also closed that half is gone."""
        self.half_closed = True
        transport = self.transport
        if not self._busy or transport is None or hung_up(transport):
            return False
        self._hang_up = HangUp(transport, self._loop, transport.abort)
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._hang_up is not None:
            self._hang_up.close()
        super().connection_lost(exc)
        self.client_gone()

    def client_gone(self) -> None:
        """Stop everything that only served this client."""
        self._gone = True
        for task in self._tasks:
            task.cancel()

    def serving(self) -> None:
        """A request is being answered: it may be one of several that came together."""
        self._busy = True

    def answered(self, response: web.StreamResponse) -> None:
        """One request is done; back to waiting for the next."""
        self._busy = self._given = False
        if self.half_closed:
            response.force_close()
        held, self._held = self._held, None
        if held and self.transport is not None:
            self.transport.resume_reading()
            self._loop.call_soon(self.data_received, bytes(held))

    async def while_connected(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`; cancel it and raise ClientGone when the client goes away or the daemon stops."""
        if self._gone:
            work.close()
            raise ClientGone
        task = asyncio.create_task(work)
        self._tasks.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if self._gone and task.cancelled():
                raise ClientGone from None
            raise
        finally:
            self._tasks.discard(task)

    def take_over(self, head: bytes) -> RawStream:
        """From here on the connection is a raw stream in both directions; `head` is the last of HTTP to be sent.

        The handler must return `Silent()` after the stream has ended. Raises ClientGone.
        """
        transport = self.transport
        if transport is None:
            raise ClientGone
        if self._hang_up is not None:
            self._hang_up.close()
            self._hang_up = None
        stream = RawStream(self._loop, transport, bytes(self._held or b""), self.half_closed, self.connection_lost)
        self._held = None
        transport.write(head)
        return stream


class RawStream(asyncio.Protocol):
    """A connection taken over: bytes both ways, each direction with a bounded buffer, half-close kept.

        while data := await stream.read():   # b"" once the client has closed its sending half
            await stream.write(data)         # returns when there is room for more
        await stream.finish()

    `read` and `write` raise ClientGone once the client has closed altogether.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        ahead: bytes,
        ended: bool,
        lost: Callable[[BaseException | None], None],
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._buffer = bytearray(ahead)
        self._ended = ended
        self._lost = lost
        self._closed = transport.is_closing()
        self._paused_reading = False
        self._room = asyncio.Event()
        self._room.set()
        self._news = asyncio.Event()
        self._hang_up: HangUp | None = None
        self.gone = loop.create_future()
        transport.set_protocol(self)
        if ended:
            self._watch()
        else:
            transport.resume_reading()

    def _watch(self) -> None:
        if hung_up(self._transport):
            self._transport.abort()
        elif not self._closed:
            self._hang_up = HangUp(self._transport, self._loop, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= HELD and not self._paused_reading:
            self._paused_reading = True
            self._transport.pause_reading()
        self._news.set()

    def eof_received(self) -> bool:
        if not self._ended:
            self._ended = True
            self._watch()
            self._news.set()
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        self._closed = True
        if self._hang_up is not None:
            self._hang_up.close()
        self._news.set()
        self._room.set()
        if not self.gone.done():
            self.gone.set_result(None)
        self._lost(exc)

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    async def read(self) -> bytes:
        """What the client sent, at least one byte; b"" after its half-close. Raises ClientGone."""
        while not self._buffer:
            if self._closed:
                raise ClientGone
            if self._ended:
                return b""
            self._news.clear()
            await self._news.wait()
        data = bytes(self._buffer)
        self._buffer.clear()
        if self._paused_reading and not self._closed:
            self._paused_reading = False
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Send; returns once the buffer has room again. Raises ClientGone."""
        if self._closed or self._transport.is_closing():
            raise ClientGone
        self._transport.write(data)
        await self._room.wait()
        if self._closed:
            raise ClientGone

    async def finish(self, linger: float = 1.0) -> None:
        """All was written: say so, and close when the client has closed too, after `linger` seconds at the latest.

        Closing at once would turn input that is still under way into a connection reset for the client.
        """
        if not self._closed:
            with suppress(OSError):
                self._transport.write_eof()
        deadline = self._loop.time() + linger
        with suppress(ClientGone, TimeoutError):
            async with asyncio.timeout_at(deadline):
                while await self.read():
                    pass
        self._transport.close()

    def abort(self) -> None:
        """Close without sending what is still buffered."""
        self._transport.abort()


class HangUp:
    """Calls back once when a client that had closed one half has closed the other.

    A transport stops watching its socket at the first half-close. An epoll with no events asked reports exactly
    EPOLLHUP and EPOLLERR (epoll_ctl(2)), and can itself be watched.
    """

    def __init__(
        self, transport: asyncio.BaseTransport, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._callback = callback
        self._epoll: select.epoll | None = select.epoll(1)
        self._epoll.register(transport.get_extra_info("socket").fileno(), 0)
        loop.add_reader(self._epoll.fileno(), self._fire)

    def _fire(self) -> None:
        self.close()
        self._callback()

    def close(self) -> None:
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None


def hung_up(transport: asyncio.BaseTransport) -> bool:
    """The peer closed both halves (POLLHUP; on unix sockets that tells a close from a half-close)."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


class HttpServer(web.Server):
    """aiohttp's server, making our connections."""

    def __call__(self) -> Connection:
        return Connection(
            self,
            loop=self._loop,
            access_log=None,
            auto_decompress=False,
            max_line_size=MAX_LINE,
            max_field_size=MAX_FIELD,
            keepalive_timeout=3600,
        )


class Listener:
    """Serves an app on sockets until closed.

    async with Listener(app, sockets):
        await stop.wait()
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        sockets: Sequence[socket.socket],
        grace: float = 10.0,
    ) -> None:
        self._handler = handler
        self._sockets = sockets
        self._grace = grace  # seconds that requests under way get to finish
        self._servers: list[asyncio.AbstractServer] = []

    async def __aenter__(self) -> Listener:
        loop = asyncio.get_running_loop()
        self._http = HttpServer(self._handler)
        for listening in self._sockets:
            self._servers.append(await loop.create_unix_server(self._http, sock=listening, backlog=BACKLOG))
        return self

    async def __aexit__(self, *exc: object) -> None:
        for server in self._servers:
            server.close()
        for connection in self._http.connections:
            assert isinstance(connection, Connection)
            connection.client_gone()
        self._http.pre_shutdown()
        await self._http.shutdown(self._grace)


def bind_unix(path: Path, group: int | None) -> socket.socket:
    """A listening socket at `path`, mode 0660, owned by `group` (an ID; None leaves the process's own).

    A socket file that nobody listens on is replaced. Raises SystemFailure where somebody does or the path is not a
    socket.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _make_room(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        listening.bind(str(path))
        if group is not None:
            os.chown(path, -1, group)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise SystemFailure(f"cannot listen on unix://{path}: {error.strerror}") from None
    finally:
        os.umask(before)
    return listening


def _make_room(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SystemFailure(f"cannot listen on unix://{path}: the path exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(str(path))
    if result == errno.ECONNREFUSED:
        path.unlink(missing_ok=True)
    elif result != errno.ENOENT:
        raise SystemFailure(f"cannot listen on unix://{path}: another process listens there")


def group_id(name: str) -> int:
    """The ID of a group given by name or number. Raises InvalidParameter."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        if name.isdigit():
            return int(name)
        raise InvalidParameter(
            f"group {name} not found: create it (groupadd --system {name}) or choose another --group"
        ) from None


def inherited(environment: dict[str, str], which: str = "") -> list[socket.socket]:
    """Listening sockets that a service manager passed (sd_listen_fds(3)): all, or the one of that name or number.

    Raises InvalidParameter if there is none.
    """
    count = 0
    if environment.get("LISTEN_PID") == str(os.getpid()):
        count = int(environment.get("LISTEN_FDS", "0"))
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    found = []
    for number in range(3, 3 + count):
        name = names[number - 3] if number - 3 < len(names) else ""
        if which in ("", str(number), name):
            os.set_inheritable(number, False)
            listening = socket.socket(fileno=number)
            listening.setblocking(False)
            found.append(listening)
    if not found:
        raise InvalidParameter(f"fd://{which}: no such socket was passed by a service manager (LISTEN_FDS)")
    return found


def _request_end(data: bytes | bytearray) -> int | None:
    """Where a request's head and body end; None while the head is incomplete. A chunked body cannot be told: all."""
    blank = data.find(b"\r\n\r\n")
    if blank < 0:
        return None
    head = bytes(data[: blank + 2])
    if _CHUNKED.search(head):
        return len(data)
    length = _LENGTH.search(head)
    return blank + 4 + (int(length[1]) if length else 0)
