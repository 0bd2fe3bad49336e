"""HTTP/1.1 over asyncio's transports: connections, requests, answers; see docs/decisions for why it is our own.

    def handler(request: Request) -> Response:  # or a coroutine function, if it has to wait
        return Response(200, {"Content-Type": "text/plain"}, b"hello")

    async with Listener(handler, sockets):
        await stop.wait()

One request of a connection is answered at a time; what came after it waits, within bounds. A handler may take the
connection over as a raw stream (`Connection.take_over`), whoever only closed its sending half is still served, and a
client that is gone stops what only served it. `Listener` makes a protocol for each accepted connection through one
factory, and `Connection._head` sees the first bytes: another protocol has its switch there (HTTP/2 by prior knowledge
begins with a request of method PRI, by upgrade with a request that is taken over).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

from wherry.api import http1
from wherry.api.http1 import Chunked, Head, Malformed, Measured
from wherry.api.lending import LentBody
from wherry.api.rawstream import HELD, ClientGone, HangUp, RawStream, duplicate, hung_up
from wherry.api.sockets import BACKLOG
from wherry.api.tls import Tls
from wherry.errors import InvalidParameter

T = TypeVar("T")
log = logging.getLogger(__name__)

BODY_AHEAD = 512 << 10  # bytes of a body that are read ahead of the handler
UNREAD_BODY = 256 << 10  # bytes of a body nobody asked for that are skipped to keep the connection, as in Go
HEAD_SECONDS = 300.0  # for a head that has begun to come, as in Docker


class Request:
    """One request. `path` and `query` are percent-encoded, as they came."""

    __slots__ = ("body", "connection", "head", "headers", "keep_alive", "method", "path", "query")

    def __init__(self, head: Head, body: Body, connection: Connection) -> None:
        self.head = head
        self.method = head.method
        self.path = head.path
        self.query = head.query
        self.headers = head.headers
        self.keep_alive = head.keep_alive  # the connection stays after the answer
        self.body = body
        self.connection = connection


class Response:
    """A whole answer."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Streaming:
    """An answer whose body follows in pieces: `Connection.stream` sent its head. Raises ClientGone."""

    def __init__(self, connection: Connection, *, chunked: bool, silent: bool) -> None:
        self._connection = connection
        self._chunked = chunked
        self._silent = silent  # a HEAD request: the body is not sent
        self.ended = False

    async def write(self, data: bytes) -> None:
        """Send a piece; returns when there is room for more."""
        if data and not self._silent:
            await self._connection.send(http1.chunk(data) if self._chunked else data)

    async def write_eof(self) -> None:
        """The answer is complete. Without this it breaks off, and its reader can tell."""
        if not self.ended:
            self.ended = True
            if self._chunked and not self._silent:
                await self._connection.send(http1.LAST_CHUNK)


Answer: TypeAlias = Response | Streaming | None
"""What a handler returns; None: nothing more is to be sent, the connection was taken over or breaks off."""

RequestHandler: TypeAlias = Callable[[Request], Response | Coroutine[Any, Any, Answer]]
"""Answers at once, or says what to wait for."""


