"""Control groups of containers, read and swept directly (cgroups(7))."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from wherry.errors import SystemFailure
from wherry.model.host import CgroupLayout
from wherry.model.updates import Write

ROOT = Path("/sys/fs/cgroup")


def paths(layout: CgroupLayout, path: str) -> list[str]:
    """Where a cgroup path such as `/wherry/ID` is, once per hierarchy."""
    relative = path.strip("/")
    if layout is CgroupLayout.V2:
        return [f"{ROOT}/{relative}"]
    return [f"{hierarchy}/{relative}" for hierarchy in hierarchies()]


def hierarchies() -> list[str]:
    """Mounted hierarchies of a v1 or hybrid host; `cpu,cpuacct` style aliases are symbolic links and left out."""
    with contextlib.suppress(FileNotFoundError):
        return [entry.path for entry in os.scandir(ROOT) if entry.is_dir(follow_symlinks=False)]
    return []


def v1_hierarchies() -> list[str]:
    """Those that a process can enter by writing 0 into `tasks`: not the v2 tree of a hybrid host."""
    return [hierarchy for hierarchy in hierarchies() if os.path.exists(f"{hierarchy}/tasks")]


def make(hierarchies: Sequence[str], path: str) -> None:
    """Make a v1 cgroup in the hierarchies, where it is not there already. Raises SystemFailure."""
    for hierarchy in hierarchies:
        directory = f"{hierarchy}/{path.strip('/')}"
        try:
            _make(hierarchy, directory)
        except OSError as error:
            raise SystemFailure(f"cannot make the cgroup {directory}: {error.strerror}") from None


def _make(hierarchy: str, directory: str) -> None:
    """With its parents. A new cpuset is empty and cannot be entered: it gets its parent's (cgroup-v1/cpusets.rst)."""
    if directory == hierarchy:
        return
    parent = os.path.dirname(directory)
    try:
        os.mkdir(directory)
    except FileNotFoundError:
        _make(hierarchy, parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory)
    except FileExistsError:
        pass
    if "cpuset" not in os.path.basename(hierarchy).split(","):
        return
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not _text(f"{directory}/{name}").strip():
            _make(hierarchy, parent)
            _put(f"{directory}/{name}", _text(f"{parent}/{name}"))


def holds(path: str, pid: int, hierarchies: int) -> bool:
    """Whether a process is in a cgroup in that many v1 hierarchies (proc_pid_cgroup(5)).

    By the paths' ends: their beginning depends on where the engine itself is.
    """
    lines = _text(f"/proc/{pid}/cgroup").splitlines()
    return sum(line.endswith(path) and not line.startswith("0:") for line in lines) == hierarchies


def oom_kills(layout: CgroupLayout, path: str) -> int:
    """How many processes of the cgroup the kernel has killed for want of memory; 0 where that is not known."""
    file = "memory.events" if layout is CgroupLayout.V2 else "memory.oom_control"
    for line in current(layout, path, "memory", file).splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count)
    return 0


def children(layout: CgroupLayout, parent: str) -> set[str]:
    """Names of the cgroups under `parent` in any hierarchy."""
    found: set[str] = set()
    for directory in paths(layout, parent):
        with contextlib.suppress(OSError):
            found.update(entry.name for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False))
    return found


def remove(layout: CgroupLayout, path: str) -> bool:
    """Remove an empty cgroup and its empty descendants, in every hierarchy; False if one is busy and stays."""
    return False not in [_remove(directory) for directory in paths(layout, path)]


