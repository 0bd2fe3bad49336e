"""Attach: the connection taken over, both ways, with and without a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.engine import DEAF, Engine, eventually

ALL: dict[str, Any] = {"stream": 1, "stdin": 1, "stdout": 1, "stderr": 1}
INTERACTIVE: dict[str, Any] = {
    "OpenStdin": True,
    "StdinOnce": True,
    "AttachStdin": True,
    "AttachStdout": True,
    "AttachStderr": True,
}


@pytest.mark.parametrize("upgrade", [True, False])
def test_headers(engine: Engine, upgrade: bool) -> None:
    container = engine.create(["cat"], **INTERACTIVE)
    with engine.http.hijack(f"/containers/{container}/attach", upgrade=upgrade, **ALL) as connection:
        if upgrade:
            assert connection.status == 101
            assert connection.headers["connection"].lower() == "upgrade"
            assert connection.headers["upgrade"].lower() == "tcp"
            assert connection.headers["content-type"] == "application/vnd.docker.multiplexed-stream"
        else:
            assert connection.status == 200
            assert connection.headers["content-type"] == "application/vnd.docker.raw-stream"
        engine.start(container)
        connection.send(b"one\n")
        connection.half_close()
        assert connection.output() == (b"one\n", b"")
    assert engine.wait(container) == 0


def test_half_close_does_not_cut_the_output(engine: Engine) -> None:
    container = engine.create(["sh", "-c", "wc -c; sleep 0.3; echo late; echo err >&2; exit 3"], **INTERACTIVE)
    with engine.http.hijack(f"/containers/{container}/attach", **ALL) as connection:
        engine.start(container)
        connection.send(b"x" * 100_000)
        connection.half_close()
        assert connection.output() == (b"100000\nlate\n", b"err\n")
    assert engine.wait(container) == 3


def test_much_through_stdin_and_back(engine: Engine) -> None:
    from threading import Thread

    data = bytes(range(256)) * 8192  # 2 MiB
    container = engine.create(["cat"], **INTERACTIVE)
    with engine.http.hijack(f"/containers/{container}/attach", **ALL) as connection:
        engine.start(container)

        def feed() -> None:
            connection.send(data)
            connection.half_close()

        feeder = Thread(target=feed)
        feeder.start()
        out, err = connection.output()
        feeder.join()
    assert len(out) == len(data)
    assert (out == data, err) == (True, b"")


def test_only_what_was_asked(engine: Engine) -> None:
    cases: list[tuple[dict[str, Any], tuple[bytes, bytes]]] = [
        ({"stdout": 1}, (b"out\n", b"")),
        ({"stderr": 1}, (b"", b"err\n")),
    ]
    for query, expected in cases:
        container = engine.create(["sh", "-c", "echo out; echo err >&2"])
        with engine.http.hijack(f"/containers/{container}/attach", stream=1, **query) as connection:
            engine.start(container)
            assert connection.output() == expected


def test_output_before_exit_is_complete(engine: Engine) -> None:
    for _ in range(5):
        container = engine.create(["sh", "-c", "head -c 300000 /dev/zero"])
        with engine.http.hijack(f"/containers/{container}/attach", stream=1, stdout=1, stderr=1) as connection:
            engine.start(container)
            out, _ = connection.output()
        assert len(out) == 300_000


def test_tty(engine: Engine) -> None:
    container = engine.create(
        ["sh", "-c", "test -t 0 && test -t 1 && echo tty; read x; echo got $x"], Tty=True, **INTERACTIVE
    )
    with engine.http.hijack(f"/containers/{container}/attach", **ALL) as connection:
        assert connection.status == 101
        assert connection.headers["content-type"] == "application/vnd.docker.raw-stream"
        engine.start(container)
        connection.read_until(b"tty\r\n")
        connection.send(b"hello\n")
        connection.read_until(b"got hello\r\n")
        connection.read()
    assert engine.wait(container) == 0


def test_tty_sizes(engine: Engine) -> None:
    command = ["sh", "-c", "stty size; trap 'stty size' WINCH; echo up; while :; do sleep 0.05; done"]
    container = engine.create(command, Tty=True, host={"ConsoleSize": [31, 101]}, **INTERACTIVE)
    with engine.http.hijack(f"/containers/{container}/attach", **ALL) as connection:
        engine.start(container)
        connection.read_until(b"31 101\r\n")
        connection.read_until(b"up\r\n")
        assert engine.http.post(f"/containers/{container}/resize", h=33, w=99).status == 200
        connection.read_until(b"33 99\r\n")


def test_resize_refused(engine: Engine) -> None:
    container = engine.create(["true"], Tty=True)
    answer = engine.http.post(f"/containers/{container}/resize", h=1, w=1)
    assert (answer.status, answer.message) == (409, f"container {container} is not running")
    answer = engine.http.post(f"/containers/{container}/resize", h="x", w=1)
    assert answer.status == 400


def test_detach_keys(engine: Engine) -> None:
    container = engine.create(["cat"], Tty=True, **{**INTERACTIVE, "StdinOnce": False})
    with engine.http.hijack(f"/containers/{container}/attach", **ALL) as connection:
        engine.start(container)
        connection.send(b"a\n")
        connection.read_until(b"a\r\na\r\n")
        connection.send(b"\x10\x10\x11\n")  # ctrl-p, ctrl-p, ctrl-q: the second breaks it off and begins nothing
        connection.read_until(b"^P^P")
        connection.send(b"\x10\x11")  # ctrl-p, ctrl-q
        connection.read()
    assert engine.state(container)["Running"]
    with engine.http.hijack(f"/containers/{container}/attach", detachKeys="ctrl-x,y", **ALL) as connection:
        connection.send(b"b\n")
        connection.read_until(b"b\r\nb\r\n")
        connection.send(b"\x18")
        connection.send(b"y")
        connection.read()
    assert engine.state(container)["Running"]


def test_bad_detach_keys(engine: Engine) -> None:
    container = engine.run(["cat"], Tty=True, **INTERACTIVE)
    with engine.http.hijack(f"/containers/{container}/attach", detachKeys="nonsense", **ALL) as connection:
        assert (connection.status, connection.read()) == (400, b"Invalid detach keys (nonsense) provided\r\n")


def test_leaving_does_not_stop_it(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "while :; do echo x; sleep 0.02; done"])
    for _ in range(2):
        with engine.http.hijack(f"/containers/{container}/attach", stream=1, stdout=1) as connection:
            assert next(connection.frames()) == (1, b"x\n")
    assert engine.state(container)["Running"]


def test_two_at_once(engine: Engine) -> None:
    container = engine.create(["cat"], **INTERACTIVE)
    with (
        engine.http.hijack(f"/containers/{container}/attach", **ALL) as first,
        engine.http.hijack(f"/containers/{container}/attach", stream=1, stdout=1) as second,
    ):
        engine.start(container)
        first.send(b"both\n")
        first.half_close()
        assert first.output() == (b"both\n", b"")
        assert second.output() == (b"both\n", b"")


def test_stdin_stays_open_between_clients(engine: Engine) -> None:
    """OpenStdin without StdinOnce: the first client's leaving is not the end of stdin."""
    container = engine.run(["cat"], OpenStdin=True)
    for text in (b"one\n", b"two\n"):
        with engine.http.hijack(f"/containers/{container}/attach", **ALL) as connection:
            connection.send(text)
            assert next(connection.frames()) == (1, text)
    assert engine.state(container)["Running"]


