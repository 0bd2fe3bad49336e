"""What a container uses, from the kernel's texts to the API's JSON (ContainerStats of API 1.45).

Pure: the texts are read in `wherry.linux.usage`. Sources: Documentation/admin-guide/cgroup-v1/, cgroup-v2.rst, proc(5).
On cgroup v2 the JSON has what Docker gives there: no use per CPU, other names in the memory statistics.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wherry.model.timestamps import rfc3339_nano

Json = dict[str, Any]

TICK = 10**9 // 100  # nanoseconds of a clock tick as /proc tells them (USER_HZ is 100 on every architecture Linux has)
UNLIMITED = 2**64 - 1  # how v2's "max" is told

# The files of a reading: controller (the hierarchy's folder in v1, nothing in v2) and name.
FILES_V1 = (
    ("cpuacct", "cpuacct.usage"),
    ("cpuacct", "cpuacct.usage_percpu"),
    ("cpuacct", "cpuacct.stat"),
    ("cpu", "cpu.stat"),
    ("memory", "memory.stat"),
    ("memory", "memory.usage_in_bytes"),
    ("memory", "memory.max_usage_in_bytes"),
    ("memory", "memory.limit_in_bytes"),
    ("memory", "memory.failcnt"),
    ("pids", "pids.current"),
    ("pids", "pids.max"),
    ("blkio", "blkio.throttle.io_service_bytes"),
    ("blkio", "blkio.throttle.io_serviced"),
)
FILES_V2 = (
    "cpu.stat",
    "memory.stat",
    "memory.current",
    "memory.max",
    "memory.events",
    "pids.current",
    "pids.max",
    "io.stat",
)

_MEMORY_V1 = """active_anon active_file cache dirty hierarchical_memory_limit hierarchical_memsw_limit inactive_anon
    inactive_file mapped_file pgfault pgmajfault pgpgin pgpgout rss rss_huge total_active_anon total_active_file
    total_cache total_dirty total_inactive_anon total_inactive_file total_mapped_file total_pgfault total_pgmajfault
    total_pgpgin total_pgpgout total_rss total_rss_huge total_unevictable total_writeback unevictable
    writeback""".split()
_MEMORY_V2 = """active_anon active_file anon anon_thp file file_dirty file_mapped file_writeback inactive_anon
    inactive_file kernel_stack pgactivate pgdeactivate pgfault pglazyfree pglazyfreed pgmajfault pgrefill pgscan pgsteal
    shmem slab slab_reclaimable slab_unreclaimable sock thp_collapse_alloc thp_fault_alloc unevictable
    workingset_activate workingset_nodereclaim workingset_refault""".split()
_BLOCK_IO = """io_service_bytes_recursive io_serviced_recursive io_queue_recursive io_service_time_recursive
    io_wait_time_recursive io_merged_recursive io_time_recursive sectors_recursive""".split()

NO_CPU: Json = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}


@dataclass(frozen=True)
class HostTime:
    """The host's clock of CPU time: nanoseconds that all its CPUs together spent or idled, and how many are online."""

    total: int
    online: int


@dataclass(frozen=True)
class Reading:
    """One look at a running container, its parts in the API's shape. `read_ns` is nanoseconds since the epoch."""

    read_ns: int
    cpu: Json
    memory: Json
    pids: Json
    block_io: Json
    networks: Json


def host_time(stat: str) -> HostTime:
    """From the text of /proc/stat. Guests' time is part of their user's and is not counted twice."""
    lines = stat.splitlines()
    ticks = sum(map(int, lines[0].split()[1:8])) if lines else 0
    return HostTime(ticks * TICK, sum(line.startswith("cpu") for line in lines) - 1 if lines else 0)


def fields(text: str) -> dict[str, int]:
    """Lines of a name and a number; others are passed over."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value.isdecimal():
            found[name] = int(value)
    return found


def number(text: str) -> int | None:
    """One number; v2's `max` is UNLIMITED; None where there is none."""
    text = text.strip()
    if text == "max":
        return UNLIMITED
    return int(text) if text.isdecimal() else None


def _cpu(
    total: int, kernel: int, user: int, throttling: tuple[int, int, int], per_cpu: list[int], at: HostTime
) -> Json:
    usage: Json = {"total_usage": total}
    if per_cpu:
        usage["percpu_usage"] = per_cpu
    usage |= {"usage_in_kernelmode": kernel, "usage_in_usermode": user}
    periods, throttled, time = throttling
    return {
        "cpu_usage": usage,
        "system_cpu_usage": at.total,
        "online_cpus": at.online,
        "throttling_data": {"periods": periods, "throttled_periods": throttled, "throttled_time": time},
    }


def _present(values: Json) -> Json:
    """Without what is nothing, as Go's omitempty leaves it out."""
    return {name: value for name, value in values.items() if value}


