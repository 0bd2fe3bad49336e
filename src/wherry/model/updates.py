"""Changing a container's limits: what may become of a configuration, and which files of its cgroup then say so.

Sources: Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst; the weights are converted as the runtimes do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from msgspec.structs import fields, replace

from wherry.errors import Conflict, NotSupported, SystemFailure
from wherry.model.config import HostConfig
from wherry.model.host import CgroupLayout

PERIOD = 100_000  # microseconds: the one in which NanoCpus counts, and the kernel's own

# What an update can change, beside the restart policy: these, where given, replace what the record has.
CHANGEABLE = (
    "blkio_weight",
    "cpu_shares",
    "nano_cpus",
    "cpu_period",
    "cpu_quota",
    "cpuset_cpus",
    "cpuset_mems",
    "memory",
    "memory_swap",
    "memory_reservation",
    "cpu_realtime_period",
    "cpu_realtime_runtime",
    "pids_limit",
)


@dataclass(frozen=True)
class Write:
    """One value for one file of the cgroup; `controller` is the folder of its hierarchy in v1."""

    controller: str
    file: str
    value: str


def refuse_unchangeable(given: HostConfig) -> None:
    """Raises NotSupported for a resource that is given and cannot be changed later.

    The engine's own fields (binds, ports...) are no part of an update and never get here.
    """
    for field in fields(HostConfig):
        if field.name in CHANGEABLE or field.name == "restart_policy" or not getattr(given, field.name):
            continue
        if field.name == "log_config" or getattr(given, field.name) == field.default:
            continue
        raise NotSupported(f"{field.encode_name} cannot be changed by an update: make the container anew")


def merged(have: HostConfig, given: HostConfig) -> HostConfig:
    """The configuration after an update. Raises Conflict in Docker's words."""
    _refuse_two_ways_of_cpus(have, given)
    if given.memory > have.memory_swap and given.memory and not given.memory_swap:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    changes = {name: getattr(given, name) for name in CHANGEABLE if getattr(given, name) not in (0, "", None)}
    if given.pids_limit is not None:
        changes["pids_limit"] = given.pids_limit
    if given.restart_policy.name:
        if have.auto_remove and given.restart_policy.name != "no":
            raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
        changes["restart_policy"] = given.restart_policy
    return replace(have, **changes)


def _refuse_two_ways_of_cpus(have: HostConfig, given: HostConfig) -> None:
    for wrong, what, set_before in (
        (given.nano_cpus > 0 and have.cpu_period > 0, "Nano CPUs", "CPU Period has"),
        (given.nano_cpus > 0 and have.cpu_quota > 0, "Nano CPUs", "CPU Quota has"),
        (given.cpu_period > 0 and have.nano_cpus > 0, "CPU Period", "NanoCPUs has"),
        (given.cpu_quota > 0 and have.nano_cpus > 0, "CPU Quota", "NanoCPUs has"),
    ):
        if wrong:
            raise Conflict(f"Conflicting options: {what} cannot be updated as {set_before} already been set")


Current = Callable[[str, str], str]
"""The text that a controller's file has now, "" where there is none."""


def writes(layout: CgroupLayout, given: HostConfig, after: HostConfig, current: Current) -> list[Write]:
    """What to write, in order, so that the cgroup keeps what is `given`; `after` is the whole configuration then.

    Raises SystemFailure for what the kernel would not take.
    """
    plan = _v2 if layout is CgroupLayout.V2 else _v1
    return list(plan(given, after, current))