class Body:
    """A request's body, read as it comes.

    while piece := await body.read():
        ...
    async for piece in body:
        ...
    """

    def __init__(self, connection: Connection, head: Head) -> None:
        self._connection = connection
        self._frames: Measured | Chunked = Chunked() if head.length is None else Measured(head.length)
        self._ask = head.expects_continue
        self._pieces: deque[bytes] = deque()
        self._error: Exception | None = None
        self._news: asyncio.Future[None] | None = None
        self._wanted = True  # somebody may still read
        self._skipped = 0  # bytes that came when nobody would
        self.length = head.length  # None if it comes in chunks
        self.held = 0  # bytes that wait to be read

    @property
    def complete(self) -> bool:
        """Its last byte has come."""
        return self._frames.complete

    @property
    def skippable(self) -> bool:
        """What is left of it can be waited for and dropped, if nobody wants it."""
        return not self._ask and self._skipped + self._frames.left <= UNREAD_BODY

    async def read(self) -> bytes:
        """What has come, at least one byte; b"" at the end.

        Raises InvalidParameter where the body is malformed or breaks off, ClientGone where the client is gone.
        """
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._frames.complete:
                return b""
            if self._ask:
                self._ask = False
                await self._connection.send(http1.CONTINUE)
            self._news = self._connection.loop.create_future()
            await self._news
        piece = self._pieces.popleft()
        self.held -= len(piece)
        self._connection.regulate()
        return piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.read():
            yield piece

    def feed(self, data: bytes) -> bytes:
        """Take bytes off the connection; returns those after the body's end."""
        self._ask = False
        try:
            pieces, rest = self._frames.feed(data)
        except Malformed as error:
            self.fail(InvalidParameter(str(error)))
            return b""
        size = sum(map(len, pieces))
        if self._wanted:
            self._pieces += pieces
            self.held += size
        else:
            self._skipped += size
        self._wake()
        return rest

    def fail(self, error: Exception) -> None:
        """There will be no more."""
        if not self._frames.complete and self._error is None:
            self._error = error
            self._wake()

    @property
    def failed(self) -> bool:
        return self._error is not None

    def skip(self) -> None:
        """Nobody will read the rest."""
        self._wanted = False
        self._pieces.clear()
        self.held = 0

    @contextlib.asynccontextmanager
    async def lent(self) -> AsyncIterator[LentBody | None]:
        """The body as a source that one thread reads straight off the socket, past the loop; None where it cannot be.

        The thread must have ended when the context does. Raises ClientGone.
        """
        connection = self._connection
        if self.complete or self.failed or not connection.lendable:
            yield None
            return
        if self._ask:
            self._ask = False
            await connection.send(http1.CONTINUE)
        connection.reading_lent(True)
        with connection.duplicate() as shared:
            ahead, self.held = list(self._pieces), 0
            self._pieces.clear()
            lent = LentBody(shared, self._frames, ahead)
            try:
                yield lent
            finally:
                self._take_back(lent)
                connection.reading_lent(False)

    def _take_back(self, lent: LentBody) -> None:
        """What was received and not read is the loop's again."""
        pieces, rest = lent.unread()
        self._pieces += pieces
        self.held = sum(map(len, pieces))
        if lent.broken is not None:
            self.fail(lent.broken)
        elif not self.complete and rest:
            self._connection.returned(self.feed(rest))
        else:
            self._connection.returned(rest)

    async def drop(self) -> None:
        """Read what is left of a body of known length. One in chunks may never end: it is left alone."""
        while self.length is not None and await self.read():
            pass

    def _wake(self) -> None:
        if self._news is not None:
            if not self._news.done():
                self._news.set_result(None)
            self._news = None


