"""GET /containers/{id}/attach/ws, frame by frame."""

from __future__ import annotations

import base64
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.engine import Engine, eventually

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
KEY = base64.b64encode(b"0123456789abcdef").decode()
HEADERS = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}
ALL = "stream=1&stdin=1&stdout=1&stderr=1"
NORMAL = (CLOSE, struct.pack(">H", 1000))


class Wire:
    """A client that sees frames."""

    def __init__(self, engine: Engine, container: str, query: str, version: str, headers: dict[str, str]) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(engine.http.path))
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = f"GET /{version}/containers/{container}/attach/ws?{query} HTTP/1.1\r\nHost: d\r\n{fields}\r\n"
        self.socket.sendall(request.encode())
        self._buffer = b""
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self._some()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        self.head = head.decode().split("\r\n")

    @property
    def status(self) -> int:
        return int(self.head[0].split()[1])

    def _some(self) -> bytes:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        return data

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._buffer += self._some()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def rest(self) -> bytes:
        while True:
            try:
                self._buffer += self._some()
            except EOFError:
                return self._buffer

    def send(self, opcode: int, data: bytes, *, final: bool = True, mask: bool = True) -> None:
        head = bytes([(0x80 if final else 0) | opcode, (0x80 if mask else 0) | len(data)])
        self.socket.sendall(head + (b"\0\0\0\0" if mask else b"") + data)

    def frame(self) -> tuple[int, bytes]:
        first, size = self._take(2)
        assert first & 0xF0 == 0x80  # whole messages, no extensions
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        return first & 0x0F, self._take(size)

    def until_close(self) -> tuple[bytes, tuple[int, bytes]]:
        """All output, and the frame that closes."""
        data = b""
        while (one := self.frame())[0] != CLOSE:
            assert one[0] == BINARY
            data += one[1]
        return data, one


@contextmanager
def attached(
    engine: Engine, container: str, query: str = ALL, *, version: str = "v1.45", **headers: str
) -> Iterator[Wire]:
    wire = Wire(engine, container, query, version, {**HEADERS, **headers})
    try:
        yield wire
    finally:
        wire.socket.close()


def waiting(engine: Engine, script: str, **options: Any) -> str:
    """A container whose script begins when it is sent a line."""
    return engine.run(["sh", "-c", f"read line; {script}"], OpenStdin=True, **options)


def test_input_and_output(engine: Engine) -> None:
    container = waiting(engine, 'echo "got $line"; exit 3')
    with attached(engine, container) as wire:
        assert wire.status == 101
        accepted = next(line for line in wire.head if line.lower().startswith("sec-websocket-accept: "))
        assert accepted.partition(": ")[2] == "BACScCJPNqyz+UBoqMH89VmURoA="
        wire.send(BINARY, b"hello\n")
        assert wire.until_close() == (b"got hello\n", NORMAL)
        assert wire.rest() == b""
    assert engine.wait(container) == 3


def test_any_byte_in_both_directions_and_much_of_it(engine: Engine) -> None:
    container = waiting(engine, "head -c 1000000 /dev/zero; exec cat")
    with attached(engine, container) as wire:
        wire.send(TEXT, b"go\n")
        got = 0
        while got < 1_000_000:
            opcode, data = wire.frame()
            assert (opcode, data.strip(b"\0")) == (BINARY, b"")
            got += len(data)
        wire.send(BINARY, b"\xff\xfe\0\n")
        assert wire.frame() == (BINARY, b"\xff\xfe\0\n")


def test_a_message_in_pieces_and_a_ping_between_them(engine: Engine) -> None:
    container = waiting(engine, 'echo "got $line"')
    with attached(engine, container) as wire:
        wire.send(TEXT, b"hel", final=False)
        wire.send(PING, b"are you there")
        assert wire.frame() == (PONG, b"are you there")
        wire.send(0, b"lo\n")
        assert wire.until_close() == (b"got hello\n", NORMAL)


