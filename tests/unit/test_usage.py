"""From the kernel's texts to what the API tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model import usage
from wherry.model.usage import FILES_V1, FILES_V2, NO_CPU, UNLIMITED, HostTime, Reading, frame

AT = HostTime(total=5_000_000_000, online=2)
MACHINE = 8 << 30


def texts_v1(**told: str) -> dict[str, str]:
    return {name: "" for _, name in FILES_V1} | {name.replace("__", "."): text for name, text in told.items()}


def texts_v2(**told: str) -> dict[str, str]:
    return dict.fromkeys(FILES_V2, "") | {name.replace("__", "."): text for name, text in told.items()}


def test_host_time() -> None:
    stat = "cpu  10 1 5 100 4 2 3 99 50 6\ncpu0 5 0 2 50 2 1 1 0 0 0\ncpu1 5 1 3 50 2 1 2 0 0 0\nintr 1\n"
    assert usage.host_time(stat) == HostTime(125 * 10_000_000, 2)
    assert usage.host_time("") == HostTime(0, 0)


def test_v1() -> None:
    cpu, memory, pids, block_io = usage.v1(
        texts_v1(
            cpuacct__usage="37148343\n",
            cpuacct__usage_percpu="21208187 15940156 \n",
            cpuacct__stat="user 2\nsystem 1\n",
            cpu__stat="nr_periods 4\nnr_throttled 1\nthrottled_time 77\nwait_sum 5\n",
            memory__stat="cache 4096\ntotal_inactive_file 8\nshmem 3\n",
            memory__usage_in_bytes="745472\n",
            memory__max_usage_in_bytes="9269248\n",
            memory__limit_in_bytes="9223372036854771712\n",
            memory__failcnt="0\n",
            pids__current="2\n",
            pids__max="max\n",
            blkio__throttle__io_service_bytes="254:0 Read 4096\n254:0 Write 8\nTotal 4104\n",
        ),
        AT,
        MACHINE,
    )
    assert cpu == {
        "cpu_usage": {
            "total_usage": 37148343,
            "percpu_usage": [21208187, 15940156],
            "usage_in_kernelmode": 10_000_000,
            "usage_in_usermode": 20_000_000,
        },
        "system_cpu_usage": 5_000_000_000,
        "online_cpus": 2,
        "throttling_data": {"periods": 4, "throttled_periods": 1, "throttled_time": 77},
    }
    stats = memory.pop("stats")
    assert memory == {"usage": 745472, "max_usage": 9269248, "limit": MACHINE}
    assert (stats["cache"], stats["total_inactive_file"], stats["rss"]) == (4096, 8, 0)
    assert "shmem" not in stats
    assert len(stats) == 32
    assert pids == {"current": 2}
    assert block_io["io_service_bytes_recursive"] == [
        {"major": 254, "minor": 0, "op": "Read", "value": 4096},
        {"major": 254, "minor": 0, "op": "Write", "value": 8},
    ]
    assert block_io["sectors_recursive"] == []


def test_v2() -> None:
    cpu, memory, pids, block_io = usage.v2(
        texts_v2(
            cpu__stat="usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 1\nnr_throttled 0\nthrottled_usec 2\n",
            memory__stat="anon 4096\nfile 8192\ninactive_file 4096\nnot_told 3\n",
            memory__current="16384\n",
            memory__max="max\n",
            memory__events="low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n",
            pids__current="1\n",
            pids__max="max\n",
            io__stat="8:0 rbytes=4096 wbytes=512 rios=1 wios=1 dbytes=0 dios=0\n7:0 \n",
        ),
        AT,
        MACHINE,
    )
    assert cpu["cpu_usage"] == {"total_usage": 30_000, "usage_in_kernelmode": 10_000, "usage_in_usermode": 20_000}
    assert cpu["throttling_data"] == {"periods": 1, "throttled_periods": 0, "throttled_time": 2_000}
    stats = memory.pop("stats")
    assert memory == {"usage": 16384, "failcnt": 1, "limit": MACHINE}
    assert (stats["anon"], stats["inactive_file"], stats["slab"]) == (4096, 4096, 0)
    assert len(stats) == 31
    assert pids == {"current": 1, "limit": UNLIMITED}
    assert block_io["io_service_bytes_recursive"][:2] == [
        {"major": 8, "minor": 0, "op": "read", "value": 4096},
        {"major": 8, "minor": 0, "op": "write", "value": 512},
    ]
    assert block_io["io_serviced_recursive"] is None


@pytest.mark.parametrize("texts", [usage.v1(texts_v1(), AT, MACHINE), usage.v2(texts_v2(), AT, MACHINE)])
def test_controllers_that_are_not_there(texts: tuple[usage.Json, ...]) -> None:
    cpu, memory, pids, _ = texts
    assert (cpu["cpu_usage"]["total_usage"], memory, pids) == (0, {}, {})


NET_DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs ...
    lo:     999       9    0    0    0     0          0         0      999       9    0    0    0     0    0    0
 wv1234:    10       1    2    3    4     5          6         7      20       8    9   11   12    13      14         15
"""


def test_the_hosts_side_counts_the_other_way_round() -> None:
    counted = usage.interfaces(NET_DEV, {"wv1234", "gone"})
    assert usage.networks(["wv1234", "gone"], counted) == {
        "eth0": {
            "rx_bytes": 20,
            "rx_packets": 8,
            "rx_errors": 9,
            "rx_dropped": 11,
            "tx_bytes": 10,
            "tx_packets": 1,
            "tx_errors": 2,
            "tx_dropped": 3,
        }
    }


def reading(at: int, total: int) -> Reading:
    return Reading(at, {"cpu_usage": {"total_usage": total}}, {"usage": 1}, {"current": 1}, {}, {"eth0": {}})


def test_frames() -> None:
    first, second = reading(10**18, 1), reading(10**18 + 10**9, 2)
    shown = frame(second, first, name="web", container_id="abc")
    assert list(shown) == [
        "read",
        "preread",
        "pids_stats",
        "blkio_stats",
        "num_procs",
        "storage_stats",
        "cpu_stats",
        "precpu_stats",
        "memory_stats",
        "name",
        "id",
        "networks",
    ]
    assert (shown["read"], shown["preread"]) == ("2001-09-09T01:46:41Z", "2001-09-09T01:46:40Z")
    assert (shown["cpu_stats"], shown["precpu_stats"]) == (second.cpu, first.cpu)
    assert shown["name"] == "/web"
    assert "name" not in frame(first, None)


def test_one_that_does_not_run() -> None:
    shown = frame(None, reading(10**18, 1), name="web", container_id="abc")
    assert shown["read"] == "0001-01-01T00:00:00Z"
    assert shown["preread"] == "2001-09-09T01:46:40Z"
    assert shown["cpu_stats"] == NO_CPU
    assert shown["memory_stats"] == shown["pids_stats"] == {}
    assert set(shown["blkio_stats"].values()) == {None}
    assert "networks" not in shown


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    usage.fields(text)
    usage.number(text)
