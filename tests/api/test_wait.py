"""Wait: headers at once, the body when the condition has come."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.http import Stream


def nothing_yet(stream: Stream) -> None:
    stream.settimeout(0.2)
    with pytest.raises((socket.timeout, TimeoutError)):
        next(stream._wire.body("POST", 200, {}))
    stream.settimeout(30)


@pytest.mark.parametrize("condition", ["", "not-running", "next-exit", "removed"])
def test_headers_come_at_once(engine: Engine, condition: str) -> None:
    container = engine.idle()
    query: dict[str, Any] = {"condition": condition} if condition else {}
    with engine.http.stream("POST", f"/containers/{container}/wait", **query) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "application/json"
        nothing_yet(stream)
        engine.http.post(f"/containers/{container}/kill")
        if condition == "removed":
            assert engine.http.delete(f"/containers/{container}", force=1).status in (204, 409)
        answer = json.loads(stream.read())
    assert answer["StatusCode"] == 137


def test_of_what_has_exited(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "exit 3"])
    assert engine.wait(container) == 3
    assert engine.wait(container) == 3
    assert engine.wait(container, "not-running") == 3


def test_of_what_was_never_started(engine: Engine) -> None:
    container = engine.create(["true"])
    assert engine.wait(container) == 0


def test_next_exit_of_what_is_not_running(engine: Engine) -> None:
    container = engine.create(["sh", "-c", "exit 6"])
    with engine.http.stream("POST", f"/containers/{container}/wait", condition="next-exit") as stream:
        nothing_yet(stream)
        engine.start(container)
        assert json.loads(stream.read())["StatusCode"] == 6
    with engine.http.stream("POST", f"/containers/{container}/wait", condition="next-exit") as stream:
        nothing_yet(stream)


def test_removed(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "exit 4"])
    engine.wait(container)
    with engine.http.stream("POST", f"/containers/{container}/wait", condition="removed") as stream:
        nothing_yet(stream)
        assert engine.http.delete(f"/containers/{container}").status == 204
        assert json.loads(stream.read())["StatusCode"] == 4


def test_removed_by_itself(engine: Engine) -> None:
    container = engine.create(["sh", "-c", "exit 5"], host={"AutoRemove": True})
    with engine.http.stream("POST", f"/containers/{container}/wait", condition="removed") as stream:
        engine.start(container)
        assert json.loads(stream.read())["StatusCode"] == 5
    assert engine.http.get(f"/containers/{container}/json").status == 404


def test_next_exit_with_a_restart_policy(engine: Engine) -> None:
    container = engine.create(
        ["sh", "-c", "sleep 0.2; exit 2"], host={"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 1}}
    )
    with engine.http.stream("POST", f"/containers/{container}/wait", condition="next-exit") as stream:
        engine.start(container)
        assert json.loads(stream.read())["StatusCode"] == 2


def test_unknown_condition(engine: Engine) -> None:
    container = engine.create(["true"])
    answer = engine.http.post(f"/containers/{container}/wait", condition="nonsense")
    assert (answer.status, answer.message) == (400, 'invalid condition: "nonsense"')


def test_many_waiters(engine: Engine) -> None:
    container = engine.idle()
    streams = [engine.http.stream("POST", f"/containers/{container}/wait") for _ in range(5)]
    try:
        engine.http.post(f"/containers/{container}/stop")
        assert [json.loads(stream.read())["StatusCode"] for stream in streams] == [0] * 5
    finally:
        for stream in streams:
            stream.close()
