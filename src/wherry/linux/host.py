"""Probing the host: what it has, and for each thing missing one sentence on what that means and how to get it.

Sources: cgroups(7), Documentation/admin-guide/cgroup-v2.rst, proc(5).
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from wherry.model import capabilities
from wherry.model.host import Binaries, CgroupLayout, Host, Roots

SEARCHED = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/libexec/podman")
INITS = ("tini-static", "docker-init", "catatonit", "tini")
NEEDED_CONTROLLERS = {
    "cpu": "--cpus, --cpu-quota and --cpu-shares are refused",
    "cpuset": "--cpuset-cpus is refused",
    "memory": "memory limits are refused",
    "pids": "--pids-limit is refused",
}


@dataclass(frozen=True)
class CgroupMounts:
    """What mountinfo says of cgroups: controllers by mount point of v1, and the v2 tree's mount point."""

    v1: Mapping[str, str]
    v2: str | None


def probe(roots: Roots) -> Host:
    """Look at the host once. Blocking: reads /proc and /sys and runs `crun --version`."""
    binaries = Binaries(
        conmon=find("conmon"),
        crun=find("crun"),
        runc=find("runc"),
        init=next((path for path in map(find, INITS) if path), None),
    )
    mounts = cgroup_mounts(_read("/proc/self/mountinfo"))
    unified = _read(f"{mounts.v2}/cgroup.controllers").split() if mounts.v2 else []
    layout = cgroup_layout(mounts)
    controllers = frozenset(unified if layout is CgroupLayout.V2 else mounts.v1)
    crun_version, _ = program_version(binaries.crun)
    host = Host(
        roots=roots,
        binaries=binaries,
        cgroups=layout,
        controllers=controllers,
        kernel=kernel_version(os.uname().release),
        boot_id=_read("/proc/sys/kernel/random/boot_id").strip(),
        cpus=len(os.sched_getaffinity(0)),
        memory=memory_total(_read("/proc/meminfo")),
        nftables=has_nftables(),
        ipv6=Path("/proc/net/if_inet6").exists(),
        apparmor=_read("/sys/module/apparmor/parameters/enabled").startswith("Y"),
        selinux=Path("/sys/fs/selinux/enforce").exists(),
        seccomp="Seccomp_filters:" in _read("/proc/self/status") or "Seccomp:" in _read("/proc/self/status"),
        crun_version=crun_version,
        capabilities=capability_names(_read("/proc/self/status")),
        cgroup_features=cgroup_features(layout, mounts, controllers),
        cpuset=_cpuset(layout, mounts, "cpus"),
        memory_nodes=_cpuset(layout, mounts, "mems"),
    )
    left_over = left_in_unified(layout, unified)
    return replace(host, warnings=tuple(complaints(host, left_over, rcu_normal=_rcu_normal())))


def default_runtime(host: Host) -> str:
    """crun where it can run; runc where it is missing or refuses (hybrid with a controller left in the v2 tree)."""
    crun_refuses = any("left in the unified hierarchy" in warning for warning in host.warnings)
    if host.binaries.crun and not crun_refuses:
        return "crun"
    return "runc" if host.binaries.runc else "crun"


def cgroup_mounts(mountinfo: str) -> CgroupMounts:
    """From the text of /proc/self/mountinfo."""
    v1: dict[str, str] = {}
    v2 = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if len(fields) < 5 or len(rest) < 3:
            continue
        if rest[0] == "cgroup2":
            v2 = v2 or fields[4]
        elif rest[0] == "cgroup":
            names = [option for option in rest[2].split(",") if not option.startswith("name=") and option not in _FLAGS]
            v1.update(dict.fromkeys(names, fields[4]))
    return CgroupMounts(v1, v2)


_FLAGS = frozenset("rw ro xattr noprefix clone_children nsdelegate memory_recursiveprot favordynmods".split())


def cgroup_layout(mounts: CgroupMounts) -> CgroupLayout:
    if not mounts.v1:
        return CgroupLayout.V2
    return CgroupLayout.HYBRID if mounts.v2 else CgroupLayout.V1


# The file of a v1 controller that shows a limit can be kept.
FEATURES_V1 = {
    "memory": ("memory", "memory.limit_in_bytes"),
    "memory.swap": ("memory", "memory.memsw.limit_in_bytes"),
    "memory.swappiness": ("memory", "memory.swappiness"),
    "memory.reservation": ("memory", "memory.soft_limit_in_bytes"),
    "memory.oom_kill_disable": ("memory", "memory.oom_control"),
    "cpu.shares": ("cpu", "cpu.shares"),
    "cpu.cfs": ("cpu", "cpu.cfs_quota_us"),
    "cpu.realtime": ("cpu", "cpu.rt_runtime_us"),
    "cpuset": ("cpuset", "cpuset.cpus"),
    "pids": ("pids", "cgroup.procs"),
    "blkio.weight": ("blkio", "blkio.weight"),
    "blkio.weight_device": ("blkio", "blkio.weight_device"),
    "blkio.throttle": ("blkio", "blkio.throttle.read_bps_device"),
}

# The v2 controller that keeps a limit, and the file its children have where the kernel was built with it.
FEATURES_V2 = {
    "memory": ("memory", "memory.max"),
    "memory.swap": ("memory", "memory.swap.max"),
    "memory.reservation": ("memory", "memory.low"),
    "cpu.shares": ("cpu", "cpu.weight"),
    "cpu.cfs": ("cpu", "cpu.max"),
    "cpuset": ("cpuset", "cpuset.cpus"),
    "pids": ("pids", "pids.max"),
    "blkio.weight": ("io", "io.weight"),
    "blkio.weight_device": ("io", "io.weight"),
    "blkio.throttle": ("io", "io.max"),
}


