"""Streams under stress: clients that do not read, that are many, that go away at the wrong moment."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.support.engine import Engine, eventually
from tests.support.http import Hijacked, Stream

ALL: dict[str, Any] = {"stream": 1, "stdin": 1, "stdout": 1, "stderr": 1}
INTERACTIVE: dict[str, Any] = {"OpenStdin": True, "StdinOnce": True, "AttachStdin": True}
MUCH = 6_000_000  # bytes; more than all buffers between a container and a client hold together
WRITE_MUCH = f"yes 0123456789abcde | head -c {MUCH}; echo written >&2"


def descriptors(pid: int) -> int:
    """How many a daemon has open, but for those that come when they are first needed and stay.

    They are its one inotify instance, and the database's: SQLite keeps one of a connection that is closed for the next,
    since closing it would drop the locks of the others (sqlite.org/src, os_unix.c, "Posix Advisory Locking").
    """
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            target = os.readlink(link)
            count += target != "anon_inode:inotify" and not target.endswith("/wherry.db")
    return count


@pytest.fixture
def level(engine: Engine) -> Iterator[None]:
    """Whatever a test opens, the daemon's descriptors are as many after it as before."""
    if engine.pid is None:
        yield
        return
    pid = engine.pid
    before = descriptors(pid)
    yield
    engine.tidy_containers()
    eventually(lambda: descriptors(pid) <= before, what="the end of the daemon's use of descriptors")


pytestmark = pytest.mark.usefixtures("level")


