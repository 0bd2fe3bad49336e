"""Settling the host's cgroup mounts, once, before the engine starts; the engine itself never changes them.

Two kinds of machine need it (cgroups(7)): one where nothing has mounted cgroups, as in a minimal system without
systemd, and a hybrid one where a controller was left in the unified hierarchy, with which crun refuses to work.
Nothing is ever unmounted, and nothing is touched while another engine runs, since that one would lose sight of its
containers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.progress import Failure, run, say

MOUNT_POINT = "/sys/fs/cgroup"
OTHER_ENGINES = frozenset({"dockerd", "containerd", "podman", "crio", "kubelet", "lxd", "incusd", "systemd-nspawn"})
"""Names of processes (proc_pid_comm(5)) that keep containers in cgroups."""


@dataclass(frozen=True)
class Mount:
    """One mount(2) to be made, on a folder that is made if need be."""

    type: str
    target: str
    options: str = ""


@dataclass(frozen=True)
class Facts:
    """What the kernel says of cgroups."""

    mounts: Mapping[str, tuple[str, frozenset[str]]]
    """Mount point -> type (cgroup, cgroup2, tmpfs) and super options, for those at MOUNT_POINT and below."""
    hierarchies: Mapping[str, int]
    """Enabled v1-capable controller -> hierarchy it is bound to; 0 is none, or the unified one."""
    unified_controllers: frozenset[str]
    """cgroup.controllers of the mounted cgroup2, empty if there is none."""


def plan(facts: Facts) -> list[Mount]:
    """The mounts that make the machine one that crun works on; empty if it already is."""
    types = {type for type, _ in facts.mounts.values()}
    if "cgroup" in types:
        return [_v1(name) for name in sorted(facts.unified_controllers & set(facts.hierarchies))]
    if "cgroup2" in types:
        return []
    bound = sorted(name for name, hierarchy in facts.hierarchies.items() if hierarchy)
    if not bound:
        return [Mount("cgroup2", MOUNT_POINT)]
    base = [] if MOUNT_POINT in facts.mounts else [Mount("tmpfs", MOUNT_POINT, "mode=755")]
    return base + [_v1(name) for name in sorted(facts.hierarchies)]


def _v1(controller: str) -> Mount:
    return Mount("cgroup", f"{MOUNT_POINT}/{controller}", controller)


def read_facts(proc: Path = Path("/proc")) -> Facts:
    mounts = parse_mounts((proc / "self/mountinfo").read_text())
    unified = [Path(point) for point, (type, _) in mounts.items() if type == "cgroup2"]
    controllers = (unified[0] / "cgroup.controllers").read_text().split() if unified else []
    return Facts(mounts, parse_hierarchies((proc / "cgroups").read_text()), frozenset(controllers))


def parse_mounts(mountinfo: str) -> dict[str, tuple[str, frozenset[str]]]:
    """proc_pid_mountinfo(5), those at MOUNT_POINT and below."""
    found = {}
    for line in mountinfo.splitlines():
        before, after = line.split(" - ", 1)
        point, (type, _, options) = before.split(" ")[4], after.split(" ", 2)
        if point == MOUNT_POINT or point.startswith(f"{MOUNT_POINT}/"):
            if type != "sysfs":
                found[point] = (type, frozenset(options.split(",")))
    return found


def parse_hierarchies(cgroups: str) -> dict[str, int]:
    """/proc/cgroups: name, hierarchy, number of cgroups, enabled."""
    rows = (line.split() for line in cgroups.splitlines() if line and not line.startswith("#"))
    return {name: int(hierarchy) for name, hierarchy, _, enabled in rows if enabled == "1"}


def other_engines(proc: Path = Path("/proc")) -> list[str]:
    """Other engines that run, by name."""
    names = set()
    for process in proc.glob("[0-9]*"):
        try:
            names.add((process / "comm").read_text().strip())
        except OSError:  # it ended
            continue
    return sorted(names & OTHER_ENGINES)


def settle() -> None:
    """Make the planned mounts, or say why not. Raises Failure if a mount cannot be made."""
    mounts = plan(read_facts())
    if not mounts:
        return
    what = ", ".join(mount.options or mount.type for mount in mounts)
    if any(mount.type == "cgroup" for mount in mounts) and (others := other_engines()):
        say(
            f"Cgroup controllers not mounted on their own ({what}) stay so, since {' and '.join(others)} runs: "
            "containers will run with runc, not crun"
        )
        return
    say(f"Mounting cgroups: {what}")
    for mount in mounts:
        Path(mount.target).mkdir(parents=True, exist_ok=True)
        options = ["-o", mount.options] if mount.options else []
        try:
            run(["mount", "-t", mount.type, *options, "cgroup", mount.target])
        except Failure as failure:
            raise Failure(
                f"cgroups cannot be settled here ({failure}): is this a container without the right?"
            ) from None
