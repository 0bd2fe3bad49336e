"""The ways to an engine: TLS with certificates, and ssh with a stand-in for the program."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from wherry.api.app import App, Call, Route
from wherry.api.server import Answer, Listener, Response
from wherry.api.sockets import bind_tcp, bind_unix
from wherry.api.tls import server_context
from wherry.client.connection import AddressError, ConnectionFailed, ProtocolError, SshAddress, TlsFiles, parse_host
from wherry.client.engine import Engine
from wherry.client.ssh import command

SOURCE = Path(__file__).resolve().parents[3] / "src"


def _ping(call: Call) -> Response:
    return call.json("pong")


async def _echo(call: Call) -> Answer:
    data = b"".join([piece async for piece in call.content])
    response = await call.stream("application/octet-stream")
    await response.write(data)
    return response


async def _reverse(call: Call) -> Answer:
    """A raw stream that answers only when its input has ended."""
    stream = await call.take_over(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
    got = b""
    while data := await stream.read():
        got += data
    await stream.write(got[::-1])
    await stream.finish()
    return None


ROUTES = [
    Route("HEAD", "/_ping", _ping),
    Route("GET", "/pong", _ping),
    Route("POST", "/echo", _echo),
    Route("POST", "/reverse", _reverse),
]


@contextmanager
def serving(open_: Callable[[], Listener]) -> Iterator[None]:
    """A listener in a thread with a loop of its own."""
    ready, stop = threading.Event(), threading.Event()

    async def run() -> None:
        async with open_():
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield
    finally:
        stop.set()
        thread.join()


def use(engine: Engine) -> None:
    """A plain request, a large body both ways, and a raw stream with half-close."""
    assert engine.get("/pong") == "pong"
    data = os.urandom(1 << 20)
    assert engine.finish(engine.open("POST", "/echo", body=data)) == data
    response = engine.open("POST", "/reverse", headers={"Connection": "Upgrade", "Upgrade": "tcp"}, private=True)
    stream, ahead = response.detach()
    stream.sendall(b"abc")
    stream.shutdown(socket.SHUT_WR)
    while piece := stream.recv(1000):
        ahead += piece
    assert ahead == b"cba"
    stream.close()
    assert engine.get("/pong") == "pong"
    engine.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@contextmanager
def tls_server(authority: Authority) -> Iterator[str]:
    pair = authority.issue("server", "IP:127.0.0.1")
    listening = bind_tcp("127.0.0.1", 0)
    port = listening.getsockname()[1]
    context = server_context(pair.cert, pair.key, authority.cert)
    with serving(lambda: Listener(App(ROUTES), [listening], tls=lambda: context)):
        yield f"tcp://127.0.0.1:{port}"


def test_over_tls(authority: Authority) -> None:
    client = authority.issue("client")
    with tls_server(authority) as host:
        use(Engine(host, TlsFiles(str(authority.cert), str(client.cert), str(client.key))))
        use(Engine(host, TlsFiles("", str(client.cert), str(client.key), verify=False)))


def test_who_is_not_trusted(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    stranger, client = other.issue("stranger"), authority.issue("client")
    with tls_server(authority) as host:
        for files, words in (
            (TlsFiles(str(other.cert), str(client.cert), str(client.key)), "certificate verify failed"),
            (TlsFiles(str(tmp_path / "none"), "", ""), "could not read CA certificate"),
            (TlsFiles(str(authority.cert), str(client.cert), str(stranger.key)), "could not load X509 key pair"),
        ):
            with pytest.raises(ProtocolError, match=words):
                Engine(host, files).get("/pong")
        for files in (
            TlsFiles(str(authority.cert)),
            TlsFiles(str(authority.cert), str(stranger.cert), str(stranger.key)),
        ):
            with pytest.raises(ProtocolError, match=r"(?i)alert|certificate|connection ended"):
                Engine(host, files).get("/pong")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with an ssh that runs the command here, and a wherry."""
    folder = tmp_path / "bin"
    folder.mkdir()
    made = {
        "ssh": f'echo "$@" >>{tmp_path}/asked\nwhile [ "$1" != -- ]; do shift; done\nshift 2\nexec sh -c "$*"\n',
        "wherry": f'export PYTHONPATH={SOURCE}\nexec {sys.executable} -m wherry.cli.main "$@"\n',
    }
    for name, script in made.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_over_ssh(tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "far.sock"
    with serving(lambda: Listener(App(ROUTES), [bind_unix(path, None)])):
        use(Engine(f"ssh://me@far:2222{path}"))
        monkeypatch.setenv("WHERRY_HOST", f"unix://{path}")
        use(Engine("ssh://far"))
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0].startswith("-o ConnectTimeout=30 -T -l me -p 2222 -- far sh -c ")
    assert f"wherry --host=unix://{path} system dial-stdio" in asked[0]
    assert asked[-1].startswith("-o ConnectTimeout=30 -T -- far sh -c ")


def test_where_wherry_is_not_there_docker_is_asked(tmp_path: Path, programs: Path) -> None:
    path = tmp_path / "far.sock"
    (programs / "wherry").rename(programs / "docker")
    with serving(lambda: Listener(App(ROUTES), [bind_unix(path, None)])):
        use(Engine(f"ssh://far{path}"))


def test_ssh_that_fails_is_named(programs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (programs / "ssh").write_text("#!/bin/sh\nexit 255\n")
    with pytest.raises(ProtocolError) as caught:
        Engine("ssh://far").get("/pong")
    assert "command [ssh -o ConnectTimeout=30 -T -- far …] has exited with exit status 255" in str(caught.value)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConnectionFailed):
        Engine("ssh://far").get("/pong")


@pytest.mark.parametrize(
    "host", ["ssh://", "ssh://u:p@h", "ssh://-oProxyCommand=x", "ssh://h?x", "ssh://h/a;b", "ssh://h/$(x)", "ssh://h:x"]
)
def test_addresses_of_ssh_that_are_none(host: str) -> None:
    with pytest.raises(AddressError, match="invalid SSH URL"):
        parse_host(host)


def test_no_word_of_an_address_becomes_an_option() -> None:
    words = command(SshAddress("u", "h", 0, ""))
    assert words[words.index("--") + 1] == "h"
    assert len(words) == words.index("--") + 3
