"""Requests byte for byte: what is malformed, what no handler sees, and the headers of such answers."""

import json
import socket

import pytest

from tests.support.engine import Engine

END = b" HTTP/1.1\r\nHost: d\r\nConnection: close\r\n"
OURS = {"api-version", "docker-experimental", "ostype", "server"}


class Answer:
    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n")
        self.status = int(line.split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}

    @property
    def message(self) -> str:
        text: str = json.loads(self.body)["message"]
        return text


def ask(engine: Engine, request: bytes) -> Answer:
    """What comes until the engine closes the connection."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(engine.http.path))
        connection.sendall(request)
        data = b""
        while piece := connection.recv(65536):
            data += piece
    return Answer(data)


def get(engine: Engine, target: str, method: str = "GET") -> Answer:
    return ask(engine, f"{method} {target}".encode() + END + b"\r\n")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /containers/%zz/json" + END,
        b"GET /containers/a%/json" + END,
        b"GET /_ping" + END + b"Host: e\r\n",
        b"GET /_ping" + END + b"X-A: a\x01b\r\n",
        b"GET /_ping" + END + b"Content-Length: -1\r\n",
        b"GET /_ping" + END + b"Content-Length: 1\r\nContent-Length: 2\r\n",
    ],
)
def test_malformed_requests(engine: Engine, request_: bytes) -> None:
    answer = ask(engine, request_ + b"\r\n")
    assert (answer.status, answer.body) == (400, b"400 Bad Request")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_a_space_after_a_header_s_name(engine: Engine) -> None:
    answer = ask(engine, b"GET /_ping" + END + b"X-A : a\r\n\r\n")
    assert answer.body == b"400 Bad Request: invalid header name"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("all=1;limit=2", "invalid semicolon separator in query"),
        ("all=%zz", 'invalid URL escape "%zz"'),
        ("%4&b=1", 'invalid URL escape "%4"'),
    ],
)
def test_malformed_queries(engine: Engine, query: str, message: str) -> None:
    for method, path in (("GET", "/containers/json"), ("POST", "/containers/nope/start"), ("GET", "/images/json")):
        answer = get(engine, f"{path}?{query}", method)
        assert (answer.status, answer.message) == (400, message)
        assert answer.headers.keys() >= OURS


def test_a_version_that_is_not_spoken_is_told_with_the_one_that_is(engine: Engine) -> None:
    for method, version in (("GET", "1.99"), ("GET", "1.2"), ("OPTIONS", "1.2")):
        answer = get(engine, f"/v{version}/info", method)
        assert answer.status == 400
        assert answer.message.startswith(f"client version {version} is too ")
        assert answer.headers.keys() & OURS == OURS - {"docker-experimental"}


def test_an_unknown_path_is_not_found_whatever_the_version(engine: Engine) -> None:
    for target in ("/v1.99/nothing", "/v1.45", "/nothing"):
        answer = get(engine, target)
        assert (answer.status, answer.message, answer.headers.keys() & OURS) == (404, "page not found", set())


def test_options_of_anything(engine: Engine) -> None:
    for target in ("/containers/json", "/v1.45/nothing"):
        answer = get(engine, target, "OPTIONS")
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers.keys() >= OURS


def test_escapes_in_a_path_are_undone_before_it_is_looked_up(engine: Engine) -> None:
    assert get(engine, "/%5fping").body == b"OK"
    assert get(engine, "/containers/a%2Fb%3b/json").message == "No such container: a/b;"


@pytest.mark.parametrize(
    ("target", "location"),
    [("//_ping", "/_ping"), ("/a/../_ping?x=1", "/_ping?x=1"), ("/./x%20y//z/", "/x%20y/z/"), ("/..", "/")],
)
def test_a_path_that_is_not_clean_is_redirected(engine: Engine, target: str, location: str) -> None:
    answer = get(engine, target)
    assert (answer.status, answer.headers["location"], answer.body) == (301, location, b"")


def test_head_only_where_it_is_an_operation(engine: Engine) -> None:
    assert get(engine, "/_ping", "HEAD").status == 200
    assert get(engine, "/containers/json", "HEAD").status == 404


def test_a_head_of_a_megabyte_is_read_and_a_larger_one_is_not(engine: Engine) -> None:
    assert ask(engine, b"GET /_ping" + END + b"X-A: " + b"a" * (1 << 20) + b"\r\n\r\n").status == 200
    assert ask(engine, b"GET /_ping" + END + b"X-A: " + b"a" * ((1 << 20) + 5000)).status == 431


def test_bodies_that_nobody_reads(engine: Engine) -> None:
    asked = b"GET /_ping HTTP/1.1\r\nHost: d\r\n"
    for body in (
        b"Content-Length: 5\r\n\r\nhello",
        b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n5;ext\r\nhello\r\n0\r\nX-A: 1\r\n\r\n",
    ):
        answer = ask(engine, asked + body + b"GET /_ping" + END + b"\r\n")
        assert answer.body.count(b"HTTP/1.1 200 OK") == 1
        assert answer.body.endswith(b"OK")


def test_a_body_is_asked_for(engine: Engine) -> None:
    head = b"POST /volumes/create" + END + b"Content-Type: application/json\r\nContent-Length: 2\r\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(engine.http.path))
        connection.sendall(head + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{]")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
    assert ask(engine, head + b"Expect: wonders\r\n\r\n{]").status == 417
