"""The API over TLS: who is served, and half-close in both directions."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.certificates import Authority, Pair
from wherry.api.app import App, Call, Route
from wherry.api.server import Answer, Listener, Response
from wherry.api.sockets import bind_tcp
from wherry.api.tls import server_context
from wherry.errors import InvalidParameter, SystemFailure
from wherry.storage.streams import consume
from wherry.storage.tar import Source

PING = b"GET /ping HTTP/1.1\r\nHost: d\r\n\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Pair:
    return authority.issue("server", "IP:127.0.0.1")


@pytest.fixture(scope="module")
def client(authority: Authority) -> Pair:
    return authority.issue("client")


def ping(call: Call) -> Response:
    return call.json("pong")


def large(call: Call) -> Response:
    return call.encoded(b"1" * 3_000_000)


async def length(call: Call) -> Answer:
    return call.json(sum([len(piece) async for piece in call.content]))


async def consumed(call: Call) -> Answer:
    """A body that a thread reads, straight off the socket where that can be."""

    def read(source: Source) -> int:
        return sum(len(piece) for piece in iter(lambda: source.read(65536), b""))

    return call.json(await consume(call.content, read))


async def reverse(call: Call) -> Answer:
    """A raw stream that answers only when its input has ended."""
    stream = await call.take_over(b"HTTP/1.1 200 OK\r\n\r\n")
    got = b""
    while data := await stream.read():
        got += data
    await stream.write(got[::-1])
    await stream.finish()
    return None


async def until_gone(call: Call) -> Answer:
    stream = await call.take_over(b"HTTP/1.1 200 OK\r\n\r\n")
    await stream.write(b"x" * 100)
    await stream.gone
    return None


ROUTES = [
    Route("GET", "/ping", ping),
    Route("GET", "/large", large),
    Route("POST", "/length", length),
    Route("POST", "/consumed", consumed),
    Route("POST", "/reverse", reverse),
    Route("POST", "/until-gone", until_gone),
]


@asynccontextmanager
async def serving(context: ssl.SSLContext | None) -> AsyncIterator[int]:
    listening = bind_tcp("127.0.0.1", 0)
    tls = None if context is None else lambda: context
    async with asyncio.timeout(20), Listener(App(ROUTES), [listening], grace=1, tls=tls):
        yield listening.getsockname()[1]


class Session:
    """The client's end, in which TLS's close and the socket's are different things. All blocking."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="127.0.0.1")

    def send(self, data: bytes) -> None:
        self._do(lambda: self.tls.write(data))
        self._flush()

    def end(self) -> None:
        """Say that no more comes, and read on."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:  # it would also read the other's end
            pass
        self._flush()

    def read(self) -> bytes:
        try:
            return self._do(lambda: self.tls.read(65536)) or b""
        except ssl.SSLZeroReturnError:
            return b""

    def rest(self) -> bytes:
        data = b""
        while piece := self.read():
            data += piece
        return data

    def shut_socket(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def _do(self, work):  # type: ignore[no-untyped-def]
        while True:
            try:
                return work()
            except ssl.SSLWantReadError:
                self._flush()
                data = self._socket.recv(65536)
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()

    def _flush(self) -> None:
        if data := self.outgoing.read():
            self._socket.sendall(data)


def trusting(authority: Authority, pair: Pair | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.cert))
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    return context


async def test_only_clients_of_the_authority_are_served(
    authority: Authority, server: Pair, client: Pair, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "other").issue("stranger")
    async with serving(server_context(server.cert, server.key, authority.cert)) as port:

        def ask(pair: Pair | None) -> bytes:
            session = Session(port, trusting(authority, pair))
            try:
                session.send(PING)
                return session.read()
            finally:
                session.close()

        assert (await asyncio.to_thread(ask, client)).endswith(b'"pong"\n')
        for refused in (None, stranger):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.to_thread(ask, refused)
        plain = socket.create_connection(("127.0.0.1", port))
        plain.sendall(PING)
        plain.settimeout(10)
        assert b"pong" not in await asyncio.to_thread(plain.recv, 1000)
        plain.close()
        assert (await asyncio.to_thread(ask, client)).endswith(b'"pong"\n')


async def test_bodies_both_ways(authority: Authority, server: Pair) -> None:
    async with serving(server_context(server.cert, server.key, None)) as port:

        def ask() -> None:
            session = Session(port, trusting(authority, None))
            session.send(b"POST /length HTTP/1.1\r\nHost: d\r\nContent-Length: 2000000\r\n\r\n")
            for _ in range(20):
                session.send(b"x" * 100_000)
            assert session.read().endswith(b"2000000\n")
            session.send(b"GET /large HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
            assert len(session.rest().partition(b"\r\n\r\n")[2]) == 3_000_001
            session.close()

        await asyncio.to_thread(ask)


async def test_a_body_that_a_thread_reads_is_decrypted(authority: Authority, server: Pair) -> None:
    async with serving(server_context(server.cert, server.key, None)) as port:

        def ask() -> bytes:
            session = Session(port, trusting(authority, None))
            session.send(b"POST /consumed HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(20):
                session.send(b"%x\r\n%s\r\n" % (100_000, b"x" * 100_000))
            session.send(b"0\r\n\r\n")
            answer = session.read()
            session.close()
            return answer

        assert (await asyncio.to_thread(ask)).endswith(b"2000000\n")


@pytest.mark.parametrize("how", ["by TLS's word", "by the socket's end"])
async def test_the_end_of_input_does_not_cut_the_output(authority: Authority, server: Pair, how: str) -> None:
    async with serving(server_context(server.cert, server.key, None)) as port:

        def ask() -> bytes:
            session = Session(port, trusting(authority, None))
            session.send(b"POST /reverse HTTP/1.1\r\nHost: d\r\n\r\n")
            assert session.read() == b"HTTP/1.1 200 OK\r\n\r\n"
            session.send(b"abc")
            if how == "by TLS's word":
                session.end()
            else:
                session.shut_socket()
            rest = session.rest()
            session.close()
            return rest

        assert await asyncio.to_thread(ask) == b"cba"


async def test_a_client_that_is_gone_is_noticed(authority: Authority, server: Pair) -> None:
    async with serving(server_context(server.cert, server.key, None)) as port:

        def ask() -> Session:
            session = Session(port, trusting(authority, None))
            session.send(b"POST /until-gone HTTP/1.1\r\nHost: d\r\n\r\n")
            assert session.read()
            return session

        session = await asyncio.to_thread(ask)
        before = {task for task in asyncio.all_tasks() if task.get_coro().__name__ == "_answer"}  # type: ignore[union-attr]
        assert len(before) == 1
        session.end()
        session.close()
        await asyncio.wait(before)


async def test_plain_tcp() -> None:
    async with serving(None) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(PING)
        assert await reader.readuntil(b'"pong"\n')
        writer.close()


def test_files_that_are_none(authority: Authority, server: Pair, client: Pair, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    for cert, key, ca, words in (
        (tmp_path / "none", server.key, None, f"could not load TLS file {tmp_path / 'none'}: no such file"),
        (broken, server.key, None, "could not load X509 key pair"),
        (server.cert, client.key, None, "could not load X509 key pair"),
        (server.cert, server.key, broken, f"could not read CA certificate {broken}"),
    ):
        with pytest.raises(InvalidParameter) as caught:
            server_context(cert, key, ca)
        assert str(caught.value).startswith(words)


def test_an_address_that_is_taken() -> None:
    first = bind_tcp("127.0.0.1", 0)
    port = first.getsockname()[1]
    with pytest.raises(SystemFailure, match=f"cannot listen on tcp://127.0.0.1:{port}: Address already in use"):
        bind_tcp("127.0.0.1", port)
    first.close()