@contextmanager
def another_process(engine: Engine, path: str) -> Iterator[subprocess.Popen[bytes]]:
    """A client in a process of its own that attaches and copies to its stdout."""
    program = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "s.sendall(f'POST {sys.argv[2]} HTTP/1.1\\r\\nHost: x\\r\\nConnection: Upgrade\\r\\nUpgrade: tcp\\r\\n"
        "Content-Length: 0\\r\\n\\r\\n'.encode())\n"
        "while data := s.recv(4096): os.write(1, data)\n"
    )
    command = [sys.executable, "-c", program, str(engine.http.path), f"/v1.45{path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def head_of(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = process.stdout.read(1)
        assert byte, head
        head += byte
    return head


def test_stopped_client(engine: Engine) -> None:
    """A client in SIGSTOP stalls neither container nor log nor another client; awake again, it misses nothing."""
    container = engine.create(["sh", "-c", WRITE_MUCH])
    attach = f"/containers/{container}/attach"
    with another_process(engine, f"{attach}?stream=1&stdout=1") as sleeper:
        assert b" 101 " in head_of(sleeper)
        sleeper.send_signal(signal.SIGSTOP)
        with engine.http.hijack(attach, stream=1, stdout=1, stderr=1) as other:
            engine.start(container)
            if engine.name == "docker":
                return  # it lets the container wait for the slowest client
            out, err = other.output()
        assert (len(out), err) == (MUCH, b"written\n")
        assert engine.wait(container) == 0
        assert len(engine.logs(container, stderr=0)[0]) == MUCH
        sleeper.send_signal(signal.SIGCONT)
        rest, _ = sleeper.communicate(timeout=20)
    assert len(rest) > MUCH  # with the heads of frames
    assert rest.count(b"0123456789abcde\n") > MUCH // 16 - 1000  # those that no frame's head cuts


def test_clients_that_never_read(engine: Engine) -> None:
    """Of logs, attach, exec and events: none of them stalls what others do."""
    container = engine.create(["sh", "-c", f"{WRITE_MUCH}; sleep 60"])
    with ExitStack() as open_streams:
        path = f"/containers/{container}"
        open_streams.enter_context(engine.http.stream("GET", "/events"))
        engine.start(container)
        open_streams.enter_context(engine.http.stream("GET", f"{path}/logs", follow=1, stdout=1))
        made = engine.exec_create(container, ["sh", "-c", WRITE_MUCH])
        open_streams.enter_context(engine.http.hijack(f"/exec/{made}/start", {}))
        for number in range(5):
            assert engine.output(["echo", str(number)]) == f"{number}\n"
        eventually(lambda: b"written" in engine.logs(container, stdout=0)[1], what="all in the log")


def test_a_hundred_clients(engine: Engine) -> None:
    """Each gets all."""
    container = engine.create(["sh", "-c", "cat; seq 1000"], **INTERACTIVE)
    expected = b"go\n" + b"".join(b"%d\n" % number for number in range(1, 1001))
    with ExitStack() as clients:
        attach = f"/containers/{container}/attach"
        watching = [clients.enter_context(engine.http.hijack(attach, stream=1, stdout=1, stderr=1)) for _ in range(100)]
        speaker = clients.enter_context(engine.http.hijack(attach, **ALL))
        engine.start(container)
        speaker.send(b"go\n")
        speaker.half_close()
        for client in [speaker, *watching]:
            assert client.output() == (expected, b"")
    assert engine.wait(container) == 0


def test_fast_writer_and_slow_reader(engine: Engine) -> None:
    """As fast as it can, to a reader of 64 KB now and then: all arrives, in order, and the log has all of it."""
    lines = 400_000
    container = engine.create(["seq", str(lines)])
    with engine.http.hijack(f"/containers/{container}/attach", stream=1, stdout=1) as slow:
        engine.start(container)
        if engine.name == "wherry":
            assert engine.wait(container) == 0  # before anything was read
        out, _ = slow.output()
    expected = b"".join(b"%d\n" % number for number in range(1, lines + 1))
    assert (len(out), out == expected) == (len(expected), True)
    assert engine.logs(container)[0] == expected


def attached(engine: Engine, command: str) -> tuple[str, Hijacked]:
    container = engine.create(["sh", "-c", command], **INTERACTIVE)
    connection = engine.http.hijack(f"/containers/{container}/attach", **ALL)
    return container, connection


def executed(engine: Engine, command: str) -> tuple[str, Hijacked]:
    container = engine.idle()
    made = engine.exec_create(container, ["sh", "-c", command], AttachStdin=True)
    return "", engine.http.hijack(f"/exec/{made}/start", {})


@pytest.mark.parametrize("opened", [attached, executed])
@pytest.mark.parametrize(
    ("command", "sent", "half_close", "expected"),
    [
        ("wc -c", b"abc", True, (b"3\n", b"")),  # the client's end first
        ("exec <&-; echo closed", b"", False, (b"closed\n", b"")),  # the process's input first
        ("exec <&-; sleep 0.2; echo late", b"x" * 300_000, True, (b"late\n", b"")),  # it never reads what is sent
        ("exec >&- 2>&-; cat; sleep 0.2", b"x\n", True, (b"", b"")),  # its output first
        ("exec >&-; cat >&2", b"x\n", True, (b"", b"x\n")),  # one of its outputs
        ("exec <&- >&- 2>&-; sleep 0.2", b"x", False, (b"", b"")),  # all of them
    ],
)
def test_half_closed_in_every_order(
    engine: Engine, opened: Any, command: str, sent: bytes, half_close: bool, expected: tuple[bytes, bytes]
) -> None:
    container, connection = opened(engine, command)
    with connection:
        if container:
            engine.start(container)
        try:
            connection.send(sent)
            if half_close:
                connection.half_close()
        except (BrokenPipeError, OSError):
            pass  # the process had ended before
        assert connection.output() == expected


def test_half_close_before_the_start(engine: Engine) -> None:
    container, connection = attached(engine, "cat; echo end")
    with connection:
        connection.send(b"early\n")
        connection.half_close()
        engine.start(container)
        assert connection.output() == (b"early\nend\n", b"")


def test_much_stdin_to_a_slow_process(engine: Engine) -> None:
    """It waits at the client, not in the daemon's memory."""
    container, connection = attached(engine, "sleep 0.5; md5sum | cut -c 1-32")
    before = engine.memory()
    data = b"0123456789abcdef" * 1_000_000
    with connection:
        engine.start(container)

        def feed() -> None:
            connection.send(data)
            connection.half_close()

        feeder = Thread(target=feed)
        feeder.start()
        out, err = connection.output()
        feeder.join()
    assert (out.decode().strip(), err) == (hashlib.md5(data).hexdigest(), b"")
    assert engine.memory() - before < 8 << 20


def test_large_copies_take_no_memory(engine: Engine) -> None:
    """Into a container and out of it: what waits for the disk or for the client is not kept by the daemon."""
    size, piece = 128 << 20, os.urandom(1 << 20)
    memory = [engine.memory()]

    def archive() -> Iterator[bytes]:
        member = tarfile.TarInfo("large")
        member.size = size
        yield member.tobuf()
        for _ in range(size // len(piece)):
            memory.append(engine.memory())
            yield piece
        yield bytes(1024)

    path = f"/containers/{engine.create(['true'])}/archive"
    assert engine.http.request("PUT", path, body=archive(), path="/").status == 200
    content, header = hashlib.sha256(), 512
    with engine.http.stream("GET", path, path="/large") as stream:
        for chunk in stream.chunks():
            memory.append(engine.memory())
            content.update(chunk[header:])
            header -= min(header, len(chunk))
    assert content.digest() == hashlib.sha256(b"".join(archive())[512:]).digest()
    assert max(memory) - memory[0] < 16 << 20


@pytest.mark.parametrize("pieces", [[b"\x10\x11"], [b"\x10", b"\x11"], [b"x\x10\x11"], [b"\x10a\x10\x11rest"]])
def test_detach_keys_while_it_writes(engine: Engine, pieces: list[bytes]) -> None:
    """In one piece, in several, after a false start, with more behind: the client is let go, the container runs on."""
    command = ["sh", "-c", "for i in $(seq 500); do echo busy; sleep 0.01; done"]  # a missed sequence ends it
    container = engine.create(command, Tty=True, **{**INTERACTIVE, "StdinOnce": False})
    with engine.http.hijack(f"/containers/{container}/attach", **ALL) as connection:
        engine.start(container)
        connection.read_until(b"busy")
        for piece in pieces:
            connection.send(piece)
        connection.read()
    assert engine.state(container)["Running"]


def test_killed_clients_leave_nothing(engine: Engine) -> None:
    """Killed in the middle of all kinds of streams: no task and no descriptor stays, the container runs on."""
    container = engine.run(["sh", "-c", "yes"])
    path = f"/containers/{container}"
    streams: list[Hijacked | Stream] = []
    for _ in range(5):
        made = engine.exec_create(container, ["sh", "-c", "exec head -c 100000000 /dev/zero"], AttachStdin=True)
        streams += [
            engine.http.hijack(f"/exec/{made}/start", {}),
            engine.http.hijack(f"{path}/attach", **ALL),
            engine.http.stream("GET", f"{path}/logs", follow=1, stdout=1),
            engine.http.stream("GET", "/events"),
            engine.http.stream("POST", f"{path}/wait"),
            engine.http.stream("GET", f"{path}/stats"),
        ]
    for stream in streams:
        stream.close()
    assert engine.state(container)["Running"]
    assert engine.output(["echo", "alive"]) == "alive\n"


def test_client_killed_between_attach_and_start(engine: Engine) -> None:
    container, connection = attached(engine, "echo on its own; cat")
    with connection:
        connection.send(b"typed ahead\n")
    engine.start(container)
    eventually(lambda: engine.logs(container)[0].startswith(b"on its own\n"))