def test_logs_then_stream(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "echo before; while ! test -e /go; do sleep 0.02; done; echo after"])
    eventually(lambda: engine.logs(container)[0])
    with engine.http.hijack(f"/containers/{container}/attach", logs=1, stream=1, stdout=1, stderr=1) as connection:
        engine.exec(container, ["touch", "/go"])
        assert connection.output() == (b"before\nafter\n", b"")


def test_logs_only(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "echo before; sleep 60"])
    eventually(lambda: engine.logs(container)[0])
    with engine.http.hijack(f"/containers/{container}/attach", logs=1, stdout=1, stderr=1) as connection:
        assert connection.output() == (b"before\n", b"")


def test_stopped_reader_stalls_nobody(engine: Engine) -> None:
    container = engine.create(["sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' 'x'; echo; echo done"])
    with engine.http.hijack(f"/containers/{container}/attach", stream=1, stdout=1):
        engine.start(container)
        other = engine.run(["echo", "alive"])
        assert engine.wait(other) == 0


@pytest.mark.parametrize("upgrade", [True, False])
def test_of_what_cannot_be_attached(engine: Engine, upgrade: bool) -> None:
    """Errors come as text on a connection that counts as taken over."""
    engine.idle(name="wt-a")
    engine.http.post("/containers/wt-a/pause")
    for name, expected in (
        ("wt-a", (409, b"container wt-a is paused, unpause the container before attach\r\n")),
        ("wt-nope", (404, b"No such container: wt-nope\r\n")),
    ):
        with engine.http.hijack(f"/containers/{name}/attach", upgrade=upgrade, **ALL) as connection:
            assert connection.headers["content-type"] == "application/vnd.docker.raw-stream"
            assert (connection.status, connection.read()) == expected


def test_logs_of_what_has_exited(engine: Engine) -> None:
    container = engine.run(["echo", "gone"])
    engine.wait(container)
    with engine.http.hijack(f"/containers/{container}/attach", logs=1, stdout=1) as connection:
        assert connection.output() == (b"gone\n", b"")


def test_signal_while_attached(engine: Engine) -> None:
    container = engine.create(DEAF)
    with engine.http.hijack(f"/containers/{container}/attach", stream=1, stdout=1) as connection:
        engine.start(container)
        eventually(lambda: engine.logs(container)[0])
        engine.http.post(f"/containers/{container}/kill")
        assert connection.output() == (b"up\n", b"")
    assert engine.wait(container) == 137