def _remove(directory: str) -> bool:
    try:
        try:
            os.rmdir(directory)
        except OSError:  # it holds processes, or others that may go
            inner = [entry.path for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
            if not inner or False in [_remove(each) for each in inner]:
                return False
            os.rmdir(directory)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True


def remove_if_empty(layout: CgroupLayout, path: str) -> None:
    """Remove a cgroup that holds neither processes nor cgroups, in every hierarchy; any other stays."""
    for directory in paths(layout, path):
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def warm_up(layout: CgroupLayout) -> None:
    """Make the kernel's wait for an RCU grace period happen now instead of when the container joins its cgroup.

    Moving a process between cgroups takes a lock whose first writer waits 5 to 15 ms for that grace period and whose
    following writers, for some ms, do not (cgroup_threadgroup_rwsem, kernel/cgroup/cgroup.c). Writing 0 to the cgroup
    this process is in already moves nothing and takes the lock. Blocks: run it in a thread.
    """
    with contextlib.suppress(OSError):
        _put(f"{_own_cgroup(layout)}/cgroup.procs", "0")


def _own_cgroup(layout: CgroupLayout) -> str:
    for line in _text("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if layout is CgroupLayout.V2 and not controllers:
            return _folder(layout, "", path)
        if layout is not CgroupLayout.V2 and controllers == "pids":
            return _folder(layout, "pids", path)
    raise FileNotFoundError("no cgroup of this process")


def processes(layout: CgroupLayout, path: str) -> set[int]:
    """PIDs in the cgroup and the cgroups below it (cgroups(7), cgroup.procs); empty where there is no such cgroup."""
    found: set[int] = set()
    for directory, _, files in os.walk(_folder(layout, "pids", path)):
        if "cgroup.procs" in files:
            with contextlib.suppress(OSError):
                found.update(map(int, _text(f"{directory}/cgroup.procs").split()))
    return found


def current(layout: CgroupLayout, path: str, controller: str, file: str) -> str:
    """What a file of the cgroup says, "" where it cannot be read."""
    with contextlib.suppress(OSError):
        return _text(f"{_folder(layout, controller, path)}/{file}").strip()
    return ""


def write(layout: CgroupLayout, path: str, plan: Sequence[Write]) -> None:
    """Write values into the cgroup's files; if the kernel refuses one, take back those before it.

    Raises SystemFailure that names value, file and reason.
    """
    done: list[Write] = []
    for step in plan:
        before = current(layout, path, step.controller, step.file)
        try:
            _write(layout, path, step)
        except SystemFailure:
            for earlier in reversed([known for known in done if known.value]):
                with contextlib.suppress(SystemFailure):
                    _write(layout, path, earlier)
            raise
        done.append(Write(step.controller, step.file, before))


def fill(layout: CgroupLayout, path: str, plan: Sequence[Write]) -> None:
    """Write values into the files of a new cgroup, which goes if the kernel refuses one. Raises SystemFailure."""
    for (controller, name), steps in itertools.groupby(plan, lambda step: (step.controller, step.file)):
        file = f"{_folder(layout, controller, path)}/{name}"
        value = ""
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
            try:
                for step in steps:
                    value = step.value
                    os.write(descriptor, value.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _refused(file, value, error) from None


def _write(layout: CgroupLayout, path: str, step: Write) -> None:
    file = f"{_folder(layout, step.controller, path)}/{step.file}"
    try:
        _put(file, step.value)
    except OSError as error:
        raise _refused(file, step.value, error) from None


def _refused(file: str, value: str, error: OSError) -> SystemFailure:
    reason = (error.strerror or str(error)).lower()
    return SystemFailure(f'failed to write "{value}": write {file}: {reason}')


def exists(layout: CgroupLayout, path: str, controller: str, file: str) -> bool:
    """Whether a controller has a file in the cgroup; some kernels lack some."""
    return os.path.exists(f"{_folder(layout, controller, path)}/{file}")


def _text(file: str) -> str:
    with open(file) as opened:
        return opened.read()


def _put(file: str, value: str) -> None:
    """In one write(2) and without making the file: a cgroup that is gone stays gone."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def _folder(layout: CgroupLayout, controller: str, path: str) -> str:
    relative = path.lstrip("/")
    return f"{ROOT}/{relative}" if layout is CgroupLayout.V2 else f"{ROOT}/{controller}/{relative}"
