"""Connections over a real unix socket, with handlers made for the case."""

import asyncio
import logging
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.api import http1, server
from wherry.api.app import App, Call, Route
from wherry.api.rawstream import ClientGone
from wherry.api.server import Answer, Listener, Response
from wherry.api.sockets import bind_unix

HOST = b"Host: d\r\n"
PING = b"GET /ping HTTP/1.1\r\n" + HOST + b"\r\n"


class Service:
    """Handlers, and what happened in them."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.went_away = asyncio.Event()
        self.release = asyncio.Event()
        self.entered = asyncio.Event()

    def routes(self) -> list[Route]:
        def ping(call: Call) -> Response:
            return call.json("pong")

        async def echo(call: Call) -> Answer:
            self.bodies.append(b"".join([piece async for piece in call.content]))
            return call.json(len(self.bodies[-1]))

        async def slow(call: Call) -> Answer:
            self.entered.set()
            await self.release.wait()
            return call.json("late")

        async def stream(call: Call) -> Answer:
            response = await call.stream("text/plain")
            await response.write(b"one")
            await response.write(b"")
            await response.write(b"two")
            return response

        async def breaks(call: Call) -> Answer:
            response = await call.stream("text/plain")
            await response.write(b"one")
            raise RuntimeError("in the middle")

        async def pipe(call: Call) -> Answer:
            raise BrokenPipeError(32, "Broken pipe")

        def at_once(call: Call) -> Response:
            raise BrokenPipeError(32, "Broken pipe")

        async def forever(call: Call) -> Answer:
            async def write() -> None:
                while True:
                    await response.write(b"x" * 65536)

            response = await call.stream("text/plain")
            try:
                await call.while_connected(write())
            except ClientGone:
                self.went_away.set()
                raise
            return response

        def large(call: Call) -> Response:
            return call.encoded(b"1" * 4_000_000)

        return [
            Route("GET", "/ping", ping),
            Route("HEAD", "/ping", ping),
            Route("POST", "/echo", echo),
            Route("GET", "/slow", slow),
            Route("GET", "/stream", stream),
            Route("HEAD", "/stream", stream),
            Route("GET", "/breaks", breaks),
            Route("GET", "/pipe", pipe),
            Route("GET", "/at-once", at_once),
            Route("GET", "/forever", forever),
            Route("GET", "/large", large),
        ]


class Peer:
    """A client that sends bytes and sees bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        """The next answer with Content-Length or chunks."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        status, body = int(head[0].split()[1]), b""
        if head_only or status in (204, 304) or status < 200:
            return status, headers, body
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await self.reader.readline(), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        else:
            body = await self.reader.readexactly(int(headers["content-length"]))
        return status, headers, body

    async def rest(self) -> bytes:
        return await self.reader.read()


@asynccontextmanager
async def serving(tmp_path: Path, service: Service, grace: float = 5.0) -> AsyncIterator[Path]:
    path = tmp_path / "api.sock"
    async with asyncio.timeout(20), Listener(App(service.routes()), [bind_unix(path, None)], grace=grace):
        yield path


@asynccontextmanager
async def peer(tmp_path: Path, service: Service | None = None) -> AsyncIterator[Peer]:
    async with serving(tmp_path, service or Service()) as path:
        one = Peer(*await asyncio.open_unix_connection(path, limit=1 << 24))
        try:
            yield one
        finally:
            one.writer.close()


async def test_a_connection_is_kept(tmp_path: Path) -> None:
    async with peer(tmp_path) as one:
        for _ in range(3):
            one.send(PING)
            status, headers, body = await one.answer()
            assert (status, body) == (200, b'"pong"\n')
            assert "connection" not in headers


@pytest.mark.parametrize("step", [1, 3, 1000])
async def test_requests_sent_together_are_answered_in_their_order(tmp_path: Path, step: int) -> None:
    service = Service()
    post = b"POST /echo HTTP/1.1\r\n" + HOST
    wire = (
        PING
        + post + b"Content-Length: 5\r\n\r\nhello"
        + b"\r\n" + PING.replace(b"GET", b"HEAD")
        + post + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
        + b"GET /nope HTTP/1.1\r\n" + HOST + b"\r\n"
        + PING
    )  # fmt: skip
    async with peer(tmp_path, service) as one:
        for start in range(0, len(wire), step):
            one.send(wire[start : start + step])
            if step < 100:
                await asyncio.sleep(0)
        one.writer.write_eof()
        assert (await one.answer())[2] == b'"pong"\n'
        assert (await one.answer())[2] == b"5\n"
        assert (await one.answer(head_only=True))[1]["content-length"] == "7"
        assert (await one.answer())[2] == b"7\n"
        assert (await one.answer())[0] == 404
        assert (await one.answer())[2] == b'"pong"\n'
        assert await one.rest() == b""
        assert service.bodies == [b"hello", b"abcdefg"]


async def test_thousands_of_requests_at_once(tmp_path: Path) -> None:
    async with peer(tmp_path) as one:
        one.send(PING * 3000)
        for _ in range(3000):
            assert (await one.answer())[0] == 200


async def test_empty_lines_before_a_request(tmp_path: Path) -> None:
    async with peer(tmp_path) as one:
        one.send(b"\r\n" * 100_000 + PING)
        assert (await one.answer())[0] == 200


async def test_http_1_0(tmp_path: Path) -> None:
    async with peer(tmp_path) as one:
        one.send(b"GET /ping HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert (await one.answer())[1]["connection"] == "keep-alive"
        one.send(b"GET /stream HTTP/1.0\r\n\r\n")  # no chunks: the end of the connection is the end of the answer
        head, _, body = (await one.rest()).partition(b"\r\n\r\n")
        assert b"Transfer-Encoding" not in head
        assert body == b"onetwo"


async def test_streamed_answers(tmp_path: Path) -> None:
    async with peer(tmp_path) as one:
        one.send(b"HEAD /stream HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await one.answer(head_only=True))[0] == 200
        one.send(b"GET /stream HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await one.answer())[2] == b"onetwo"
        one.send(b"GET /breaks HTTP/1.1\r\n" + HOST + b"\r\n")
        rest = await one.rest()
        assert rest.endswith(b"3\r\none\r\n")  # no last chunk: the reader can tell


@pytest.mark.parametrize("path", ["pipe", "at-once"])
async def test_a_broken_pipe_in_a_handler_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str) -> None:
    async with peer(tmp_path) as one:
        one.send(f"GET /{path} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
        status, _, body = await one.answer()
        assert (status, body) == (500, b'{"message":"internal error: BrokenPipeError: [Errno 32] Broken pipe"}\n')
        assert "unexpected failure" in caplog.text
        one.send(PING)
        assert (await one.answer())[0] == 200


async def test_the_client_is_asked_for_the_body_only_when_it_is_wanted(tmp_path: Path) -> None:
    service = Service()
    expecting = HOST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    async with peer(tmp_path, service) as one:
        one.send(b"POST /echo HTTP/1.1\r\n" + expecting)
        assert (await one.answer())[0] == 100
        one.send(b"abc")
        assert (await one.answer())[2] == b"3\n"
        one.send(b"POST /echo HTTP/1.1\r\n" + expecting + b"def")  # it did not wait: no need to ask
        assert (await one.answer())[2] == b"3\n"
        one.send(b"POST /nope HTTP/1.1\r\n" + expecting)
        status, headers, _ = await one.answer()
        assert (status, headers["connection"]) == (404, "close")
        assert await one.rest() == b""


async def test_a_body_that_nobody_reads_is_skipped(tmp_path: Path) -> None:
    async with peer(tmp_path) as one:
        one.send(b"POST /nope HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n")
        assert (await one.answer())[0] == 404
        one.send(b"x" * 100_000 + PING)
        assert (await one.answer())[2] == b'"pong"\n'
        one.send(b"POST /nope HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
        assert (await one.answer())[0] == 404
        one.send(http1.chunk(b"x" * 1000) + http1.LAST_CHUNK + PING)
        assert (await one.answer())[2] == b'"pong"\n'


async def test_a_large_body_that_nobody_reads_ends_the_connection(tmp_path: Path) -> None:
    async with peer(tmp_path) as one:
        size = 64 << 20
        one.send(b"POST /nope HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % size + b"x" * 1_000_000)
        status, headers, _ = await one.answer()
        assert (status, headers["connection"]) == (404, "close")


async def test_a_body_that_breaks_off(tmp_path: Path) -> None:
    service = Service()
    async with peer(tmp_path, service) as one:
        one.send(b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\nabc")
        one.writer.write_eof()
        status, headers, body = await one.answer()
        assert (status, body, headers["connection"]) == (400, b'{"message":"unexpected EOF"}\n', "close")
        assert service.bodies == []


@pytest.mark.parametrize(
    ("size", "problem"),
    [
        (b"zz", "invalid byte in chunk length"),
        (b"", "empty hex number for chunk length"),
        (b";x=y", "empty hex number for chunk length"),
        (b"1" * 17, "http chunk length too large"),
        (b"1" * 16 + b"z", "invalid byte in chunk length"),
    ],
)
async def test_a_body_in_broken_chunks(tmp_path: Path, size: bytes, problem: str) -> None:
    async with peer(tmp_path) as one:
        one.send(b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\n")
        status, headers, body = await one.answer()
        assert (status, headers["connection"]) == (400, "close")
        assert body == f'{{"message":"{problem}"}}\n'.encode()
        assert await one.rest() == b""


@pytest.mark.parametrize("sent", [b"G", b"GET /ping HTTP/1.1\r\n", b"GET /ping HTTP/1.1\r\nHost: d\r\n"])
async def test_a_head_that_breaks_off(tmp_path: Path, sent: bytes) -> None:
    async with peer(tmp_path) as one:
        one.send(sent)
        one.writer.write_eof()
        assert (await one.rest()).startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize(
    ("sent", "line"),
    [
        (b"\x16\x03\x01\x02\x00\x01\n", b"HTTP/1.1 400 Bad Request: lines must end in CR LF"),
        (b"GET /ping HTTP/1.1\nHost: d\n\n", b"HTTP/1.1 400 Bad Request: lines must end in CR LF"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"HTTP/1.1 505 HTTP Version Not Supported: unsupported protocol version"),
        (b"GET /ping HTTP/1.1\r\n\r\n" + PING, b"HTTP/1.1 400 Bad Request: missing required Host header"),
        (
            b"GET /ping HTTP/1.1\r\nX: " + b"a" * (http1.MAX_HEAD + 100),
            b"HTTP/1.1 431 Request Header Fields Too Large",
        ),
    ],
    ids=["TLS", "bare line feeds", "HTTP/2", "no host", "large"],
)
async def test_malformed_requests_end_the_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sent: bytes, line: bytes
) -> None:
    with caplog.at_level(logging.INFO):
        async with peer(tmp_path) as one:
            one.send(PING + sent)
            assert (await one.answer())[0] == 200
            rest = await one.rest()
            assert rest.split(b"\r\n")[0] == line
            assert rest.count(b"HTTP/1.1 ") == 1
    assert not caplog.records  # any client could fill the log


async def test_a_head_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.05)
    async with peer(tmp_path) as one:
        one.send(PING)
        await one.answer()
        await asyncio.sleep(0.1)  # waiting between requests is no offence
        one.send(PING)
        await one.answer()
        one.send(b"GET /ping HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):
            if await one.rest() == b"":
                raise ConnectionResetError


async def test_a_client_that_does_not_read_is_waited_for(tmp_path: Path) -> None:
    async with serving(tmp_path, Service()) as path:
        lazy = socket.socket(socket.AF_UNIX)
        lazy.connect(str(path))
        lazy.setblocking(False)
        lazy.send((b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n") * 3)
        other = Peer(*await asyncio.open_unix_connection(path))
        other.send(PING)
        assert (await other.answer())[0] == 200
        other.writer.close()
        got = 0
        loop = asyncio.get_running_loop()
        while got < 3 * 4_000_000:
            got += len(await loop.sock_recv(lazy, 1 << 20))
        lazy.close()


async def test_a_client_that_leaves_stops_what_served_it(tmp_path: Path) -> None:
    service = Service()
    async with peer(tmp_path, service) as one:
        one.send(b"GET /forever HTTP/1.1\r\n" + HOST + b"\r\n")
        await one.reader.read(1000)
        one.writer.transport.abort()
        await service.went_away.wait()


async def test_a_stop_lets_requests_finish(tmp_path: Path) -> None:
    service = Service()
    async with serving(tmp_path, service) as path:
        idle, busy = [Peer(*await asyncio.open_unix_connection(path)) for _ in range(2)]
        idle.send(PING)
        await idle.answer()
        busy.send(b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n")
        await service.entered.wait()
        asyncio.get_running_loop().call_later(0.05, service.release.set)
    status, headers, body = await busy.answer()
    assert (status, headers["connection"], body) == (200, "close", b'"late"\n')
    assert await busy.rest() == await idle.rest() == b""
    for one in (idle, busy):
        one.writer.close()


async def test_a_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    service = Service()
    async with serving(tmp_path, service, grace=0.05) as path:
        busy = Peer(*await asyncio.open_unix_connection(path))
        busy.send(b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n")
        await service.entered.wait()
    assert await busy.rest() == b""
    busy.writer.close()


async def test_a_slow_handler_bounds_what_is_read_ahead(tmp_path: Path) -> None:
    seen: list[int] = []

    async def handler(request: server.Request) -> Answer:
        await asyncio.sleep(0.1)
        seen.append(request.body.held)
        while await request.body.read():
            pass
        return Response(200, {})

    path = tmp_path / "api.sock"
    async with asyncio.timeout(20), Listener(handler, [bind_unix(path, None)]):
        one = Peer(*await asyncio.open_unix_connection(path))
        size = 8 << 20
        one.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
        assert (await one.answer())[0] == 200
        one.writer.close()
    assert seen[0] < server.BODY_AHEAD + (512 << 10)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([PING, PING[:-3], b"\r\n\r\n"])), max_size=12))
def test_whatever_clients_send_before_they_leave_nothing_of_them_stays(sent: list[bytes]) -> None:
    async def clients(path: Path) -> None:
        async with asyncio.timeout(20), Listener(App(Service().routes()), [bind_unix(path, None)]) as listener:
            for data in sent:
                _, writer = await asyncio.open_unix_connection(path)
                writer.write(data)
                writer.close()
                await writer.wait_closed()
            one = Peer(*await asyncio.open_unix_connection(path))
            one.send(PING)
            assert (await one.answer())[2] == b'"pong"\n'
            one.writer.close()
            while listener.connections:  # noqa: ASYNC110 - the transports say nothing when they have closed
                await asyncio.sleep(0)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(clients(Path(folder) / "api.sock"))
