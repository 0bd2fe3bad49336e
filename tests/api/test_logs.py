"""Logs: every option."""

from __future__ import annotations

import re
import time

import pytest

from tests.support.engine import Engine, eventually
from tests.support.http import join_frames

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"


@pytest.fixture
def ended(engine: Engine) -> str:
    container = engine.run(["sh", "-c", "for i in 1 2 3 4 5; do echo out $i; done; sleep 0.1; echo err >&2"])
    engine.wait(container)
    return container


def test_streams(engine: Engine, ended: str) -> None:
    out = b"".join(b"out %d\n" % n for n in range(1, 6))
    assert engine.logs(ended) == (out, b"err\n")
    assert engine.logs(ended, stderr=0) == (out, b"")
    assert engine.logs(ended, stdout=0) == (b"", b"err\n")
    answer = engine.http.get(f"/containers/{ended}/logs", stdout=1)
    assert answer.headers["content-type"] == "application/vnd.docker.multiplexed-stream"
    answer = engine.http.get(f"/containers/{ended}/logs")
    assert (answer.status, answer.message) == (400, "Bad parameters: you must choose at least one stream")


@pytest.mark.parametrize(
    ("tail", "lines"), [("0", 0), ("2", 2), ("100", 6), ("all", 6), ("", 6), ("-1", 6), ("nonsense", 6)]
)
def test_tail(engine: Engine, ended: str, tail: str, lines: int) -> None:
    if tail == "nonsense":
        lines = 0 if engine.http.get(f"/containers/{ended}/logs", stdout=1, tail=tail).body == b"" else 6
    out, err = engine.logs(ended, tail=tail)
    assert (out + err).count(b"\n") == lines


def test_timestamps(engine: Engine, ended: str) -> None:
    out, err = engine.logs(ended, timestamps=1)
    for line in out.decode().splitlines():
        assert re.fullmatch(STAMP + r" out \d", line)
    assert re.fullmatch(STAMP + " err\n", err.decode())


def test_since_and_until(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "echo first; sleep 0.5; echo second"])
    engine.wait(container)
    out, _ = engine.logs(container, timestamps=1)
    first, second = (line.split()[0] for line in out.decode().splitlines())
    fraction = second.split(".")[1].removesuffix("Z")
    seconds = int(time.mktime(time.strptime(second.split(".")[0], "%Y-%m-%dT%H:%M:%S")) - time.timezone)
    edge = f"{seconds}.{fraction}"
    before = f"{seconds}.{int(fraction) - 1:09d}" if int(fraction) else f"{seconds - 1}.999999999"
    assert first < second
    assert engine.logs(container, since=edge)[0] == b"second\n"
    assert engine.logs(container, until=before)[0] == b"first\n"
    assert engine.logs(container, since=seconds + 60)[0] == b""
    assert engine.logs(container, until=seconds - 60)[0] == b""
    assert engine.logs(container, since=0, until=seconds + 60)[0] == b"first\nsecond\n"
    answer = engine.http.get(f"/containers/{container}/logs", stdout=1, since="x")
    assert answer.status >= 400


def test_follow(engine: Engine) -> None:
    container = engine.run(
        ["sh", "-c", "echo one; while ! test -e /go; do sleep 0.02; done; echo two; printf three; exit 1"]
    )
    with engine.http.stream("GET", f"/containers/{container}/logs", follow=1, stdout=1, stderr=1) as stream:
        assert stream.status == 200
        frames = stream.frames()
        assert next(frames) == (1, b"one\n")
        engine.exec(container, ["touch", "/go"])
        assert join_frames(frames) == (b"two\nthree", b"")


def test_follow_with_tail(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "echo a; echo b; echo c; while ! test -e /go; do sleep 0.02; done; echo d"])
    eventually(lambda: engine.logs(container)[0] == b"a\nb\nc\n")
    with engine.http.stream("GET", f"/containers/{container}/logs", follow=1, stdout=1, tail=1) as stream:
        frames = stream.frames()
        assert next(frames) == (1, b"c\n")
        engine.exec(container, ["touch", "/go"])
        assert join_frames(frames) == (b"d\n", b"")


def test_follow_of_what_has_ended(engine: Engine, ended: str) -> None:
    with engine.http.stream("GET", f"/containers/{ended}/logs", follow=1, stdout=1, stderr=1) as stream:
        out, err = join_frames(stream.frames())
    assert (out.count(b"\n"), err) == (5, b"err\n")


def test_follow_until_later_runs_end(engine: Engine) -> None:
    container = engine.run(["echo", "run"])
    engine.wait(container)
    engine.start(container)
    engine.wait(container)
    assert engine.logs(container)[0] == b"run\nrun\n"


def test_follow_a_removed_container_ends(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "echo up; while :; do sleep 0.05; done"])
    with engine.http.stream("GET", f"/containers/{container}/logs", follow=1, stdout=1) as stream:
        assert next(stream.frames()) == (1, b"up\n")
        engine.remove(container)
        stream.read()


def test_tty(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "echo out; echo err >&2"], Tty=True)
    engine.wait(container)
    answer = engine.http.get(f"/containers/{container}/logs", stdout=1, stderr=1)
    assert answer.headers["content-type"] == "application/vnd.docker.raw-stream"
    assert answer.body == b"out\r\nerr\r\n"


