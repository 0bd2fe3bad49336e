"""Builds at the same time that have a step in common, and a step that goes on when the test lets it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.build.client import Client
from tests.support.engine import eventually
from tests.support.http import Stream
from tests.support.images import Entry, tar


class Holding:
    """A port of the host that a step connects to, and reads from until it is let go."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(20)
        self.port = self._listening.getsockname()[1]
        self.held: list[socket.socket] = []

    def wait(self) -> None:
        self.held.append(self._listening.accept()[0])

    def waiting(self) -> bool:
        """Whether another step has come."""
        self._listening.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            self.wait()
            return True
        return False

    def let(self) -> None:
        for connection in self.held:
            connection.close()

    def gone(self) -> bool:
        """Whether the step that is held has ended by itself."""
        self.held[0].setblocking(False)
        try:
            return self.held[0].recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    def close(self) -> None:
        self.let()
        self._listening.close()


@pytest.fixture
def holding() -> Iterator[Holding]:
    holding = Holding()
    yield holding
    holding.close()


def begin(client: Client, holding: Holding, name: str, then: str = "", **query: Any) -> Stream:
    """A build whose step has begun, as its log tells."""
    step = f"echo began; nc 127.0.0.1 {holding.port}; cat /proc/sys/kernel/random/uuid >/id{then}"
    body = tar([Entry("Dockerfile", f"FROM wt-base\nLABEL name={name}\nRUN {step}\n".encode())])
    stream = client.engine.http.stream("POST", "/build", body=body, networkmode="host", t=f"wt-{name}", **query)
    stream.settimeout(30)
    while b"began" not in stream.next_line():
        pass
    return stream


def rest(stream: Stream) -> Any:
    return list(stream.json_lines())[-1]


def test_a_step_of_two_builds_runs_once(client: Client, holding: Holding) -> None:
    with begin(client, holding, "one") as one, begin(client, holding, "two") as two:
        holding.wait()
        assert not holding.waiting()
        holding.let()
        assert "wt-one" in rest(one)["stream"] and "wt-two" in rest(two)["stream"]
    assert client.run("wt-one", "cat", "/id") == client.run("wt-two", "cat", "/id")


def test_when_one_goes_away_the_other_goes_on(client: Client, holding: Holding) -> None:
    with begin(client, holding, "three") as one, begin(client, holding, "four") as two:
        holding.wait()
        one.close()
        assert not holding.gone()
        holding.let()
        assert "wt-four" in rest(two)["stream"]
    assert len(client.run("wt-four", "cat", "/id")) == 37


def test_when_both_go_away_it_ends(client: Client, holding: Holding) -> None:
    with begin(client, holding, "five") as one, begin(client, holding, "six") as two:
        holding.wait()
        one.close()
        two.close()
        eventually(holding.gone)


def test_a_failure_is_everybodys(client: Client, holding: Holding) -> None:
    with begin(client, holding, "seven", "; exit 3") as one, begin(client, holding, "eight", "; exit 3") as two:
        holding.wait()
        holding.let()
        assert [rest(stream)["errorDetail"]["code"] for stream in (one, two)] == [3, 3]
