"""What a start does before its spec: bundle, cgroup, monitor, and a runtime that waits for the spec."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path

from wherry.engine.containers.cgroup_entry import CgroupEntry
from wherry.engine.containers.layout import Layout
from wherry.errors import SystemFailure
from wherry.linux import mounts, netns, processes
from wherry.model.container import ProcessIdentity
from wherry.model.failpoints import failpoint
from wherry.model.host import Host
from wherry.model.idmaps import IdMap
from wherry.runtime.conmon import Launch, Monitor
from wherry.runtime.feeding import SpecFeed
from wherry.runtime.oci import Runtime


class Ready:
    """One run made ready.

    ready = Ready(...); await ready.make(...)
    async with ready.held:          # the feed and the monitor's pipes, until the runtime has joined all it is to join
        ready.feed.put(spec)
        await ready.monitor.created()
    await ready.close()             # or, where it is not wanted any more, all of it undone
    """

    def __init__(self, host: Host, layout: Layout, launch: Launch, runtime: Runtime) -> None:
        self.launch = launch
        self.runtime = runtime
        self.entry = CgroupEntry(host, layout, runtime)
        self.feed = SpecFeed(layout.bundle, early=runtime.familiar)
        self.held = contextlib.AsyncExitStack()
        self.network = -1  # descriptor of an empty network namespace, if one was made
        self._host = host
        self._layout = layout

    async def make(self, conmon: Path, ids: IdMap | None) -> None:
        """Raises SystemFailure, OSError; then nothing is left behind."""
        try:
            await self._make(conmon, ids)
        except BaseException:
            await self.close()
            raise

    async def _make(self, conmon: Path, ids: IdMap | None) -> None:
        cgroup = asyncio.create_task(asyncio.to_thread(self.entry.prepare))
        self.held.push_async_callback(asyncio.wait, {cgroup})
        if self._layout.bundle.exists():  # a former run could not be cleared up
            await asyncio.to_thread(clear_bundle, self._layout)
        make_bundle(self._layout, ids)
        self.held.enter_context(self.feed)
        monitor = Monitor(self.launch, conmon, self.entry.runtime)
        self.monitor = await self.held.enter_async_context(monitor)  # it loads itself meanwhile
        failpoint("ready.monitor-spawned")
        await cgroup
        if self.feed.early:
            self.monitor.go()

    async def make_network(self) -> None:
        """Raises OSError."""
        self.network = await asyncio.to_thread(netns.make)
        self.held.callback(os.close, self.network)

    async def close(self) -> None:
        """Undo everything."""
        with contextlib.suppress(SystemFailure):  # a monitor that was not let go
            await self.held.aclose()
        await self.abort()
        await self.clear()

    async def abort(self) -> None:
        """End the container and then its monitor, wherever the start has got to, and wait until both are gone."""
        boot = self._host.boot_id
        await self.runtime.delete(self.launch.container_id)
        monitor = monitor_identity(self.launch.monitor_pid_file, boot)
        if not await processes.wait_gone(monitor, boot, seconds=0.5):
            processes.send_signal(monitor, signal.SIGKILL, boot)
            await processes.wait_gone(monitor, boot, seconds=5)

    async def clear(self) -> None:
        """Remove the cgroup and the bundle, when nothing runs there any more."""
        await asyncio.to_thread(self.entry.undo)
        await asyncio.to_thread(clear_bundle, self._layout)


def monitor_identity(pid_file: Path, boot: str) -> ProcessIdentity | None:
    """The monitor that a pid file names, if it is alive."""
    try:
        return processes.identify(int(pid_file.read_text()), boot)
    except (FileNotFoundError, ValueError):
        return None


def make_bundle(layout: Layout, ids: IdMap | None = None) -> None:
    """The directories of a new run. With `ids` its root user may pass through those above its root."""
    layout.rootfs.mkdir(parents=True, mode=0o700)
    if ids is not None:
        for directory in (layout.rootfs, layout.bundle, layout.bundle.parent, layout.roots.run):
            directory.chmod(0o711)
    layout.exit_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    layout.exit_file.unlink(missing_ok=True)


def clear_bundle(layout: Layout) -> None:
    """Remove what one run leaves in the exec root; what is not there, or not any more, is fine."""
    if not layout.bundle.exists():
        return
    for directory in (layout.rootfs, layout.shm):
        mounts.unmount(directory)
        with contextlib.suppress(FileNotFoundError):
            directory.rmdir()  # never recursively: a mount that stayed would be emptied
    if layout.parts.exists():
        for part in layout.parts.iterdir():
            mounts.unmount(part)
            part.rmdir() if part.is_dir() else part.unlink()
        layout.parts.rmdir()
    shutil.rmtree(layout.bundle, ignore_errors=True)