class Owner(Protocol):
    """What made a connection; `Listener`."""

    handler: RequestHandler
    closing: bool
    connections: set[Connection]


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.half_closed = False  # the client will send nothing more, but reads on
        self.task: asyncio.Task[None] | None = None  # answers the request under way
        self._owner = owner
        self._transport: asyncio.Transport
        self._buffer = b""  # what came and was not looked at: the beginning of a head, or what follows a request
        self._searched = 0  # how much of it holds no end of a head
        self._request: Request | None = None  # under way
        self._gone = False
        self._lost = False
        self._room: asyncio.Future[None] | None = None  # while the client reads slower than we write
        self._paused = False
        self._hang_up: HangUp | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._works: set[asyncio.Task[Any]] = set()
        self._lent = False  # a thread reads what comes

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._owner.connections.add(self)

    def data_received(self, data: bytes) -> None:
        request = self._request
        if request is not None and not request.body.complete:
            data = request.body.feed(data)
        self._buffer = self._buffer + data if self._buffer else data
        if request is None:
            self._proceed()
        elif self.task is None:
            self._answered(request)  # what was not read of its body is being skipped
        else:
            self.regulate()

    def eof_received(self) -> bool:
        """The client sends no more. It may still read: only a client that also closed that half is gone."""
        self.half_closed = True
        if hung_up(self._transport):
            return False
        if self._request is not None:
            self._request.body.fail(InvalidParameter("unexpected EOF"))
            if self.task is None:
                return False
        elif self._buffer:
            self.loop.call_soon(self._proceed)
        else:
            return False
        self._hang_up = HangUp(self._transport, self.loop, self._transport.abort)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._owner.connections.discard(self)
        if self._hang_up is not None:
            self._hang_up.close()
        if self._patience is not None:
            self._patience.cancel()
        if self._request is not None:
            self._request.body.fail(ClientGone())
        self.resume_writing()
        self.client_gone()

    def pause_writing(self) -> None:
        self._room = self.loop.create_future()

    def resume_writing(self) -> None:
        if self._room is not None:
            if not self._room.done():
                self._room.set_result(None)
            self._room = None

    # From one request to the next.

    def _proceed(self) -> None:
        """Begin with the next request if all of its head has come. Where it needs no waiting, it is answered here."""
        if self._request is not None or self._lost or not self._buffer:
            return
        try:
            head = self._head()
        except Malformed as error:
            log.debug("malformed request: %s", error)
            self._transport.write(error.answer)
            self._close_gently()
            return
        if head is None:
            if self.half_closed:  # in the middle of it
                self._transport.write(Malformed().answer)
                self._transport.close()
            return
        body = Body(self, head)
        if self._buffer and not body.complete:
            self._buffer = body.feed(self._buffer)
        if self.half_closed:
            body.fail(InvalidParameter("unexpected EOF"))
        request = self._request = Request(head, body, self)
        answer = self._owner.handler(request)
        if isinstance(answer, Response):
            self._transport.write(self._whole(request, answer))
            if self._room is None:
                self._answered(request)
                return
            answer = self._drained()
        self.task = self.loop.create_task(self._answer(request, answer))
        self.regulate()

    def _head(self) -> Head | None:
        """Take the head of a request off what has come; None while its end has not. Raises Malformed."""
        buffer = self._buffer
        empty = 0  # bytes of empty lines before a request, which are ignored (RFC 9112 section 2.2)
        while buffer.startswith(b"\r\n", empty):
            empty += 2
        if empty:
            buffer = self._buffer = buffer[empty:]
        end = buffer.find(b"\r\n\r\n", self._searched)
        if end > http1.MAX_HEAD or (end < 0 and len(buffer) > http1.MAX_HEAD):
            raise Malformed(status=431)
        if end >= 0:
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None
            self._searched = 0
            self._buffer = buffer[end + 4 :]
            return http1.read_head(buffer[:end])
        self._searched = max(0, len(buffer) - 3)
        first = buffer.find(b"\n", 0, 8192)
        if first >= 0 and buffer[first - 1 : first] != b"\r":
            raise Malformed("lines must end in CR LF")
        if buffer and self._patience is None:
            self._patience = self.loop.call_later(HEAD_SECONDS, self._transport.abort)
        return None

    async def _answer(self, request: Request, work: Coroutine[Any, Any, Answer]) -> None:
        """Wait for what answers the request. What it raises is a defect of the handler's."""
        answer: Answer = None
        try:
            answer = await work
            if isinstance(answer, Response):
                await self.send(self._whole(request, answer))
            elif answer is not None:
                await answer.write_eof()
        except ClientGone:
            answer = None
        except Exception:
            log.exception("a request was not answered")
            answer = None
        finally:
            self.task = None
            if answer is None:
                self._transport.close()
            else:
                self._answered(request)

    async def _drained(self) -> Streaming:
        """An answer was written and the client is slow to read it."""
        await self.send(b"")
        return Streaming(self, chunked=False, silent=True)

    def _answered(self, request: Request) -> None:
        """Go on to what follows the request, as soon as its body is out of the way."""
        body = request.body
        if self._lost:
            return
        if not request.keep_alive or self._owner.closing or body.failed or not (body.complete or body.skippable):
            self._close_gently()
        elif not body.complete:
            body.skip()
        else:
            self._request = None
            if self._buffer:
                self.loop.call_soon(self._proceed)  # not at once: other connections have their turn
            elif self.half_closed:
                self._transport.close()
        self.regulate()

    def _close_gently(self) -> None:
        """Close, but not upon bytes that the client is still sending: it would see a reset before the answer."""
        if self._request is not None and self._request.body.complete and not self._buffer:
            self._transport.close()
        else:
            self.task = self.loop.create_task(self._as_stream(b"").finish())

    def _whole(self, request: Request, answer: Response) -> bytes:
        """The bytes of an answer."""
        status, body = answer.status, answer.body
        more = self._connection_lines(request)
        if status not in (204, 304):
            more.append(f"Content-Length: {len(body)}")
        data = http1.head(status, answer.headers, *more)
        return data if request.method == "HEAD" else data + body

    async def stream(self, request: Request, status: int, headers: Mapping[str, str]) -> Streaming:
        """Send the head of an answer whose body follows in pieces. Raises ClientGone."""
        chunked = request.head.persistent
        more = [*self._connection_lines(request), *(["Transfer-Encoding: chunked"] if chunked else [])]
        if not chunked:
            request.keep_alive = False
        await self.send(http1.head(status, headers, *more))
        return Streaming(self, chunked=chunked, silent=request.method == "HEAD")

    def _connection_lines(self, request: Request) -> list[str]:
        """The header that says whether the connection stays, where it is not what the client expects."""
        body = request.body
        if self._owner.closing or body.failed or not (body.complete or body.skippable):
            request.keep_alive = False
        if request.keep_alive == request.head.persistent:
            return []
        return ["Connection: keep-alive" if request.keep_alive else "Connection: close"]

    def regulate(self) -> None:
        """Read from the client only while there is a place for it."""
        request = self._request
        full = request is not None and (request.body.held >= BODY_AHEAD or len(self._buffer) >= HELD)
        full = full or self._lent
        if full != self._paused and not self._lost and not self._transport.is_closing():
            self._paused = full
            if full:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # What bodies use.

    @property
    def lendable(self) -> bool:
        """The bytes on the socket are the request's, and all that is to come will come there."""
        encrypted = self._transport.get_extra_info("ssl_object") is not None
        return not (encrypted or self._lost or self.half_closed or self._buffer or self._transport.is_closing())

    def duplicate(self) -> socket.socket:
        return duplicate(self._transport)

    def reading_lent(self, lent: bool) -> None:
        self._lent = lent
        self.regulate()

    def returned(self, rest: bytes) -> None:
        """What a thread has received after the request's end."""
        self._buffer += rest

    # What handlers use.

    async def send(self, data: bytes) -> None:
        """Send; returns when there is room for more. Raises ClientGone."""
        if self._lost or self._transport.is_closing():
            raise ClientGone
        self._transport.write(data)
        if self._room is not None:
            await asyncio.shield(self._room)
            if self._lost:
                raise ClientGone

    async def while_connected(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`; cancel it and raise ClientGone when the client goes away or the daemon stops."""
        if self._gone:
            work.close()
            raise ClientGone
        task = asyncio.create_task(work)
        self._works.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if self._gone and task.cancelled():
                raise ClientGone from None
            raise
        finally:
            self._works.discard(task)

    async def take_over(self, request: Request, head: bytes) -> RawStream:
        """From here on the connection is a raw stream in both directions; `head` is the last of HTTP to be sent.

        What follows the request is the stream's first input. The handler must return None after the stream has ended.
        Raises ClientGone.
        """
        await request.body.drop()
        if self._lost:
            raise ClientGone
        stream = self._as_stream(self._buffer)
        self._transport.write(head)
        return stream

    def _as_stream(self, ahead: bytes) -> RawStream:
        if self._hang_up is not None:
            self._hang_up.close()
            self._hang_up = None
        self._buffer = b""
        return RawStream(self.loop, self._transport, ahead, self.half_closed, self.connection_lost)

    # What the listener uses.

    def client_gone(self) -> None:
        """Stop everything that only served this client."""
        self._gone = True
        for work in self._works:
            work.cancel()

    def close_idle(self) -> None:
        """Close the connection if no request is under way."""
        if self.task is None:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


class Listener:
    """Serves a handler on sockets until closed; with `tls`, those that are not unix sockets speak it.

    `tls` is asked at each connection, so that certificates may change meanwhile.
    """

    def __init__(
        self,
        handler: RequestHandler,
        sockets: Sequence[socket.socket],
        grace: float = 10.0,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self.handler = handler
        self.closing = False
        self.connections: set[Connection] = set()
        self._sockets = sockets
        self._tls = tls
        self._grace = grace  # seconds that requests under way get to finish
        self._servers: list[asyncio.AbstractServer] = []

    async def __aenter__(self) -> Listener:
        loop = asyncio.get_running_loop()
        tls = self._tls

        def plain() -> Connection:
            return Connection(self, loop)

        for listening in self._sockets:
            if listening.family == socket.AF_UNIX:
                server = await loop.create_unix_server(plain, sock=listening, backlog=BACKLOG)
            elif tls is None:
                server = await loop.create_server(plain, sock=listening, backlog=BACKLOG)
            else:
                server = await loop.create_server(partial(Tls, plain, tls, loop), sock=listening, backlog=BACKLOG)
            self._servers.append(server)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.closing = True
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.client_gone()
            connection.close_idle()
        if tasks := self._tasks():
            await asyncio.wait(tasks, timeout=self._grace)
        for task in (left := self._tasks()):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for connection in list(self.connections):
            connection.abort()

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [connection.task for connection in self.connections if connection.task is not None]
