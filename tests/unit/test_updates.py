"""Updates: what may become of a configuration, and what is written into the cgroup."""

from __future__ import annotations

import pytest

from wherry.errors import Conflict, InvalidParameter, NotSupported, SystemFailure
from wherry.model import updates
from wherry.model.config import HostConfig, RestartPolicy, Ulimit, UpdateConfig
from wherry.model.host import CgroupLayout
from wherry.model.updates import merged, refuse_unchangeable

MIB = 1 << 20
V1_FILES = {("memory", "memory.memsw.limit_in_bytes"): str(64 * MIB), ("blkio", "blkio.weight"): "500"}


def plan(layout: CgroupLayout, have: HostConfig, files: dict[tuple[str, str], str], **given: object) -> list[str]:
    wanted = UpdateConfig(**given)  # type: ignore[arg-type]
    after = merged(have, wanted)
    writes = updates.writes(layout, wanted, after, lambda controller, file: files.get((controller, file), ""))
    return [f"{write.file}={write.value}" for write in writes]


def v1(have: HostConfig | None = None, **given: object) -> list[str]:
    return plan(CgroupLayout.HYBRID, have or HostConfig(), V1_FILES, **given)


def v2(have: HostConfig | None = None, **given: object) -> list[str]:
    return plan(CgroupLayout.V2, have or HostConfig(), {("cpu", "cpu.max"): "50000 100000"}, **given)


LIMITED = HostConfig(memory=32 * MIB, memory_swap=64 * MIB)


def test_nothing_given() -> None:
    assert v1() == v2() == []
    assert merged(LIMITED, UpdateConfig()) == LIMITED


def test_memory_v1_in_the_order_that_the_kernel_takes() -> None:
    raised = v1(LIMITED, memory=128 * MIB, memory_swap=256 * MIB)
    assert raised == [f"memory.memsw.limit_in_bytes={256 * MIB}", f"memory.limit_in_bytes={128 * MIB}"]
    lowered = v1(LIMITED, memory=16 * MIB, memory_swap=16 * MIB)
    assert lowered == [f"memory.limit_in_bytes={16 * MIB}", f"memory.memsw.limit_in_bytes={16 * MIB}"]
    assert v1(LIMITED, memory=256 * MIB, memory_swap=-1)[0] == "memory.memsw.limit_in_bytes=-1"
    assert v1(LIMITED, memory=48 * MIB) == [f"memory.limit_in_bytes={48 * MIB}"]


def test_memory_v2_counts_swap_alone() -> None:
    assert v2(LIMITED, memory=48 * MIB) == [f"memory.max={48 * MIB}", f"memory.swap.max={16 * MIB}"]
    assert v2(LIMITED, memory_swap=96 * MIB) == [f"memory.swap.max={64 * MIB}"]
    assert v2(LIMITED, memory_swap=-1) == ["memory.swap.max=max"]
    with pytest.raises(SystemFailure):
        v2(memory_swap=96 * MIB)


def test_cpu() -> None:
    assert v1(nano_cpus=500_000_000) == ["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000"]
    assert v1(cpu_quota=-1) == ["cpu.cfs_quota_us=-1"]
    assert v1(cpu_shares=512) == ["cpu.shares=512"]
    assert v2(nano_cpus=500_000_000) == ["cpu.max=50000 100000"]
    assert v2(cpu_period=20000) == ["cpu.max=50000 20000"]
    assert v2(cpu_quota=20000) == ["cpu.max=20000"]
    assert v2(cpu_quota=-1) == ["cpu.max=max"]
    assert v2(cpu_shares=1024) == ["cpu.weight=39"]
    assert v1(cpuset_cpus="0-1", cpuset_mems="0") == ["cpuset.cpus=0-1", "cpuset.mems=0"]


@pytest.mark.parametrize(
    ("shares", "words"), [(1, "the minimum allowed"), (-5, "the maximum"), (262145, "the maximum")]
)
def test_shares_out_of_range(shares: int, words: str) -> None:
    for layout in (v1, v2):
        with pytest.raises(SystemFailure, match=words):
            layout(cpu_shares=shares)


def test_the_rest() -> None:
    assert v1(pids_limit=20) == v2(pids_limit=20) == ["pids.max=20"]
    assert v1(pids_limit=0) == ["pids.max=max"]
    assert v1(blkio_weight=300) == ["blkio.weight=300"]
    assert v2(blkio_weight=10) == ["io.weight=1"]
    assert v2(blkio_weight=1000) == ["io.weight=10000"]
    assert v1(memory_reservation=8 * MIB) == [f"memory.soft_limit_in_bytes={8 * MIB}"]
    assert v2(memory_reservation=8 * MIB) == [f"memory.low={8 * MIB}"]
    assert v1(cpu_realtime_period=100000, cpu_realtime_runtime=5) == ["cpu.rt_period_us=100000", "cpu.rt_runtime_us=5"]


def test_merging_keeps_what_is_not_given() -> None:
    after = merged(LIMITED, UpdateConfig(cpu_shares=512, pids_limit=0, restart_policy=RestartPolicy("always")))
    assert (after.memory, after.cpu_shares, after.pids_limit) == (32 * MIB, 512, 0)
    assert after.restart_policy.name == "always"
    assert LIMITED.cpu_shares == 0


@pytest.mark.parametrize(
    ("have", "given", "words"),
    [
        (LIMITED, UpdateConfig(memory=128 * MIB), "Memory limit should be smaller"),
        (HostConfig(cpu_quota=5000), UpdateConfig(nano_cpus=10**9), "Nano CPUs cannot be updated as CPU Quota has"),
        (HostConfig(cpu_period=5000), UpdateConfig(nano_cpus=10**9), "Nano CPUs cannot be updated as CPU Period has"),
        (HostConfig(nano_cpus=10**9), UpdateConfig(cpu_quota=5000), "CPU Quota cannot be updated as NanoCPUs has"),
        (HostConfig(nano_cpus=10**9), UpdateConfig(cpu_period=5000), "CPU Period cannot be updated as NanoCPUs has"),
        (
            HostConfig(auto_remove=True),
            UpdateConfig(restart_policy=RestartPolicy("always")),
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ),
    ],
)
def test_conflicts(have: HostConfig, given: HostConfig, words: str) -> None:
    with pytest.raises(Conflict, match=words):
        merged(have, given)


def test_what_cannot_be_changed_is_refused_by_name() -> None:
    refuse_unchangeable(UpdateConfig(memory=8 * MIB, restart_policy=RestartPolicy("always"), devices=[]))
    with pytest.raises(NotSupported, match="Ulimits"):
        refuse_unchangeable(UpdateConfig(ulimits=[Ulimit("nofile", 10, 10)]))
    with pytest.raises(NotSupported, match="OomKillDisable"):
        refuse_unchangeable(UpdateConfig(oom_kill_disable=True))


def test_decoded_as_docker_does() -> None:
    from wherry.api.decode import body

    given = body(UpdateConfig, "application/json", b'{"memory": 67108864, "Binds": 5, "RestartPolicy": {"Name": "no"}}')
    assert (given.memory, given.restart_policy.name, given.binds) == (64 * MIB, "no", None)
    with pytest.raises(InvalidParameter, match=r"struct field UpdateConfig\.Resources\.Memory of type int64"):
        body(UpdateConfig, "application/json", b'{"Memory": "x"}')
