"""Heads and bodies of HTTP/1.1 as bytes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.api import http1
from wherry.api.http1 import Chunked, Malformed, Measured

GET = b"GET /x?a=1&b=%20 HTTP/1.1\r\nHost: d"


def test_a_head() -> None:
    head = http1.read_head(
        b"POST /v1.45/a%2Fb?q=%25 HTTP/1.1\r\nhost:d\r\nX-One: \t a b \r\nx-one:c\r\nContent-Length: 12"
    )
    assert (head.method, head.path, head.query, head.length) == ("POST", "/v1.45/a%2Fb", "q=%25", 12)
    assert head.headers["X-ONE"] == head.headers.get("x-oNe") == "a b, c"
    assert "HOST" in head.headers
    assert "nope" not in head.headers
    assert (head.keep_alive, head.persistent, head.expects_continue) == (True, True, False)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [("/", "/", ""), ("*", "*", ""), ("http://h:1/a?b", "/a", "b"), ("HTTP://h?b", "/", "b"), ("/a?b?c", "/a", "b?c")],
)
def test_targets(target: str, path: str, query: str) -> None:
    head = http1.read_head(f"GET {target} HTTP/1.1\r\nHost: d".encode())
    assert (head.path, head.query) == (path, query)


@pytest.mark.parametrize(
    ("data", "status", "why"),
    [
        (b"", 400, ""),
        (b"FOO", 400, ""),
        (b"GET  / HTTP/1.1\r\nHost: d", 400, ""),
        (b"GET / HTTP/1.1 \r\nHost: d", 400, ""),
        (b"GET foo HTTP/1.1\r\nHost: d", 400, ""),
        (b"G\xc3T / HTTP/1.1\r\nHost: d", 400, ""),
        (b"GET / HTTP/2.0\r\nHost: d", 505, "unsupported protocol version"),
        (b"GET / HTTP/1.1", 400, "missing required Host header"),
        (b"GET / HTTP/1.1\r\nHost: a b", 400, "malformed Host header"),
        (GET + b"\r\nno colon", 400, ""),
        (GET + b"\r\nname : value", 400, "invalid header name"),
        (GET + b"\r\n: value", 400, ""),
        (GET + b"\r\nx: a\r\n folded", 400, ""),
        (GET + b"\r\nx: a\nb: c", 400, ""),
        (GET + b"\r\nx: a\0b", 400, ""),
        (GET + b"\r\nx: a\rb", 400, ""),
        (GET + b"\r\nx: a\x01b", 400, ""),
        (GET + b"\r\nx: a\x7fb", 400, ""),
        (GET + b"\r\nHost: e", 400, ""),
        (b"GET /%zz HTTP/1.1\r\nHost: d", 400, ""),
        (b"GET /a% HTTP/1.1\r\nHost: d", 400, ""),
        (GET + b"\r\nContent-Length: z", 400, ""),
        (GET + b"\r\nContent-Length: -1", 400, ""),
        (GET + b"\r\nContent-Length: +1", 400, ""),
        (GET + b"\r\nContent-Length:", 400, ""),
        (GET + b"\r\nContent-Length: 1\r\nContent-Length: 2", 400, ""),
        (GET + b"\r\nContent-Length: " + b"9" * 40, 400, ""),
        (GET + b"\r\nTransfer-Encoding: gzip", 501, "unsupported transfer encoding"),
        (GET + b"\r\nTransfer-Encoding: gzip, chunked", 501, "unsupported transfer encoding"),
        (
            GET + b"\r\nTransfer-Encoding: chunked\r\nContent-Length: 3",
            400,
            "message with both Transfer-Encoding and Content-Length",
        ),
        (GET + b"\r\nExpect: wonders", 417, ""),
    ],
)
def test_what_is_malformed_is_refused(data: bytes, status: int, why: str) -> None:
    with pytest.raises(Malformed) as caught:
        http1.read_head(data)
    assert str(caught.value) == why
    line, _, rest = caught.value.answer.partition(b"\r\n")
    assert line.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close\r\n" in rest
    assert rest.endswith(why.encode())


def test_a_length_may_be_told_twice() -> None:
    assert http1.read_head(GET + b"\r\nContent-Length: 1\r\nContent-Length: 1").length == 1


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        ("1.1", "", True),
        ("1.1", "close", False),
        ("1.1", "foo, Close", False),
        ("1.1", "Upgrade", True),
        ("1.0", "", False),
        ("1.0", "Keep-Alive", True),
    ],
)
def test_whether_the_connection_stays(version: str, connection: str, kept: bool) -> None:
    head = http1.read_head(f"GET / HTTP/{version}\r\nHost: d\r\nConnection: {connection}".encode())
    assert head.keep_alive is kept


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_malformed(data: bytes) -> None:
    for head in (data, GET + b"\r\n" + data):
        try:
            http1.read_head(head)
        except Malformed:
            pass


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(
    st.lists(st.binary(max_size=50), max_size=6), st.lists(st.integers(0, 10_000), max_size=12), st.binary(max_size=9)
)
def test_bodies_are_the_same_however_they_come(pieces: list[bytes], cuts: list[int], after: bytes) -> None:
    whole = b"".join(pieces)
    chunked = b"".join(http1.chunk(piece) for piece in pieces if piece)
    forms: list[tuple[Measured | Chunked, bytes]] = [
        (Measured(len(whole)), whole),
        (Chunked(), chunked + http1.LAST_CHUNK),
        (Chunked(), chunked + b"000;ext=1\r\nTrailer: x\r\n\r\n"),
    ]
    for frames, wire in forms:
        got, rest = b"", b""
        for part in _cut(wire + after, cuts):
            if frames.complete:
                rest += part
                continue
            found, rest = frames.feed(part)
            got += b"".join(found)
        assert frames.complete
        assert (got, rest) == (whole, after)


@pytest.mark.parametrize(
    "wire",
    [
        b"zz\r\n",
        b"-1\r\n",
        b"0x3\r\nabc\r\n",
        b"\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc3\r\n",
        b"1" * 17 + b"\r\n",
        b"3" + b" " * http1.MAX_CHUNK_LINE + b"\r\n",
        b"3;" + b"x" * http1.MAX_CHUNK_LINE,
        b"0\r\n" + (b"a: " + b"b" * 4000 + b"\r\n") * 5,
        b"3\nabc\r\n",
        b"3;\nabc\r\n",
        b"3;a=\rb\r\nabc\r\n",
        b"0\r\na: b\n",
        b"3\r\nabc\n",
    ],
    ids=range(15),
)
def test_broken_chunks(wire: bytes) -> None:
    with pytest.raises(Malformed):
        Chunked().feed(wire)


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (b"3\n", "chunked line ends with bare LF"),
        (b"3;" + b"x" * http1.MAX_CHUNK_LINE, "header line too long"),
        (b"3;" + b"x" * http1.MAX_CHUNK_LINE + b"\r\n", "header line too long"),
    ],
)
def test_broken_chunks_in_the_words_of_go(wire: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        Chunked().feed(wire)


def test_the_head_of_an_answer() -> None:
    lines = http1.head(200, {"A": "b"}, "Content-Length: 3").split(b"\r\n")
    assert lines[:3] == [b"HTTP/1.1 200 OK", b"A: b", b"Content-Length: 3"]
    assert lines[3].startswith(b"Date: ")
    assert lines[4:] == [b"", b""]


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\n", "\r"])
def test_no_line_break_gets_into_a_head(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        http1.head(200, {"A": value})