def test_a_client_that_takes_its_leave(engine: Engine) -> None:
    container = waiting(engine, "sleep 60")
    with attached(engine, container) as wire:
        wire.send(CLOSE, struct.pack(">H", 1001) + b"bye")
        assert wire.frame() == NORMAL
        assert wire.rest() == b""
    assert engine.state(container)["Running"]


def test_a_client_that_does_not_mask(engine: Engine) -> None:
    container = waiting(engine, "sleep 60")
    with attached(engine, container) as wire:
        wire.send(BINARY, b"hello\n", mask=False)
        assert wire.frame() == (CLOSE, struct.pack(">H", 1002))
    assert engine.state(container)["Running"]


def test_the_log_first(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "echo one; read line; echo two"], OpenStdin=True)
    eventually(lambda: engine.logs(container)[0])
    with attached(engine, container, "logs=1&stream=1&stdin=1&stdout=1") as wire:
        assert wire.frame() == (BINARY, b"one\n")
        wire.send(BINARY, b"go\n")
        assert wire.until_close() == (b"two\n", NORMAL)
    with attached(engine, container, "logs=1&stdout=1") as wire:
        assert wire.until_close() == (b"one\ntwo\n", NORMAL)


def test_one_stream_of_the_two(engine: Engine) -> None:
    container = waiting(engine, "echo one; echo two >&2")
    with attached(engine, container, "stream=1&stdin=1&stderr=1") as wire:
        wire.send(BINARY, b"go\n")
        assert wire.until_close() == (b"two\n", NORMAL)


def test_detaching_from_a_terminal(engine: Engine) -> None:
    container = waiting(engine, "sleep 60", Tty=True)
    for query, keys in ((ALL, b"\x10\x11"), (f"{ALL}&detachKeys=ctrl-x,q", b"\x18q")):
        with attached(engine, container, query) as wire:
            wire.send(BINARY, keys[:1])
            wire.send(BINARY, keys[1:])
            assert wire.until_close() == (b"", NORMAL)
    assert engine.state(container)["Running"]


def test_before_the_start(engine: Engine) -> None:
    container = engine.create(["echo", "hi"])
    with attached(engine, container) as wire:
        assert wire.status == 101
        engine.start(container)
        assert wire.until_close() == (b"hi\n", NORMAL)


def test_older_clients_get_text(engine: Engine) -> None:
    container = waiting(engine, "echo hi")
    with attached(engine, container, version="v1.27") as wire:
        wire.send(TEXT, b"go\n")
        assert wire.frame() == (TEXT, b"hi\n")


@pytest.mark.parametrize(
    ("header", "value", "words"),
    [
        ("Upgrade", "tcp", b"not websocket protocol"),
        ("Sec-WebSocket-Version", "8", b"missing or bad WebSocket Version"),
        ("Sec-WebSocket-Key", "", b"mismatch challenge/response"),
    ],
)
def test_what_is_no_websocket(engine: Engine, header: str, value: str, words: bytes) -> None:
    container = waiting(engine, "true")
    with attached(engine, container, **{header: value}) as wire:
        assert wire.status == 400
        assert wire.rest() == words


def test_errors_come_before_the_handshake(engine: Engine) -> None:
    answer = engine.http.request("GET", "/containers/wt-nope/attach/ws", headers=HEADERS, stream=1)
    assert (answer.status, answer.message) == (404, "No such container: wt-nope")
    container = waiting(engine, "true")
    answer = engine.http.request("GET", f"/containers/{container}/attach/ws", headers=HEADERS, detachKeys="aaa")
    assert (answer.status, answer.message) == (400, "Invalid detach keys (aaa) provided")
    assert engine.http.post(f"/containers/{container}/pause").status == 204
    answer = engine.http.request("GET", f"/containers/{container}/attach/ws", headers=HEADERS, stream=1)
    assert answer.status == 409
    assert answer.message.endswith("is paused, unpause the container before attach")
    assert engine.http.post(f"/containers/{container}/unpause").status == 204
