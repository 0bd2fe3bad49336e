"""Limits as the kernel holds them, read from the container's own cgroup."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.engine import IDLE, Engine, eventually

CGROUPS = Path("/sys/fs/cgroup")
V2 = (CGROUPS / "cgroup.controllers").exists()
MIB = 1 << 20


def limit(engine: Engine, container: str, controller: str, v1: str, v2: str) -> str:
    """A file of the cgroup that the container's first process is in (proc(5), /proc/PID/cgroup)."""
    pid = engine.state(container)["Pid"]
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if V2 and not controllers:
            return (CGROUPS / path.lstrip("/") / v2).read_text().strip()
        if not V2 and controller in controllers.split(","):
            return (CGROUPS / controllers / path.lstrip("/") / v1).read_text().strip()
    raise AssertionError(f"no cgroup of {controller}")


def test_memory(engine: Engine) -> None:
    container = engine.idle(host={"Memory": 64 * MIB})
    assert limit(engine, container, "memory", "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    swap = limit(engine, container, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
    assert swap == str((64 if V2 else 128) * MIB)
    host = engine.inspect(container)["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (64 * MIB, 128 * MIB)


def test_memory_and_swap(engine: Engine) -> None:
    container = engine.idle(host={"Memory": 64 * MIB, "MemorySwap": 96 * MIB, "MemoryReservation": 32 * MIB})
    swap = limit(engine, container, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
    assert swap == str((32 if V2 else 96) * MIB)
    soft = limit(engine, container, "memory", "memory.soft_limit_in_bytes", "memory.low")
    assert soft == str(32 * MIB)


def test_unlimited_swap(engine: Engine) -> None:
    container = engine.idle(host={"Memory": 64 * MIB, "MemorySwap": -1})
    swap = limit(engine, container, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
    assert swap == "max" if V2 else int(swap) > 1 << 50
    assert engine.inspect(container)["HostConfig"]["MemorySwap"] == -1


def quota(engine: Engine, container: str) -> tuple[str, str]:
    if V2:
        limits = limit(engine, container, "cpu", "", "cpu.max").split()
        return limits[0], limits[1]
    return (
        limit(engine, container, "cpu", "cpu.cfs_quota_us", ""),
        limit(engine, container, "cpu", "cpu.cfs_period_us", ""),
    )


def test_cpus(engine: Engine) -> None:
    container = engine.idle(host={"NanoCpus": 500_000_000})
    assert quota(engine, container) == ("50000", "100000")
    assert engine.inspect(container)["HostConfig"]["NanoCpus"] == 500_000_000
    container = engine.idle(host={"CpuQuota": 20000, "CpuPeriod": 50000})
    assert quota(engine, container) == ("20000", "50000")


def test_cpu_shares(engine: Engine) -> None:
    container = engine.idle(host={"CpuShares": 512})
    # crun and runc map shares to weights alike: 1 + (shares - 2) * 9999 / 262142
    expected = "20" if V2 else "512"
    assert limit(engine, container, "cpu", "cpu.shares", "cpu.weight") == expected


def test_cpuset(engine: Engine) -> None:
    container = engine.idle(host={"CpusetCpus": "0", "CpusetMems": "0"})
    assert limit(engine, container, "cpuset", "cpuset.cpus", "cpuset.cpus") == "0"
    assert limit(engine, container, "cpuset", "cpuset.mems", "cpuset.mems") == "0"
    assert engine.exec(container, ["nproc"])[1] == "1\n"


def test_pids(engine: Engine) -> None:
    container = engine.idle(host={"PidsLimit": 12})
    assert limit(engine, container, "pids", "pids.max", "pids.max") == "12"
    # A shell that cannot fork gives up, so ask for many at once and count those that live.
    _, out, err = engine.exec(container, "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 5 & done; echo all")
    assert "all" not in out or "fork" in err


def test_no_pids_limit(engine: Engine) -> None:
    for value in (0, -1, None):
        container = engine.idle(host={"PidsLimit": value})
        assert limit(engine, container, "pids", "pids.max", "pids.max") == "max"


def test_block_io_weight_or_a_warning(engine: Engine) -> None:
    answer = engine.try_create(["true"], host={"BlkioWeight": 300})
    assert answer.status == 201
    if answer.json()["Warnings"]:
        assert answer.json()["Warnings"] == [
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
        ]


def test_memory_limit_is_enforced(engine: Engine) -> None:
    container = engine.run(
        ["sh", "-c", "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo survived"],
        host={"Memory": 16 * MIB, "MemorySwap": 16 * MIB},
    )
    assert engine.wait(container) == 137
    assert engine.logs(container)[0] == b""


def test_cgroup_goes_with_the_container(engine: Engine) -> None:
    container = engine.idle()
    pid = engine.state(container)["Pid"]
    paths = []
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        folder = CGROUPS / controllers.removeprefix("name=") / path.lstrip("/")
        if container in path:
            paths.append(folder)
    assert paths
    assert all(path.is_dir() for path in paths if path.parent.exists())
    engine.remove(container)
    eventually(lambda: not any(path.exists() for path in paths))


def test_cgroup_parent(engine: Engine) -> None:
    container = engine.idle(host={"CgroupParent": "/wt-parent"})
    pid = engine.state(container)["Pid"]
    groups = Path(f"/proc/{pid}/cgroup").read_text()
    assert f"/wt-parent/{container}" in groups or V2  # where it has a namespace of its own
    assert (
        engine.http.post(f"/containers/{container}/update", {"Memory": 64 * MIB, "MemorySwap": 64 * MIB}).status == 200
    )
    assert limit(engine, container, "memory", "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    engine.remove(container)
    eventually(lambda: not list(CGROUPS.glob("**/wt-parent/*/cgroup.procs")))
    for folder in CGROUPS.glob("**/wt-parent"):
        folder.rmdir()


@pytest.mark.parametrize("swappiness", [0, 60])
def test_swappiness(engine: Engine, swappiness: int) -> None:
    answer = engine.try_create(IDLE, host={"Memory": 64 * MIB, "MemorySwappiness": swappiness})
    if V2:
        assert answer.status == 400 or answer.json()["Warnings"]
        return
    container = answer.json()["Id"]
    engine.start(container)
    assert limit(engine, container, "memory", "memory.swappiness", "") == str(swappiness)
