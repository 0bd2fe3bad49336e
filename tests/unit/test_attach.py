"""The hub against a stand-in for conmon: a sequenced packet socket that speaks as it does."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.runtime import attach
from wherry.runtime.attach import Backlog, Hub, Session

PIECES = st.lists(st.tuples(st.sampled_from((1, 2)), st.binary(min_size=1, max_size=400)), max_size=40)


@given(PIECES, st.lists(st.booleans(), max_size=80))
def test_a_backlog_gives_back_what_it_was_given_in_order(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, bytes]], takes: list[bool]
) -> None:
    backlog = Backlog(tmp_path_factory.getbasetemp(), in_memory=500)
    taken: list[tuple[int, bytes]] = []
    waiting = list(pieces)
    for take in takes:
        if take:
            if (piece := backlog.get()) is not None:
                taken.append(piece)
        elif waiting:
            backlog.put(*waiting.pop(0))
    for piece in waiting:
        backlog.put(*piece)
    while (rest := backlog.get()) is not None:
        taken.append(rest)
    backlog.close()
    assert taken == pieces


@pytest.fixture
async def monitor(tmp_path: Path) -> AsyncIterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "attach"))
        listener.listen()
        listener.setblocking(False)
        yield listener


async def accept(listener: socket.socket) -> socket.socket:
    connection, _ = await asyncio.get_running_loop().sock_accept(listener)
    return connection


async def collect(session: Session) -> list[tuple[int, bytes]]:
    return [piece async for piece in session.output()]


async def all_of(hub: Hub, session: Session) -> list[tuple[int, bytes]]:
    """What a session gets when the engine ends it after the monitor has closed its side."""
    await hub.drained()
    hub.end()
    return await collect(session)


async def test_sessions_opened_before_the_start_see_the_first_byte(tmp_path: Path, monitor: socket.socket) -> None:
    hub = Hub(tmp_path, tty=False, stdin_once=False)
    both = hub.session(stdin=False, stdout=True, stderr=True)
    errors = hub.session(stdin=False, stdout=False, stderr=True)
    hub.connect(tmp_path / "attach")
    with await accept(monitor) as conmon:
        conmon.send(b"\x02out")
        conmon.send(b"\x03err")
    assert await all_of(hub, both) == [(1, b"out"), (2, b"err")]
    assert await collect(errors) == [(2, b"err")]
    assert not hub.connected


async def test_a_session_that_does_not_read_stalls_nobody(tmp_path: Path, monitor: socket.socket) -> None:
    hub = Hub(tmp_path, tty=False, stdin_once=False)
    slow = hub.session(stdin=False, stdout=True, stderr=True)
    hub.connect(tmp_path / "attach")
    loop, count = asyncio.get_running_loop(), 3 * attach.IN_MEMORY // 8000
    with await accept(monitor) as conmon:
        for number in range(count):
            await loop.sock_sendall(conmon, b"\x02" + str(number).encode().ljust(8000))
    assert [int(data) for _, data in await all_of(hub, slow)] == list(range(count))
    await slow.close()


async def test_input_and_its_end_reach_the_monitor(tmp_path: Path, monitor: socket.socket) -> None:
    hub = Hub(tmp_path, tty=False, stdin_once=True)
    session = hub.session(stdin=True, stdout=True, stderr=False)
    writing = asyncio.create_task(session.write(b"x" * 100_000))  # before the process is there
    await asyncio.sleep(0)
    hub.connect(tmp_path / "attach")
    loop = asyncio.get_running_loop()
    with await accept(monitor) as conmon:
        received = b""
        while len(received) < 100_000:
            packet = await loop.sock_recv(conmon, 32 * 1024)
            assert len(packet) < 32 * 1024
            received += packet
        await writing
        await session.close_stdin()
        assert await loop.sock_recv(conmon, 10) == b""
        conmon.send(b"\x02still here")
    assert received == b"x" * 100_000
    assert await all_of(hub, session) == [(1, b"still here")]


async def test_input_that_ended_before_the_start_is_ended_at_the_start(tmp_path: Path, monitor: socket.socket) -> None:
    hub = Hub(tmp_path, tty=False, stdin_once=True)
    session = hub.session(stdin=True, stdout=True, stderr=False)
    await session.close_stdin()
    hub.connect(tmp_path / "attach")
    with await accept(monitor) as conmon:
        assert await asyncio.get_running_loop().sock_recv(conmon, 10) == b""
    assert await all_of(hub, session) == []


async def test_the_last_session_to_leave_disconnects(tmp_path: Path, monitor: socket.socket) -> None:
    hub = Hub(tmp_path, tty=True, stdin_once=False)
    first, second = (hub.session(stdin=False, stdout=True, stderr=True) for _ in range(2))
    hub.connect(tmp_path / "attach")
    with await accept(monitor):
        await first.close()
        assert hub.connected
        await second.close()
        assert not hub.connected
    assert await collect(first) == []


async def test_a_socket_path_longer_than_an_address_connects(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    hub = Hub(folder, tty=False, stdin_once=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        (tmp_path / "s").symlink_to(folder)
        listener.bind(str(tmp_path / "s" / "attach"))
        listener.listen()
        hub.connect(folder / "attach")
        assert hub.connected
    hub.end()


async def test_sessions_end_only_when_the_engine_says_so(tmp_path: Path, monitor: socket.socket) -> None:
    """A client that asks for the exit code when its stream has ended must find it."""
    hub = Hub(tmp_path, tty=False, stdin_once=False)
    session = hub.session(stdin=False, stdout=True, stderr=True)
    hub.connect(tmp_path / "attach")
    (await accept(monitor)).close()
    await hub.drained()
    collecting = asyncio.create_task(collect(session))
    await asyncio.sleep(0.01)
    assert not collecting.done()
    hub.end()
    assert await collecting == []