def v1(texts: Mapping[str, str], at: HostTime, machine_memory: int) -> tuple[Json, Json, Json, Json]:
    """CPU, memory, PIDs and block I/O from the texts of FILES_V1 (by name; "" for one that is not there)."""
    modes, throttling = fields(texts["cpuacct.stat"]), fields(texts["cpu.stat"])
    cpu = _cpu(
        number(texts["cpuacct.usage"]) or 0,
        modes.get("system", 0) * TICK,
        modes.get("user", 0) * TICK,
        (throttling.get("nr_periods", 0), throttling.get("nr_throttled", 0), throttling.get("throttled_time", 0)),
        [int(value) for value in texts["cpuacct.usage_percpu"].split()],
        at,
    )
    memory: Json = {}
    if texts["memory.stat"]:
        told = fields(texts["memory.stat"])
        memory = _present(
            {
                "usage": number(texts["memory.usage_in_bytes"]),
                "max_usage": number(texts["memory.max_usage_in_bytes"]),
                "stats": {name: told.get(name, 0) for name in _MEMORY_V1},
                "failcnt": number(texts["memory.failcnt"]),
                "limit": min(number(texts["memory.limit_in_bytes"]) or 0, machine_memory),
            }
        )
    limit = number(texts["pids.max"])
    pids = _present({"current": number(texts["pids.current"]), "limit": 0 if limit == UNLIMITED else limit})
    block_io: Json = {name: [] for name in _BLOCK_IO}
    block_io["io_service_bytes_recursive"] = _io_v1(texts["blkio.throttle.io_service_bytes"])
    block_io["io_serviced_recursive"] = _io_v1(texts["blkio.throttle.io_serviced"])
    return cpu, memory, pids, block_io


def _io_v1(text: str) -> list[Json]:
    """Lines such as `8:0 Read 4096`; the sum of all devices, `Total 4096`, is left out."""
    entries = []
    for line in text.splitlines():
        device, _, rest = line.partition(" ")
        major, colon, minor = device.partition(":")
        operation, _, value = rest.partition(" ")
        if colon and value.isdecimal():
            entries.append({"major": int(major), "minor": int(minor), "op": operation, "value": int(value)})
    return entries


def v2(texts: Mapping[str, str], at: HostTime, machine_memory: int) -> tuple[Json, Json, Json, Json]:
    """As `v1`, from the texts of FILES_V2."""
    spent = fields(texts["cpu.stat"])
    cpu = _cpu(
        spent.get("usage_usec", 0) * 1000,
        spent.get("system_usec", 0) * 1000,
        spent.get("user_usec", 0) * 1000,
        (spent.get("nr_periods", 0), spent.get("nr_throttled", 0), spent.get("throttled_usec", 0) * 1000),
        [],
        at,
    )
    memory: Json = {}
    if texts["memory.stat"]:
        told = fields(texts["memory.stat"])
        memory = _present(
            {
                "usage": number(texts["memory.current"]),
                "stats": {name: told.get(name, 0) for name in _MEMORY_V2},
                "failcnt": fields(texts["memory.events"]).get("oom", 0),
                "limit": min(number(texts["memory.max"]) or 0, machine_memory),
            }
        )
    pids = _present({"current": number(texts["pids.current"]), "limit": number(texts["pids.max"])})
    block_io: Json = dict.fromkeys(_BLOCK_IO)
    block_io["io_service_bytes_recursive"] = _io_v2(texts["io.stat"]) or None
    return cpu, memory, pids, block_io


def _io_v2(text: str) -> list[Json]:
    """Lines such as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`."""
    entries = []
    for line in text.splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        for operation, key in (("read", "rbytes"), ("write", "wbytes")):
            value = int(values.get(key, 0))
            entries.append({"major": int(major), "minor": int(minor), "op": operation, "value": value})
    return entries


def interfaces(net_dev: str, wanted: Collection[str]) -> dict[str, Json]:
    """Counters of the interfaces that are wanted, from the text of /proc/net/dev, as the other end of a veth counts
    them: what the host's end has sent is what the container's has received."""
    found = {}
    for line in net_dev.splitlines():
        name, _, rest = line.partition(":")
        if (name := name.strip()) in wanted:
            counts = [int(value) for value in rest.split()]
            found[name] = _counters("rx", counts[8:12]) | _counters("tx", counts[:4])
    return found


def _counters(direction: str, counts: list[int]) -> Json:
    names = ("bytes", "packets", "errors", "dropped")
    return {f"{direction}_{name}": count for name, count in zip(names, counts, strict=True)}


def networks(host_sides: Iterable[str], counted: Mapping[str, Json]) -> Json:
    """Counters by the container's own interface names, which follow the order of its endpoints."""
    return {f"eth{index}": counted[name] for index, name in enumerate(host_sides) if name in counted}


def frame(reading: Reading | None, before: Reading | None, *, name: str = "", container_id: str = "") -> Json:
    """One object of the stream. `before` is the reading a second ago; no `reading` is a container that does not run.

    A one-shot answer has neither name nor ID, as in Docker.
    """
    shown: Json = {
        "read": rfc3339_nano(reading.read_ns if reading else 0),
        "preread": rfc3339_nano(before.read_ns if before else 0),
        "pids_stats": reading.pids if reading else {},
        "blkio_stats": reading.block_io if reading else dict.fromkeys(_BLOCK_IO),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": reading.cpu if reading else NO_CPU,
        "precpu_stats": before.cpu if before else NO_CPU,
        "memory_stats": reading.memory if reading else {},
    }
    if name:
        shown |= {"name": f"/{name}", "id": container_id}
    if reading and reading.networks:
        shown["networks"] = reading.networks
    return shown
