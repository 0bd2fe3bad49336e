"""Connections taken over, with a fake process behind a real unix socket."""

import asyncio
import itertools
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.api import hijack
from wherry.api.app import App, Call, Route
from wherry.api.server import Answer, Listener
from wherry.api.sockets import bind_unix
from wherry.errors import InvalidParameter, NotFound

ATTACH = b"POST /v1.45/containers/x/attach?stream=1 HTTP/1.1\r\nHost: d\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
HEAD_101 = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)


class Process:
    """A session whose process the test plays: it writes with `say`, and what it was given is in `stdin`."""

    def __init__(self, *, tty: bool = False) -> None:
        self.tty = tty
        self.stdin = bytearray()
        self.stdin_closed = asyncio.Event()
        self.closed = asyncio.Event()
        self.deaf = False
        self.taken = 0  # bytes of output that were asked for
        self._said: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()

    def say(self, data: bytes, stream: int = 1) -> None:
        self._said.put_nowait((stream, data))

    def end(self) -> None:
        self._said.put_nowait(None)

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        while piece := await self._said.get():
            self.taken += len(piece[1])
            yield piece

    async def write(self, data: bytes) -> None:
        if self.deaf:
            raise BrokenPipeError
        self.stdin += data

    async def close_stdin(self) -> None:
        self.stdin_closed.set()

    async def close(self) -> None:
        self.closed.set()


