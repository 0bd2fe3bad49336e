"""The machine is what the other tests take it for."""

from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def test_cgroup_v2_is_all_there_is() -> None:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    assert [(point, kind) for _, point, kind, *_ in mounts if kind.startswith("cgroup")] == [(str(CGROUP), "cgroup2")]
    assert {"cpu", "cpuset", "io", "memory", "pids"} <= set((CGROUP / "cgroup.controllers").read_text().split())
