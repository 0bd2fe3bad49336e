"""What an ended run left: its exit code and time, whether the kernel killed it for memory, and the remains to clear."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass

from wherry.engine.containers.layout import Layout
from wherry.engine.containers.readying import clear_bundle
from wherry.linux import cgroups, processes
from wherry.model.container import Container
from wherry.model.host import Host
from wherry.runtime.oci import Runtime

LOST = 255  # exit code when nobody can know it, as Docker's


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `finished_at` is in ns since the epoch."""

    exit_code: int
    finished_at: int
    oom_killed: bool = False
    error: str = ""


def read_outcome(container: Container, layout: Layout, host: Host) -> Outcome:
    """The monitor's report of a run that has ended, or what is to be concluded from its absence.

    The exit file's own time is when the process ended: the monitor writes it at once, whether or not a daemon is there.
    """
    oom = cgroups.oom_kills(host.cgroups, layout.cgroup) > 0
    try:
        code = int(layout.exit_file.read_text())
        return Outcome(code, layout.exit_file.stat().st_mtime_ns, oom)
    except (FileNotFoundError, ValueError):
        pass
    monitor = container.state.monitor
    now = time.time_ns()
    if monitor is not None and monitor.boot_id != host.boot_id:
        return Outcome(LOST, now, error="the host was restarted while the container ran")
    pid = monitor.pid if monitor is not None else 0
    error = f"the container's monitor (conmon, PID {pid}) was killed: the process was ended, its exit code is not known"
    return Outcome(128 + signal.SIGKILL, now, oom, error)


async def end_orphan(container: Container, runtime: Runtime, host: Host) -> None:
    """End the process of a container whose monitor is gone: nobody holds its output or would see its end."""
    if processes.alive(container.state.process, host.boot_id):
        await runtime.delete(container.id)


async def clear(container: Container, layout: Layout, runtime: Runtime, host: Host) -> None:
    """Remove the runtime's state, the cgroup, the mount and the bundle of an ended run."""
    if not await asyncio.to_thread(_clear_directly, container, layout, runtime, host):
        await runtime.delete(container.id)
        await asyncio.to_thread(cgroups.remove, host.cgroups, layout.cgroup)
    await asyncio.to_thread(clear_bundle, layout)


def _clear_directly(container: Container, layout: Layout, runtime: Runtime, host: Host) -> bool:
    """Do what the runtime's `delete` would, without starting a process for it; False where that is not enough."""
    if not runtime.familiar or not cgroups.remove(host.cgroups, layout.cgroup):
        return False
    runtime.forget(container.id)
    return True