class Client:
    """A raw socket of a client's."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.setblocking(False)
        self.loop = asyncio.get_running_loop()
        self.path = path

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.socket, data)

    async def connect(self, data: bytes) -> None:
        await self.loop.sock_connect(self.socket, str(self.path))
        await self.send(data)

    async def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = await self.loop.sock_recv(self.socket, size - len(data))
            assert piece, f"ended after {data!r}"
            data += piece
        return data

    async def rest(self) -> bytes:
        data = b""
        while piece := await self.loop.sock_recv(self.socket, 65536):
            data += piece
        return data

    def end_input(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)


@asynccontextmanager
async def attached(tmp_path: Path, process: Process) -> AsyncIterator[Client]:
    async def attach(call: Call) -> Answer:
        return await hijack.serve(call, process, b"\x10\x11")

    async def missing(call: Call) -> Answer:
        return await hijack.refuse(call, NotFound("No such container: ghost"))

    async def ping(call: Call) -> Answer:
        return call.json({"path": call.path, "version": call.version})

    path = tmp_path / "api.sock"
    app = App(
        [
            Route("POST", "/containers/ghost/attach", missing),
            Route("POST", "/containers/{name:.*}/attach", attach),
            Route("GET", "/ping/{name:.*}", ping),
        ]
    )
    client = Client(path)
    async with asyncio.timeout(10), Listener(app, [bind_unix(path, None)], grace=0.1):
        try:
            yield client
        finally:
            client.socket.close()


async def test_frames_both_streams_and_ends_with_the_output(tmp_path: Path) -> None:
    process = Process()
    async with attached(tmp_path, process) as client:
        await client.connect(ATTACH + UPGRADE)
        assert await client.read(len(HEAD_101)) == HEAD_101
        process.say(b"out")
        process.say(b"err", 2)
        assert await client.read(22) == b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x03err"
        process.end()
        assert await client.rest() == b""
        client.socket.close()
        await process.closed.wait()


async def test_without_an_upgrade_and_with_a_terminal_it_is_plain(tmp_path: Path) -> None:
    process = Process(tty=True)
    async with attached(tmp_path, process) as client:
        await client.connect(ATTACH + b"\r\n")
        process.say(b"out")
        process.end()
        assert await client.rest() == (b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nout")


@pytest.mark.parametrize("pieces", [1, 2, 7, 10_000], ids="{} at once".format)
async def test_input_sent_with_the_request_is_not_lost(tmp_path: Path, pieces: int) -> None:
    process = Process()
    sent = ATTACH + b"Content-Length: 2\r\n" + UPGRADE + b"{}hello"
    async with attached(tmp_path, process) as client:
        await client.connect(b"")
        step = max(1, len(sent) // pieces)
        for start in range(0, len(sent), step):
            await client.send(sent[start : start + step])
            await asyncio.sleep(0)
        client.end_input()
        await process.stdin_closed.wait()
        assert process.stdin == b"hello"
        process.say(b"late")
        process.end()
        assert (await client.rest()).endswith(b"late")


async def test_the_end_of_input_reaches_the_process_and_cuts_no_output(tmp_path: Path) -> None:
    process = Process()
    async with attached(tmp_path, process) as client:
        await client.connect(ATTACH + UPGRADE)
        await client.read(len(HEAD_101))
        await client.send(b"abc")
        client.end_input()
        await process.stdin_closed.wait()
        assert process.stdin == b"abc"
        assert not process.closed.is_set()
        process.say(b"x" * 300_000)
        process.end()
        assert len(await client.rest()) == 300_008


async def test_output_ends_before_input(tmp_path: Path) -> None:
    process = Process()
    async with attached(tmp_path, process) as client:
        await client.connect(ATTACH + UPGRADE)
        await client.read(len(HEAD_101))
        process.end()
        assert await client.rest() == b""
        with suppress(BrokenPipeError, ConnectionResetError):
            await client.send(b"too late")
        client.socket.close()
        await process.closed.wait()


async def test_a_client_that_goes_away_closes_the_session(tmp_path: Path) -> None:
    process = Process()
    async with attached(tmp_path, process) as client:
        await client.connect(ATTACH + UPGRADE)
        await client.read(len(HEAD_101))
        client.socket.close()
        await process.closed.wait()
        assert not process.stdin_closed.is_set()


async def test_a_client_that_goes_away_after_ending_its_input(tmp_path: Path) -> None:
    process = Process()
    async with attached(tmp_path, process) as client:
        await client.connect(ATTACH + UPGRADE)
        await client.read(len(HEAD_101))
        client.end_input()
        await process.stdin_closed.wait()
        client.socket.close()
        await process.closed.wait()


async def test_a_process_that_closed_its_stdin_keeps_talking(tmp_path: Path) -> None:
    process = Process()
    process.deaf = True
    async with attached(tmp_path, process) as client:
        await client.connect(ATTACH + UPGRADE)
        await client.read(len(HEAD_101))
        await client.send(b"x" * 1_000_000)
        process.say(b"out")
        assert await client.read(11) == b"\x01\0\0\0\0\0\0\x03out"
        client.end_input()
        process.end()
        assert await client.rest() == b""


async def test_a_slow_reader_holds_the_output_back(tmp_path: Path) -> None:
    process = Process()
    pieces = 200
    async with attached(tmp_path, process) as client:
        await client.connect(ATTACH + UPGRADE)
        await client.read(len(HEAD_101))
        for _ in range(pieces):
            process.say(b"x" * 32_768)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert process.taken < pieces * 32_768 / 4
        process.end()
        assert len(await client.rest()) == pieces * (32_768 + 8)


async def test_the_detach_sequence_ends_it_and_is_not_passed_on(tmp_path: Path) -> None:
    process = Process(tty=True)
    async with attached(tmp_path, process) as client:
        await client.connect(ATTACH + UPGRADE)
        await client.send(b"ls\x10x\x10")
        await client.send(b"\x11more")
        await client.rest()
        await process.closed.wait()
        assert process.stdin == b"ls\x10x"
        assert not process.stdin_closed.is_set()


async def test_without_a_terminal_the_sequence_is_input(tmp_path: Path) -> None:
    process = Process()
    async with attached(tmp_path, process) as client:
        await client.connect(ATTACH + UPGRADE)
        await client.send(b"\x10\x11")
        client.end_input()
        await process.stdin_closed.wait()
        assert process.stdin == b"\x10\x11"


async def test_refusal_is_plain_text(tmp_path: Path) -> None:
    async with attached(tmp_path, Process()) as client:
        await client.connect(ATTACH.replace(b"/x/", b"/ghost/") + UPGRADE)
        assert await client.rest() == (
            b"HTTP/1.1 404 Not Found\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
            b"No such container: ghost\r\n"
        )


async def test_requests_follow_each_other_on_one_connection(tmp_path: Path) -> None:
    async with attached(tmp_path, Process()) as client:
        request = b"GET /v1.30/ping/a/b%20c HTTP/1.1\r\nHost: d\r\n"
        await client.connect(request + b"\r\n" + request + b"Connection: close\r\n\r\n")
        answers = await client.rest()
        assert answers.count(b'{"path":{"name":"a/b c"},"version":[1,30]}\n') == 2


async def test_paths_methods_and_versions_that_are_not_there(tmp_path: Path) -> None:
    async with attached(tmp_path, Process()) as client:
        await client.connect(
            b"GET /nope HTTP/1.1\r\nHost: d\r\n\r\nPUT /ping/x HTTP/1.1\r\nHost: d\r\n\r\n"
            b"GET /v1.99/ping/x HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"
        )
        answers = await client.rest()
        assert answers.count(b'{"message":"page not found"}\n') == 2
        assert b'"client version 1.99 is too new. Maximum supported API version is 1.45"' in answers
        assert answers.count(b"Api-Version: 1.45") == 1


def chunks(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return (data[start:end] for start, end in itertools.pairwise(places))


@given(st.text("\x10\x11ab", max_size=30), st.lists(st.integers(0, 100)))
def test_detach_watch_finds_the_sequence_however_it_is_cut(typed: str, cuts: list[int]) -> None:
    data = typed.encode()
    watch = hijack.DetachWatch(b"\x10\x11")
    passed, detached = b"", False
    for chunk in chunks(data, cuts):
        piece, detached = watch.feed(chunk)
        passed += piece
        if detached:
            break
    typed_before = rb"((?:\x10[^\x11]|[^\x10])*)"  # a first key with what breaks it off, or any other
    found = re.match(typed_before + rb"\x10\x11", data)
    whole = found or re.fullmatch(typed_before + rb"\x10?", data)
    assert whole
    assert (passed, detached) == (whole[1], found is not None)


def test_detach_keys() -> None:
    assert hijack.detach_keys("") == b"\x10\x11"
    assert hijack.detach_keys("ctrl-a,b,DEL,ctrl-_") == b"\x01b\x7f\x1f"
    for wrong in ("ctrl-ä", "ctrl-,,", "ctrl-_x", "ä", "xy"):
        with pytest.raises(InvalidParameter) as caught:
            hijack.detach_keys(wrong)
        assert str(caught.value) == f"Invalid detach keys ({wrong}) provided"
