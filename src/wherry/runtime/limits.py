"""A spec's `linux.resources` as writes into a new v1 cgroup, for a process that enters it without the runtime.

Sources: opencontainers/runtime-spec config-linux.md, and the kernel's Documentation/admin-guide/cgroup-v1/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from wherry.errors import SystemFailure
from wherry.model.updates import Write

Json = dict[str, Any]

# In the order in which they are written: memory before memory with swap, the period before what counts in it.
_FILES: dict[tuple[str, str], tuple[str, str]] = {
    ("cpu", "shares"): ("cpu", "cpu.shares"),
    ("cpu", "period"): ("cpu", "cpu.cfs_period_us"),
    ("cpu", "quota"): ("cpu", "cpu.cfs_quota_us"),
    ("cpu", "realtimePeriod"): ("cpu", "cpu.rt_period_us"),
    ("cpu", "realtimeRuntime"): ("cpu", "cpu.rt_runtime_us"),
    ("cpu", "cpus"): ("cpuset", "cpuset.cpus"),
    ("cpu", "mems"): ("cpuset", "cpuset.mems"),
    ("memory", "limit"): ("memory", "memory.limit_in_bytes"),
    ("memory", "swap"): ("memory", "memory.memsw.limit_in_bytes"),
    ("memory", "reservation"): ("memory", "memory.soft_limit_in_bytes"),
    ("memory", "swappiness"): ("memory", "memory.swappiness"),
    ("memory", "disableOOMKiller"): ("memory", "memory.oom_control"),
    ("blockIO", "weight"): ("blkio", "blkio.weight"),
    ("blockIO", "weightDevice"): ("blkio", "blkio.weight_device"),
    ("blockIO", "throttleReadBpsDevice"): ("blkio", "blkio.throttle.read_bps_device"),
    ("blockIO", "throttleWriteBpsDevice"): ("blkio", "blkio.throttle.write_bps_device"),
    ("blockIO", "throttleReadIOPSDevice"): ("blkio", "blkio.throttle.read_iops_device"),
    ("blockIO", "throttleWriteIOPSDevice"): ("blkio", "blkio.throttle.write_iops_device"),
    ("pids", "limit"): ("pids", "pids.max"),
}

# What Docker's runtime allows whatever the spec says: the default devices (config-linux.md), a VPN's /dev/net/tun, and
# to make any node, which is not to use it.
_ALWAYS_ALLOWED = (
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:8 rwm",
    "c 1:7 rwm",
    "c 5:0 rwm",
    "c 1:5 rwm",
    "c 1:9 rwm",
    "c 5:1 rwm",
    "c 136:* rwm",
    "c 5:2 rwm",
    "c 10:200 rwm",
)


@dataclass(frozen=True)
class Plan:
    """`rules` of devices hold from the beginning; `limits` would bind the runtime too, and hold before the command."""

    rules: tuple[Write, ...]
    limits: tuple[Write, ...]


def planned(resources: Json, exists: Callable[[str, str], bool]) -> Plan:
    """What brings `resources` into force. `exists` tells whether a controller has a file.

    Raises SystemFailure for a resource that is not known here.
    """
    groups = resources.keys() - {"devices"}
    values = {(group, key): value for group in groups for key, value in resources[group].items()}
    if unknown := values.keys() - _FILES.keys():
        raise SystemFailure(f"no file of a v1 cgroup is known for the resource {'.'.join(min(unknown))}")
    bfq = not exists("blkio", "blkio.weight")
    limits: list[Write] = []
    for name, (controller, file) in _FILES.items():
        if bfq and "weight" in file:
            file = file.replace("blkio.", "blkio.bfq.")
        limits += (Write(controller, file, text) for text in _texts(values.get(name)))
    return Plan(tuple(_rules(resources["devices"])), tuple(limits))


def _texts(value: Any) -> Iterator[str]:
    """As the kernel reads it: a device's limit as "8:0 1024"."""
    if isinstance(value, list):
        for entry in value:
            yield f"{entry['major']}:{entry['minor']} {entry.get('weight', entry.get('rate'))}"
    elif value is not None:
        yield str(int(value)) if isinstance(value, bool) else str(value)


def _rules(devices: list[Json]) -> Iterator[Write]:
    for rule in devices:
        yield Write("devices", "devices.allow" if rule["allow"] else "devices.deny", _rule(rule))
    yield from (Write("devices", "devices.allow", text) for text in _ALWAYS_ALLOWED)


def _rule(rule: Json) -> str:
    if "type" not in rule:
        return "a"
    major, minor = rule.get("major", "*"), rule.get("minor", "*")
    return f"{rule['type']} {major}:{minor} {rule['access']}"