def cgroup_features(layout: CgroupLayout, mounts: CgroupMounts, controllers: frozenset[str]) -> frozenset[str]:
    """The limits that can be kept (`wherry.model.host.CGROUP_FEATURES`)."""
    if layout is not CgroupLayout.V2:
        return frozenset(
            feature
            for feature, (controller, file) in FEATURES_V1.items()
            if controller in mounts.v1 and Path(mounts.v1[controller], file).exists()
        )
    return frozenset(
        feature
        for feature, (controller, file) in FEATURES_V2.items()
        if controller in controllers and _children_have(Path(mounts.v2 or "/"), controller, file)
    )


def _children_have(root: Path, controller: str, file: str) -> bool:
    """Whether the root's children have a file (the root itself lacks most); yes where there is no child to ask."""
    if controller not in _read(f"{root}/cgroup.subtree_control").split():
        return True
    children = [path for path in root.glob("*/") if (path / "cgroup.controllers").exists()]
    return not children or any((child / file).exists() for child in children)


def _cpuset(layout: CgroupLayout, mounts: CgroupMounts, what: str) -> str:
    if layout is CgroupLayout.V2:
        return _read(f"{mounts.v2}/cpuset.{what}.effective").strip()
    return _read(f"{mounts.v1['cpuset']}/cpuset.effective_{what}").strip() if "cpuset" in mounts.v1 else ""


def capability_names(status: str) -> frozenset[str]:
    """The bounding set in the text of /proc/PID/status (capabilities(7))."""
    match = re.search(r"^CapBnd:\s+([0-9a-f]+)", status, re.MULTILINE)
    bits = int(match[1], 16) if match else 0
    return frozenset(name for name, number in capabilities.NUMBERS.items() if bits >> number & 1)


def left_in_unified(layout: CgroupLayout, unified: Iterable[str]) -> list[str]:
    """Controllers that a hybrid host keeps in its v2 tree, where crun does not look (it then refuses to run)."""
    return sorted(unified) if layout is CgroupLayout.HYBRID else []


def complaints(host: Host, left_over: list[str], *, rcu_normal: bool) -> Iterable[str]:
    """One sentence for each thing missing or in the way: what it means, and how to get it."""
    binaries = host.binaries
    if binaries.conmon is None:
        yield "conmon is missing: no container can start (apt install conmon)"
    if binaries.crun is None and binaries.runc is None:
        yield "neither crun nor runc is there: no container can start (apt install crun)"
    elif binaries.crun is None:
        yield "crun is missing: runc is used, and containers start more slowly (apt install crun)"
    if left_over:
        names = ", ".join(left_over)
        way_out = "runc is used" if binaries.runc else "no container can start (apt install runc)"
        yield (
            f"cgroup controllers left in the unified hierarchy of a hybrid host ({names}): crun refuses that, {way_out}"
        )
    if binaries.init is None:
        yield "no init program is there: --init is refused (apt install tini)"
    if not host.nftables:
        yield (
            "nftables cannot be used: containers can only have --network none, host or container:NAME "
            "(apt install libnftables1, and a kernel with nf_tables)"
        )
    if not host.ipv6:
        yield "the kernel has no IPv6: ports are published on IPv4 addresses only"
    if not host.seccomp:
        yield "the kernel has no seccomp: containers run without a system call filter (CONFIG_SECCOMP_FILTER)"
    for name, meaning in NEEDED_CONTROLLERS.items():
        if name not in host.controllers:
            yield f"the {name} cgroup controller is missing: {meaning} (mount or enable it)"
    if rcu_normal:
        yield ("rcu_normal is set: starting a container takes several times as long (echo 0 > /sys/kernel/rcu_normal)")


def find(name: str) -> Path | None:
    """A program in PATH or where distributions put it."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *SEARCHED])
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def program_version(path: Path | None) -> tuple[tuple[int, ...], str]:
    """The version numbers and the commit that `PROGRAM --version` tells; empty where it cannot be run."""
    if path is None:
        return (), ""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return (), ""
    version = re.search(r"(\d+(?:\.\d+)+)", said)
    commit = re.search(r"commit:\s*(\S+)", said)
    return tuple(map(int, version[1].split("."))) if version else (), commit[1] if commit else ""


def runtime_features(path: Path) -> str:
    """What an OCI runtime says that it can (runtime-spec features.md), as one line of JSON; "" of one that does not."""
    try:
        said = subprocess.run([path, "features"], capture_output=True, text=True, timeout=10, check=True).stdout
        return json.dumps(json.loads(said), separators=(",", ":"))
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""


def kernel_version(release: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def memory_total(meminfo: str) -> int:
    """Bytes of memory, from the text of /proc/meminfo."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def has_nftables() -> bool:
    """The library can be loaded, and the kernel has nf_tables (as a module it is loaded at first use)."""
    return any(
        next(Path(root).glob("libnftables.so.1*"), None)
        for root in ("/usr/lib", f"/usr/lib/{platform.machine()}-linux-gnu", "/usr/lib64", "/usr/local/lib")
    )


def operating_system() -> tuple[str, str]:
    """Pretty name and version of the distribution (os-release(5))."""
    try:
        found = platform.freedesktop_os_release()
    except OSError:
        return "Linux", ""
    return found.get("PRETTY_NAME", "Linux"), found.get("VERSION_ID", "")


def file_system(path: Path) -> str:
    """The type of file system a path is on, as mountinfo names it."""
    best, kind = "", ""
    for line in _read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4]
        if (point == "/" or f"{path}/".startswith(f"{point}/")) and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind


def _rcu_normal() -> bool:
    return _read("/sys/kernel/rcu_normal").strip() == "1"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
