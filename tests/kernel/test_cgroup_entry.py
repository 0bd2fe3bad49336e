"""A process that has entered its cgroup by itself is bound as one that crun has moved: the same files say the same."""

import asyncio
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.test_spec_in_crun import Engine, make_root, remove_cgroups
from tests.support.engine import eventually
from wherry.engine.containers.cgroup_entry import CgroupEntry
from wherry.engine.containers.layout import Layout
from wherry.errors import SystemFailure
from wherry.linux import cgroups
from wherry.model.config import DeviceMapping, ThrottleDevice
from wherry.runtime.entering import with_script
from wherry.runtime.oci import Runtime

V2 = (cgroups.ROOT / "cgroup.controllers").exists()
on_v1 = pytest.mark.skipif(V2, reason="no v1 hierarchies on this host")
MIB = 1 << 20

# Not limits: what is used, and who is in it.
READINGS = (
    *("tasks", "cgroup.procs", "cgroup.event_control", "cpuacct.usage", "memory.force_empty", "memory.pressure_level"),
    *("memory.max_usage_in_bytes", "memory.memsw.max_usage_in_bytes", "memory.kmem.max_usage_in_bytes"),
    *("memory.failcnt", "memory.memsw.failcnt", "memory.kmem.failcnt", "memory.kmem.tcp.max_usage_in_bytes"),
)


class Made:
    """A created container whose process waits, by crun alone or by way of our entry."""

    def __init__(self, engine: Engine, settings: dict[str, Any], *, enters: bool) -> None:
        container = engine.container("exit", {}, settings)
        host = engine.host
        self.layout = Layout(host.roots, container.id)
        self.layout.durable.mkdir(parents=True)
        make_root(self.layout.rootfs)
        crun = host.binaries.crun
        assert crun is not None
        self.runtime = Runtime("crun", crun, host.roots.runtime_state, familiar=True)
        if enters:
            self.runtime = with_script(self.runtime, cgroups.v1_hierarchies(), host.roots.run / "enter")
        self.entry = CgroupEntry(host, self.layout, self.runtime)
        self.spec = engine.bundles().write(container, self.layout, None)

    def make(self) -> None:
        self.entry.prepare()
        self.entry.rule(self.spec["linux"]["resources"])
        runtime, pid_file = self.entry.runtime, self.layout.bundle / "pid"
        words = [str(runtime.executable), *runtime.arguments, "--root", str(runtime.state), "create"]
        bundle = ["--bundle", str(self.layout.bundle), "--pid-file", str(pid_file), self.layout.container_id]
        subprocess.run([*words, *bundle], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.pid = int(pid_file.read_text())
        self.entry.check(self.pid)
        self.entry.limit()

    @property
    def folders(self) -> dict[str, Path]:
        found = map(Path, cgroups.v1_hierarchies())
        return {tree.name: tree / self.layout.cgroup.lstrip("/") for tree in found}

    def limits(self) -> dict[str, str]:
        found = {"devices.list": (self.folders["devices"] / "devices.list").read_text()}
        for folder in self.folders.values():
            for file in folder.iterdir():
                mode = file.stat().st_mode
                both = stat.S_ISREG(mode) and mode & stat.S_IRUSR and mode & stat.S_IWUSR
                if both and file.name not in READINGS:
                    found[file.name] = file.read_text()
        return found

    def delete(self) -> None:
        asyncio.run(self.runtime.delete(self.layout.container_id))
        self.entry.undo()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path)
    yield made
    remove_cgroups(made.host)


DISK = next((f"/dev/{name}" for name in sorted(os.listdir("/sys/block")) if Path(f"/dev/{name}").is_block_device()), "")


@on_v1
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"privileged": True},
        {"memory": 64 * MIB, "memory_swap": 96 * MIB, "memory_reservation": 32 * MIB},
        {"memory": 6 * MIB, "memory_swap": -1, "memory_swappiness": 10, "oom_kill_disable": True},
        {"pids_limit": 1, "nano_cpus": 500_000_000, "cpu_shares": 512},
        {"cpu_period": 50_000, "cpu_quota": 20_000, "cpuset_cpus": "0", "cpuset_mems": "0"},
        {"devices": [DeviceMapping("/dev/full", "/dev/other", "r")], "device_cgroup_rules": ["c 7:* rw", "b *:5 m"]},
        {
            "blkio_device_read_bps": [ThrottleDevice(DISK, 1 << 20)],
            "blkio_device_write_iops": [ThrottleDevice(DISK, 9)],
        },
    ],
    ids=lambda settings: "+".join(settings) or "none",
)
def test_limits_are_those_that_crun_sets(engine: Engine, settings: dict[str, Any]) -> None:
    found = []
    for enters in (False, True):
        made = Made(engine, settings, enters=enters)
        try:
            made.make()
            found.append(made.limits())
            for controller, folder in made.folders.items():
                assert (folder / "cgroup.procs").read_text() == f"{made.pid}\n", controller
        finally:
            made.delete()
    tun = "c 10:200 rwm\n"  # crun allows it in newer versions only, runc in all
    if tun not in found[0]["devices.list"] and not settings.get("privileged"):
        found[0]["devices.list"] += tun
    assert found[0] == found[1]
    assert len(found[0]) > 20


@on_v1
def test_the_runtimes_later_verbs_find_the_cgroup(engine: Engine) -> None:
    made = Made(engine, {}, enters=True)
    try:
        made.make()
        asyncio.run(made.runtime.pause(made.layout.container_id))
        freezer = made.folders["freezer"] / "freezer.state"
        eventually(lambda: freezer.read_text() == "FROZEN\n")  # FREEZING until its process is next scheduled
        asyncio.run(made.runtime.resume(made.layout.container_id))
        assert freezer.read_text() == "THAWED\n"
        asyncio.run(made.runtime.delete(made.layout.container_id))
        assert not any(folder.exists() for folder in made.folders.values())
    finally:
        made.delete()


@on_v1
def test_who_has_not_entered_everywhere_is_not_let_go(engine: Engine) -> None:
    made = Made(engine, {}, enters=True)
    try:
        made.entry.prepare()
        made.entry.rule(made.spec["linux"]["resources"])
        with pytest.raises(SystemFailure, match="has not entered its cgroup"):
            made.entry.check(os.getpid())
    finally:
        made.delete()


@on_v1
def test_what_is_not_known_is_refused(engine: Engine) -> None:
    made = Made(engine, {}, enters=True)
    made.spec["linux"]["resources"]["memory"] = {"limit": 64 * MIB, "unheard": 1}
    try:
        with pytest.raises(SystemFailure, match=r"known for the resource memory\.unheard"):
            made.make()
    finally:
        made.delete()


@on_v1
def test_a_limit_that_the_kernel_refuses_is_named(engine: Engine) -> None:
    made = Made(engine, {}, enters=True)
    made.spec["linux"]["resources"]["pids"] = {"limit": "many"}
    try:
        with pytest.raises(
            SystemFailure, match=r'failed to write "many": write .*/pids.max: invalid argument: unknown'
        ):
            made.make()
    finally:
        made.delete()
    assert not any(folder.exists() for folder in made.folders.values())
