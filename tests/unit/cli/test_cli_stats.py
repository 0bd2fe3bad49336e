"""What `stats` makes of the engine's readings."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from wherry.cli.commands.stats import COLUMNS, Entry, cpu_percent, listing, memory_used
from wherry.client.connection import Response
from wherry.client.engine import Engine, EngineError
from wherry.model import jsontext

SECOND = 10**9


def frame(**changed: Any) -> dict[str, Any]:
    return {
        "read": "2026-01-01T00:00:01Z",
        "preread": "2026-01-01T00:00:00Z",
        "name": "/web",
        "id": "a" * 64,
        "pids_stats": {"current": 3},
        "cpu_stats": {
            "cpu_usage": {"total_usage": 3 * SECOND // 2},
            "system_cpu_usage": 12 * SECOND,
            "online_cpus": 2,
        },
        "precpu_stats": {"cpu_usage": {"total_usage": SECOND}, "system_cpu_usage": 10 * SECOND, "online_cpus": 2},
        "memory_stats": {"usage": 3 << 20, "limit": 4 << 20, "stats": {"total_inactive_file": 1 << 20}},
        "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 10}, "eth1": {"rx_bytes": 500, "tx_bytes": 0}},
        "blkio_stats": {
            "io_service_bytes_recursive": [
                {"op": "Read", "value": 4096},
                {"op": "Write", "value": 1},
                {"op": "Total", "value": 4097},
                {"op": "read", "value": 4},
            ]
        },
    } | changed


class Pieces:
    """A response that has the given pieces to read, and then no more for now."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)
        self.connection = self

    def piece(self) -> bytes:
        return self._pieces.pop(0)

    @property
    def ahead(self) -> bool:
        return bool(self._pieces)


def entry(*pieces: bytes) -> Entry:
    return Entry("web", cast(Response, Pieces(*pieces)))


def test_half_a_second_of_one_cpu_in_a_second() -> None:
    assert cpu_percent(frame()) == 50
    assert cpu_percent(frame(precpu_stats=frame()["cpu_stats"])) == 0
    assert cpu_percent(frame(cpu_stats={"cpu_usage": {"total_usage": 0}}, precpu_stats=frame()["cpu_stats"])) == 0


@pytest.mark.parametrize(
    ("memory", "used"),
    [
        ({"usage": 10, "stats": {"total_inactive_file": 4, "inactive_file": 1}}, 6),
        ({"usage": 10, "stats": {"inactive_file": 1}}, 9),
        ({"usage": 10, "stats": {"inactive_file": 10}}, 10),
        ({"usage": 10}, 10),
        ({}, 0),
    ],
)
def test_memory_without_the_cache_that_goes_first(memory: dict[str, Any], used: int) -> None:
    assert memory_used({"memory_stats": memory}) == used


def test_the_row() -> None:
    line = jsontext.dumps(frame()).encode() + b"\n"
    shown = entry(line[:40], line[40:])
    assert shown.take()
    assert shown.ready
    row = "aaaaaaaaaaaa   web       50.00%    2MiB / 4MiB         50.00%    1.5kB / 10B   4.1kB / 1B   3"
    assert listing(False).text([shown], COLUMNS).splitlines()[1] == row
    assert listing(True).formatted([shown], "{{.ID}} {{.Container}}") == "a" * 64 + " web\n"


def test_the_first_reading_does_not_count_alone() -> None:
    first = frame(preread="0001-01-01T00:00:00Z")
    shown = entry(jsontext.dumps(first).encode() + b"\n")
    shown.take()
    assert not shown.ready
    stopped = entry(jsontext.dumps(first | {"read": "0001-01-01T00:00:00Z"}).encode() + b"\n")
    stopped.take()
    assert stopped.ready


def test_a_stream_that_has_ended() -> None:
    shown = entry(b"")
    assert not shown.take()
    assert shown.ready
    row = listing(False).formatted([shown], "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}")
    assert row == "-- -- -- / -- --\n"


def test_all_are_asked_before_any_answer_is_read(tmp_path: Path) -> None:
    """The engine answers the second first and the first last: asked in turn, the client would wait for ever."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()

    def serve() -> None:
        ping, _ = listener.accept()
        ping.recv(65536)
        ping.sendall(b"HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\nContent-Length: 0\r\n\r\n")
        first, second = listener.accept()[0], listener.accept()[0]
        assert b"/v1.45/containers/b/stats?stream=1" in second.recv(65536)
        refusal = b'{"message":"No such container: b"}'
        head = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(refusal)
        second.sendall(head + refusal)
        assert b"/v1.45/containers/a/stats?stream=1" in first.recv(65536)
        first.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n0\r\n\r\n")
        for connection in (ping, first, second):
            connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    engine = Engine(f"unix://{tmp_path / 's'}")
    found, refused = engine.open_each(["/containers/a/stats", "/containers/b/stats"], {"stream": True})
    assert isinstance(found, Response)
    assert list(found.lines()) == [b"{}"]
    assert isinstance(refused, EngineError)
    assert (refused.status, refused.message) == (404, "No such container: b")
    found.connection.close()
    engine.close()
    thread.join()
    listener.close()