def _v1(given: HostConfig, after: HostConfig, current: Current) -> Iterator[Write]:
    if given.blkio_weight:
        file = "blkio.weight" if current("blkio", "blkio.weight") else "blkio.bfq.weight"
        yield Write("blkio", file, str(given.blkio_weight))
    if given.cpu_shares:
        yield Write("cpu", "cpu.shares", str(_shares(given)))
    period, quota = _bandwidth(given)
    if period:
        yield Write("cpu", "cpu.cfs_period_us", str(period))
    if quota:
        yield Write("cpu", "cpu.cfs_quota_us", str(max(quota, -1)))
    if given.cpu_realtime_period:
        yield Write("cpu", "cpu.rt_period_us", str(given.cpu_realtime_period))
    if given.cpu_realtime_runtime:
        yield Write("cpu", "cpu.rt_runtime_us", str(given.cpu_realtime_runtime))
    yield from _cpusets(given)
    yield from _memory_v1(given, after, current)
    if given.memory_reservation:
        yield Write("memory", "memory.soft_limit_in_bytes", str(given.memory_reservation))
    yield from _pids(given)


def _memory_v1(given: HostConfig, after: HostConfig, current: Current) -> Iterator[Write]:
    """The kernel keeps the limit at most the limit with swap at every moment, so a raise begins with the latter."""
    limit = Write("memory", "memory.limit_in_bytes", str(given.memory)) if given.memory else None
    both = Write("memory", "memory.memsw.limit_in_bytes", str(given.memory_swap)) if given.memory_swap else None
    now = current("memory", "memory.memsw.limit_in_bytes")
    raised = given.memory_swap < 0 or (now.isdigit() and given.memory_swap > int(now))
    for write in (both, limit) if raised else (limit, both):
        if write:
            yield write


def _v2(given: HostConfig, after: HostConfig, current: Current) -> Iterator[Write]:
    if given.blkio_weight:
        if current("io", "io.bfq.weight"):
            yield Write("io", "io.bfq.weight", str(given.blkio_weight))
        else:
            yield Write("io", "io.weight", str(1 + (given.blkio_weight - 10) * 9999 // 990))
    if given.cpu_shares:
        yield Write("cpu", "cpu.weight", str(1 + (_shares(given) - 2) * 9999 // 262142))
    period, quota = _bandwidth(given)
    if period or quota:
        kept = (current("cpu", "cpu.max") or "max").split()[0]
        most = kept if not quota else "max" if quota < 0 else str(quota)
        yield Write("cpu", "cpu.max", f"{most} {period}" if period else most)
    yield from _cpusets(given)
    if given.memory:
        yield Write("memory", "memory.max", str(given.memory))
    if given.memory_swap < 0:
        yield Write("memory", "memory.swap.max", "max")
    elif given.memory_swap or (given.memory and after.memory_swap > 0):
        if not after.memory:
            raise SystemFailure("a limit of memory with swap needs a limit of memory")
        yield Write("memory", "memory.swap.max", str(max(after.memory_swap - after.memory, 0)))
    if given.memory_reservation:
        yield Write("memory", "memory.low", str(given.memory_reservation))
    yield from _pids(given)


def _shares(given: HostConfig) -> int:
    """The kernel takes any number and silently bounds it: the runtimes call that an error."""
    if given.cpu_shares == 1:
        raise SystemFailure("the minimum allowed cpu-shares is 2")
    if not 2 <= given.cpu_shares <= 262144:
        raise SystemFailure("the maximum allowed cpu-shares is 262144")
    return given.cpu_shares


def _bandwidth(given: HostConfig) -> tuple[int, int]:
    """Period and quota in microseconds, 0 for one that is not given; a quota below 0 is none."""
    if given.nano_cpus:
        return PERIOD, given.nano_cpus * PERIOD // 10**9
    return given.cpu_period, given.cpu_quota


def _cpusets(given: HostConfig) -> Iterator[Write]:
    if given.cpuset_cpus:
        yield Write("cpuset", "cpuset.cpus", given.cpuset_cpus)
    if given.cpuset_mems:
        yield Write("cpuset", "cpuset.mems", given.cpuset_mems)


def _pids(given: HostConfig) -> Iterator[Write]:
    if given.pids_limit is not None:
        yield Write("pids", "pids.max", str(given.pids_limit) if given.pids_limit > 0 else "max")
