"""What `stats` makes of the engine's readings."""

from __future__ import annotations

from typing import Any, cast

import pytest

from wherry.cli.commands.stats import COLUMNS, Entry, cpu_percent, listing, memory_used
from wherry.client import jsontext
from wherry.client.connection import Response

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
