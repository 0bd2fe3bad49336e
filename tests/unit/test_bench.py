import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import report
from bench.arithmetic import Item, markdown, ratio, rows, summarize, turns, verdict
from bench.http import Connection, Failed
from bench.processes import Process, engine_processes
from bench.work import OWN_CLIENT

MS = Item("a", "work", "ms", 0.2, 0.1)
RATE = Item("r", "rate", "1/s", 0.25, 0.15)
RESULTS = {"a": {"docker": [100.0, 300.0, 200.0], "wherry": [30.0, 20.0]}, "r": {"docker": [2.0], "wherry": [20.0]}}


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_quartiles_are_in_order(samples: list[float]) -> None:
    summary = summarize(samples)
    assert min(samples) <= summary.low <= summary.median <= summary.high <= max(samples)
    assert summary.count == len(samples)


def test_no_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        summarize([])


def test_less_cost_is_a_smaller_ratio_whatever_the_unit() -> None:
    assert ratio(MS, 20, 200) == 0.1
    assert ratio(RATE, 20, 2) == 0.1
    assert ratio(MS, 1, 0) == float("inf")


def test_verdicts() -> None:
    assert [verdict(MS, value) for value in (0.05, 0.1, 0.15, 0.2, 0.21)] == ["reached"] * 2 + ["ok"] * 2 + ["MISSED"]
    assert verdict(Item("x", "x", "ms"), 5) == ""


def test_engines_take_turns_and_warm_up() -> None:
    assert turns(["a", "b"], 2) == [(0, "a"), (0, "b"), (1, "a"), (1, "b"), (2, "a"), (2, "b")]


def test_the_table() -> None:
    table = rows([MS, RATE, Item("none", "not done", "ms")], RESULTS, ["docker", "wherry"], "docker")
    assert table == [
        ["work", "unit", "docker", "wherry", "ratio", "at most", "reach", ""],
        ["work", "ms", "200", "25.0", "0.125", "0.2", "0.1", "ok"],
        ["rate", "1/s", "2.00", "20.0", "0.100", "0.25", "0.15", "reached"],
    ]
    assert markdown(table).splitlines()[1].startswith("|--")
    alone = rows([MS], {"a": {"docker": [1.0]}}, ["docker"], "docker")
    assert alone == [["work", "unit", "docker"], ["work", "ms", "1.00"]]


def test_json_and_plot() -> None:
    found = report.as_json([MS, RATE], RESULTS, ["docker", "wherry"], "docker", {"cores": 2}, "python -m bench")
    assert json.loads(json.dumps(found))["work"][0]["engines"]["wherry"]["ratio"] == 0.125
    plot = report.svg([MS, RATE], RESULTS, ["docker", "wherry"], "docker")
    assert plot.count("<rect") == 3 and plot.startswith("<svg")
    own = {OWN_CLIENT.key: {"python3": [10.0], "wherry": [25.0]}}
    assert "2.500" in report.tables([OWN_CLIENT], own, ["docker"], "docker")


def process(pid: int, parent: int, name: str, *arguments: str) -> Process:
    return Process(pid, parent, name, (name, *arguments))


def test_processes_of_an_engine() -> None:
    table = {
        found.pid: found
        for found in (
            process(10, 1, "dockerd", "--exec-root", "/r"),
            process(11, 10, "containerd", "--config", "/r/containerd/containerd.toml"),
            process(12, 10, "docker-proxy"),
            process(20, 1, "containerd-shim", "-address", "/r/containerd/containerd.sock"),
            process(21, 20, "sleep"),  # a container
            process(22, 21, "child"),  # and its child
            process(30, 1, "containerd-shim", "-address", "/other/containerd.sock"),
            process(31, 30, "sleep"),
            process(40, 1, "conmon", "-b", "/elsewhere"),
            process(41, 40, "sleep"),
            process(50, 1, "vim", "/r/notes"),
        )
    }
    assert engine_processes(table, 10, [21], ["/r"]) == {10, 11, 12, 20}
    assert engine_processes(table, 10, [], ["/q"]) == {10, 11, 12}
    assert engine_processes(table, 10, [21, 41], []) == {10, 11, 12, 20, 40}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[tuple[Connection, socket.socket]]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        with Connection(str(tmp_path / "socket")) as connection, listener.accept()[0] as accepted:
            yield connection, accepted


def test_http_reads_answers_of_every_framing_over_one_connection(engine: tuple[Connection, socket.socket]) -> None:
    connection, accepted = engine
    accepted.sendall(
        b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{"a":1}'
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"b\r\n4;x\r\n":2}\r\n0\r\n\r\n'
        b"HTTP/1.1 204 No Content\r\n\r\n"
        b'HTTP/1.1 404 Not Found\r\nContent-Length: 15\r\n\r\n{"message":"x"}'
    )
    assert connection.call("GET", "/a") == {"a": 1}
    assert connection.call("GET", "/b") == {"b": 2}
    assert connection.call("DELETE", "/c") is None
    with pytest.raises(Failed, match="GET /d: 404"):
        connection.call("GET", "/d", {"x": 1})
    sent = accepted.recv(65536)
    assert sent.count(b"HTTP/1.1\r\n") == 4 and sent.endswith(b'Content-Length: 8\r\n\r\n{"x": 1}')


def test_http_streams_until_the_engine_closes(engine: tuple[Connection, socket.socket]) -> None:
    connection, accepted = engine
    accepted.sendall(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nout")
    accepted.shutdown(socket.SHUT_WR)
    assert connection.stream("POST", "/exec/1/start", {}) == b"out"