def test_bytes_are_kept(engine: Engine) -> None:
    """Long lines, a missing newline at the end, NULs and bytes that are not UTF-8."""
    script = "head -c 100000 /dev/zero | tr '\\0' x; echo; printf 'a\\0b\\n'; printf '\\377\\376\\n'; printf end"
    container = engine.run(["sh", "-c", script])
    engine.wait(container)
    out, _ = engine.logs(container)
    long, nul, rest = out.split(b"\n", 2)
    assert long == b"x" * 100_000
    assert nul == b"a\0b"
    if engine.name == "docker":  # its JSON lines cannot hold them: it answers with U+FFFD
        assert rest.endswith(b"\nend")
    else:
        assert rest == b"\xff\xfe\nend"
    stamped, _ = engine.logs(container, timestamps=1)
    assert re.sub(rb"(?m)^" + STAMP.encode() + b" ", b"", stamped).endswith(b"\nend")


def test_many_lines(engine: Engine) -> None:
    container = engine.run(["seq", "20000"])
    engine.wait(container)
    expected = b"".join(b"%d\n" % n for n in range(1, 20001))
    assert engine.logs(container)[0] == expected
    assert engine.logs(container, tail=3)[0] == b"19998\n19999\n20000\n"


def test_a_created_container_has_none(engine: Engine) -> None:
    assert engine.logs(engine.create(["true"])) == (b"", b"")


def test_logging_turned_off(engine: Engine) -> None:
    container = engine.run(["echo", "x"], host={"LogConfig": {"Type": "none"}})
    engine.wait(container)
    answer = engine.http.get(f"/containers/{container}/logs", stdout=1)
    assert (answer.status, answer.message) == (501, "configured logging driver does not support reading")


def test_rotation(engine: Engine) -> None:
    options = {"Type": "json-file", "Config": {"max-size": "20k", "max-file": "3"}}
    script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done; exec sleep 60"
    container = engine.run(["sh", "-c", script], host={"LogConfig": options})

    def lines() -> list[str]:
        return engine.logs(container)[0].decode().splitlines()

    eventually(lambda: (shown := lines()) and shown[-1] == "line 3000" and shown[0] != "line 1")
    shown = lines()
    first = int(shown[0].split()[1])
    assert shown == [f"line {n}" for n in range(first, 3001)]


@pytest.mark.parametrize(
    ("options", "details"),
    [
        ({}, ""),
        ({"labels": "c/d,a,nope", "env": "E,X"}, "E=,X=%C3%BC,a=1,c%2Fd=e+f%26%2C%3D"),
        ({"labels-regex": "^a", "env-regex": "^X"}, "X=%C3%BC,a=1,ab=2"),
        ({"tag": "{{.Name}}/{{.ImageName}}"}, "tag=wt-details%2Fwt-base"),
        ({"mode": "non-blocking", "max-buffer-size": "1m"}, ""),
        ({"max-size": "10k", "max-file": "2", "compress": "true"}, ""),
    ],
)
def test_details(engine: Engine, options: dict[str, str], details: str) -> None:
    container = engine.run(
        ["echo", "hi"],
        name="wt-details",
        Image="wt-base",
        Labels={"a": "1", "ab": "2", "c/d": "e f&,="},
        Env=["X=ü", "E="],
        host={"LogConfig": {"Type": "json-file", "Config": options}},
    )
    engine.wait(container)
    assert engine.logs(container, details=1)[0].decode() == f"{details} hi\n"
    assert re.fullmatch(
        f"{STAMP} {re.escape(details)} hi\n", engine.logs(container, details=1, timestamps=1)[0].decode()
    )


@pytest.mark.parametrize(
    ("driver", "options", "message"),
    [
        ("json-file", {"labels-regex": "("}, "error parsing regexp: missing "),
        ("json-file", {"tag": "{{.Nope}}"}, "can't evaluate field Nope in type *logger.Info"),
        ("json-file", {"tag": "{{.Name"}, "template: log-tag:1: unclosed action"),
        (
            "json-file",
            {"compress": "true"},
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ),
        ("json-file", {"compress": "maybe"}, 'strconv.ParseBool: parsing "maybe": invalid syntax'),
        ("local", {"max-file": "1"}, "compression cannot be enabled when max file count is 1"),
    ],
)
def test_options_refused_at_the_start(engine: Engine, driver: str, options: dict[str, str], message: str) -> None:
    answer = engine.failed_start(["true"], host={"LogConfig": {"Type": driver, "Config": options}})
    assert answer.status == 500
    assert "failed to create task for container: failed to initialize logging driver: " in answer.message
    assert message in answer.message


def test_options_refused_at_creation(engine: Engine) -> None:
    for options, message in (
        ({"mode": "non-blocking", "max-buffer-size": "4x"}, "error parsing option max-buffer-size: invalid size: '4x'"),
        ({"max-buffer-size": "4m"}, "logger: max-buffer-size option is only supported with 'mode=non-blocking'"),
    ):
        answer = engine.try_create(["true"], host={"LogConfig": {"Type": "json-file", "Config": options}})
        assert (answer.status, answer.message) == (400, message)


LINES = 4000


def rows(engine: Engine, container: str) -> list[int]:
    return [int(line.split()[1]) for line in engine.logs(container)[0].splitlines()]


def test_a_fast_writer_that_has_ended_keeps_the_newest(engine: Engine) -> None:
    command = f"i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo row $i; done"
    limited = {"LogConfig": {"Type": "json-file", "Config": {"max-size": "10k", "max-file": "2"}}}
    container = engine.run(["sh", "-c", command], host=limited)
    engine.wait(container)
    kept = rows(engine, container)
    assert kept == list(range(kept[0], LINES + 1))
    assert len(kept) < LINES // 8


def test_a_running_writer_is_held_to_its_limit(engine: Engine) -> None:
    command = f"i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo row $i; done; exec sleep 60"
    limited = {"LogConfig": {"Type": "json-file", "Config": {"max-size": "10k", "max-file": "2"}}}
    container = engine.run(["sh", "-c", command], host=limited)
    eventually(lambda: (kept := rows(engine, container)) and kept[-1] == LINES and len(kept) < LINES // 8)
