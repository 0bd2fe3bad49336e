"""Bodies that a thread reads straight off the socket."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.api.http1 import Chunked, Measured
from wherry.api.lending import BUFFER, LentBody
from wherry.errors import InvalidParameter


def chunks(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"


def sent(data: bytes, *, close: bool = False) -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection, one of which is being sent `data`."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)

    def send() -> None:
        with contextlib.suppress(OSError):  # the test is over
            theirs.sendall(data)
            if close:
                theirs.shutdown(socket.SHUT_WR)

    threading.Thread(target=send).start()
    return ours, theirs


def all_of(body: LentBody, size: int) -> bytes:
    read = b""
    while piece := body.read(size):
        assert len(piece) <= size
        read += piece
    return read


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 400), st.binary(max_size=30), st.integers(0, 200))
def test_what_was_sent_is_read(pieces: list[bytes], size: int, after: bytes, early: int) -> None:
    """Also where the loop has seen the beginning, and where the next request follows."""
    data = chunks(pieces) + after
    early = min(early, len(data) - len(after) - 1)
    frames = Chunked()
    ahead, _ = frames.feed(data[:early])
    ours, theirs = sent(data[early:])
    with ours, theirs:
        body = LentBody(ours, frames, ahead)
        assert all_of(body, size) == b"".join(pieces)
        unread, rest = body.unread()
        assert (unread, rest + received(ours, len(after) - len(rest))) == ([], after)
        assert frames.complete


def received(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += connection.recv(size - len(data))
    return data


def test_copied_into_a_file(tmp_path: Path) -> None:
    content = os.urandom(3 * BUFFER + 17)
    data = chunks([content[start : start + 32768] for start in range(0, len(content), 32768)])
    ours, theirs = sent(data)
    with ours, theirs, (tmp_path / "file").open("wb") as file:
        body = LentBody(ours, Chunked(), [])
        head = body.read(5)
        left = len(content) - 100 - len(head)
        while left:
            left -= body.copy_to(file.fileno(), left)
        assert all_of(body, BUFFER) == content[-100:]
    assert head + (tmp_path / "file").read_bytes() == content[:-100]


def test_of_known_length() -> None:
    ours, theirs = sent(b"abcdefNEXT")
    with ours, theirs:
        body = LentBody(ours, Measured(6), [])
        assert all_of(body, 4) == b"abcdef"
        assert body.unread() == ([], b"NEXT")


def test_what_is_not_read_is_given_back() -> None:
    ours, theirs = sent(chunks([b"abc", b"def"]))
    with ours, theirs:
        frames = Chunked()
        body = LentBody(ours, frames, [b"0"])
        assert (body.read(9), body.read(2)) == (b"0", b"ab")
        unread, rest = body.unread()
        ours.setblocking(False)
        while not frames.complete:
            pieces, rest = frames.feed(rest or ours.recv(100))
            unread += pieces
        assert (b"".join(unread), rest) == (b"cdef", b"")


@pytest.mark.parametrize("data", [b"", b"5\r\nab", b"zz\r\n", b"3\r\nabcX"])
def test_broken_off_or_malformed(data: bytes) -> None:
    ours, theirs = sent(data, close=True)
    with ours, theirs:
        body = LentBody(ours, Chunked(), [])
        with pytest.raises(InvalidParameter):
            all_of(body, 10)
        assert body.broken is not None


def test_cancelled() -> None:
    ours, theirs = sent(b"5\r\nab")
    with ours, theirs:
        body = LentBody(ours, Chunked(), [])
        assert body.read(2) == b"ab"
        threading.Timer(0.05, body.cancel).start()
        with pytest.raises(InvalidParameter, match="the sender went away"):
            body.read(2)
