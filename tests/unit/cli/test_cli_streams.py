"""Frames, detach keys, and HTTP over a socket in the file system."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.cli.detach import DEFAULT, Watcher, parse
from wherry.cli.session import keys_text
from wherry.client.connection import AddressError, ConnectionFailed, ProtocolError, parse_host
from wherry.client.engine import ApiMismatch, Engine, EngineError, escape, query_string
from wherry.client.frames import Demultiplexer, FrameError


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50)), max_size=8), st.integers(1, 20))
def test_frames_however_they_are_cut(frames: list[tuple[int, bytes]], size: int) -> None:
    data = b"".join(frame(stream, piece) for stream, piece in frames)
    demultiplexer = Demultiplexer()
    out = {1: b"", 2: b""}
    for at in range(0, len(data), size):
        for stream, piece in demultiplexer.feed(data[at : at + size]):
            out[stream] += piece
    assert out == {number: b"".join(piece for stream, piece in frames if stream == number) for number in (1, 2)}


def test_not_frames() -> None:
    with pytest.raises(FrameError):
        Demultiplexer().feed(b"plain text, no frame")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", DEFAULT),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a", b"a"),
        ("ctrl-@,x", b"\x00x"),
        ("ctrl-[", b"\x1b"),
        ("ctrl-_", b"\x1f"),
    ],
)
def test_detach_keys(text: str, keys: bytes) -> None:
    assert parse(text) == keys
    assert parse(keys_text(keys)) == keys


@pytest.mark.parametrize("text", ["xx", "ctrl-1", "ctrl-", ",", "é"])
def test_not_detach_keys(text: str) -> None:
    with pytest.raises(ValueError, match="invalid detach keys"):
        parse(text)


@pytest.mark.parametrize(
    ("typed", "passed", "detached"),
    [
        ([b"abc"], b"abc", False),
        ([b"\x10"], b"", False),
        ([b"\x10", b"a"], b"\x10a", False),
        ([b"\x10\x10\x11"], b"\x10\x10\x11", False),
        ([b"\x10\x10", b"\x10\x11"], b"\x10\x10", True),
        ([b"x\x10", b"\x11y"], b"x", True),
    ],
)
def test_detaching(typed: list[bytes], passed: bytes, detached: bool) -> None:
    watcher = Watcher(DEFAULT)
    out, done = b"", False
    for data in typed:
        piece, done = watcher.feed(data)
        out += piece
    assert (out, done) == (passed, detached)


@given(st.binary().filter(lambda data: DEFAULT not in data), st.integers(1, 5))
def test_nothing_typed_is_lost_or_made_up(data: bytes, size: int) -> None:
    watcher = Watcher(DEFAULT)
    out = b""
    for at in range(0, len(data), size):
        piece, done = watcher.feed(data[at : at + size])
        assert not done
        out += piece
    assert data in (out, out + DEFAULT[:1])


@pytest.mark.parametrize(
    ("host", "parsed"),
    [
        ("unix:///run/x.sock", ("unix", "/run/x.sock")),
        ("tcp://localhost:1234", ("tcp", ("localhost", 1234))),
        ("tcp://[::1]:1234", ("tcp", ("::1", 1234))),
        ("tcp://host", ("tcp", ("host", 2375))),
        ("host:99", ("tcp", ("host", 99))),
    ],
)
def test_addresses(host: str, parsed: tuple[str, object]) -> None:
    assert parse_host(host) == parsed


@pytest.mark.parametrize("host", ["foo://x", "tcp://x:y", "tcp://x:99999"])
def test_not_addresses(host: str) -> None:
    with pytest.raises(AddressError, match="invalid bind address format"):
        parse_host(host)


def test_query_strings() -> None:
    query = {"b": True, "a": "x y", "none": None, "l": ["1", "2"], "f": {"k": {"v": True}}}
    assert query_string(query) == "?a=x%20y&b=1&f=%7B%22k%22%3A%7B%22v%22%3Atrue%7D%7D&l=1&l=2"
    assert query_string({}) == ""
    assert escape("a/b:c@d", "/:@") == "a/b:c@d"


class FakeEngine:
    """Answers each request with the next canned text; keeps what it was asked. A client of it is `engine`."""

    def __init__(self, folder: Path, answers: list[bytes]) -> None:
        self.asked: list[bytes] = []
        self._answers = answers
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(folder / "s"))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.engine = Engine(f"unix://{folder / 's'}")

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            for answer in self._answers:
                data = b""
                while b"\r\n\r\n" not in data:
                    data += connection.recv(65536) or b"\r\n\r\n"
                self.asked.append(data)
                connection.sendall(answer)

    def close(self) -> None:
        self.engine.close()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Callable[..., FakeEngine]]:
    made: list[FakeEngine] = []

    def make(*answers: bytes) -> FakeEngine:
        made.append(FakeEngine(tmp_path, list(answers)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def answer(body: bytes, status: str = "200 OK", extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status.encode(), extra, len(body), body)


PING = answer(b"", extra=b"Api-Version: 1.45\r\n")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
Fake = Callable[..., FakeEngine]


def test_a_request_on_the_negotiated_version(fake: Fake) -> None:
    server = fake(PING, answer(b'[{"Id":"x"}]'))
    assert server.engine.get("/containers/json", {"all": True}) == [{"Id": "x"}]
    assert server.asked[0].startswith(b"HEAD /_ping HTTP/1.1\r\n")
    assert server.asked[1].startswith(b"GET /v1.45/containers/json?all=1 HTTP/1.1\r\n")


def test_chunks_and_lines(fake: Fake) -> None:
    body = b"3\r\none\r\n6;x=y\r\n\ntwo\nt\r\n4\r\nhree\r\n0\r\n\r\n"
    server = fake(PING, CHUNKED + body, answer(b"null"))
    response = server.engine.open("GET", "/events")
    assert list(response.lines()) == [b"one", b"two", b"three"]
    assert response.reusable
    server.engine.finish(response)
    assert server.engine.get("/next") is None


def test_a_connection_that_went_stale_is_replaced(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    engine = Engine(f"unix://{tmp_path / 's'}")

    def serve() -> None:
        for text in (PING, answer(b"1")):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(text)

    thread = threading.Thread(target=serve)
    thread.start()
    engine.negotiate()
    while not (engine._idle and engine._idle.stale):
        pass
    assert engine.post("/x") == 1
    engine.close()
    thread.join()
    listener.close()


def test_a_body_that_ends_early(fake: Fake) -> None:
    server = fake(PING, CHUNKED + b"9\r\nhalf")
    response = server.engine.open("GET", "/x")
    with pytest.raises(ProtocolError, match="unexpected EOF"):
        response.read()
    response.connection.close()


def test_a_refusal_is_in_the_engines_words(fake: Fake) -> None:
    body = b'{"message":"No such container: x"}\n'
    server = fake(PING, answer(body, "404 Not Found", b"Content-Type: application/json\r\n"))
    with pytest.raises(EngineError) as caught:
        server.engine.get("/containers/x/json")
    assert (caught.value.status, str(caught.value)) == (404, "No such container: x")


def test_a_newer_engine_is_spoken_to_in_what_we_know(fake: Fake) -> None:
    engine = fake(answer(b"", extra=b"Api-Version: 1.99\r\n")).engine
    assert engine.negotiate() == "1.51"
    assert engine.at_least(51)
    assert not engine.at_least(52)


def test_an_engine_that_is_too_old(fake: Fake) -> None:
    with pytest.raises(ApiMismatch, match=r"1\.20"):
        fake(answer(b"", extra=b"Api-Version: 1.20\r\n")).engine.negotiate()


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFailed):
        Engine(f"unix://{tmp_path}/none").negotiate()
