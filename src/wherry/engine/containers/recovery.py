"""After a death of the daemon, or of the host: every container as its record and the facts say.

Facts are the processes (PID, start time and boot together), the monitors' exit files, and the runtime's state.
Half-made things are undone, half-started ones adopted if their process runs and else undone, half-removed ones removed;
what no record owns is swept.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import re
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from wherry.engine.containers.connecting import Connector
from wherry.engine.containers.index import Index
from wherry.engine.containers.layout import Layout
from wherry.engine.containers.live import Lives
from wherry.engine.containers.needs import NetworkPlane, VolumeStore
from wherry.engine.containers.readying import clear_bundle, monitor_identity
from wherry.engine.containers.removing import Remover
from wherry.engine.containers.runtimes import Runtimes
from wherry.engine.containers.supervisor import Supervisor
from wherry.errors import WherryError
from wherry.linux import cgroups, processes
from wherry.model import health
from wherry.model.container import Container
from wherry.model.host import Host
from wherry.model.restart import wants_start_with_engine
from wherry.model.states import Happening, Status, after
from wherry.runtime.entering import SHELL

log = logging.getLogger(__name__)


_SEALED = re.compile(rb"/proc/\d+/fd/\d+")  # a runtime's program as a former daemon named it: see `linux.sealed`


class Recovery:
    """Runs once, before the engine serves anybody."""

    def __init__(
        self,
        host: Host,
        index: Index,
        lives: Lives,
        supervisor: Supervisor,
        remover: Remover,
        runtimes: Runtimes,
        networks: NetworkPlane,
        volumes: VolumeStore,
        connector: Connector,
    ) -> None:
        self._host = host
        self._index = index
        self._lives = lives
        self._supervisor = supervisor
        self._remover = remover
        self._runtimes = runtimes
        self._networks = networks
        self._volumes = volumes
        self._connector = connector
        self._strangers: dict[str, list[int]] = {}

    async def run(self) -> set[str]:
        """Bring every record in line with the facts; returns the IDs of all containers whose files are to be kept."""
        records = self._index.load()
        self._strangers = await asyncio.to_thread(self._find_monitors)
        removing = [container for container in records if container.state.status is Status.REMOVING]
        running = [container for container in records if await self._runs(container)]
        alive = {container.id for container in running}
        await self._networks.recover([container.sandbox for container in running])
        await asyncio.to_thread(self._volumes.adopt, _volumes_of(running))
        for container in records:
            if container.id not in alive:
                await self._settle(container)
        await self._sweep(alive, records)
        for container in removing:
            self._supervisor.spawn(self._remover.finish(container), f"removal of container {container.id}")
        for container in running:
            self._index.adopt(container)
            self._lives.of(container).ended.clear()
            self._supervisor.watch(container)
            if container.sandbox.endpoints:
                await self._connector.refresh_hosts(container)
        return {container.id for container in records}

    async def start_by_policy(self) -> None:
        """Start what restart policies want to run now."""
        self._supervisor.recovered.set()
        for container in self._index:
            state = container.state
            if state.status is Status.RESTARTING and self._lives.of(container).restart is None:
                self._supervisor.schedule_restart(container, 0)
            elif state.status is Status.EXITED and wants_start_with_engine(
                container.host.restart_policy,
                exit_code=state.exit_code,
                restarts=state.restart_count,
                stopped_by_user=state.stopped_by_user,
            ):
                self._supervisor.spawn(self._start(container), f"start of {container.id} by its restart policy")

    async def _start(self, container: Container) -> None:
        async with self._lives.of(container).lock:
            if container.state.status is not Status.EXITED:
                return
            try:
                await self._supervisor.start(container)
            except WherryError as error:
                log.warning("container %s cannot be started: %s", container.id, error)

    async def _runs(self, container: Container) -> bool:
        """Whether its monitor and its process are there; the record is brought in line with what they say."""
        state, boot = container.state, self._host.boot_id
        if state.status is Status.STARTING:
            launch = Layout(self._host.roots, container.id).launch(container)
            state.monitor = state.monitor or monitor_identity(launch.monitor_pid_file, boot)
            released = state.process is not None and await self._status(container) == "running"
            if not (released and processes.alive(state.monitor, boot)):
                return False
            state.status = after(state.status, Happening.STARTED)
            state.finished_at = 0
            state.health = health.started(state.health) if state.health is not None else None
            self._index.note(container)
        if not (state.status.alive and processes.alive(state.monitor, boot)):
            return False
        paused = await self._status(container) == "paused"
        if paused != (state.status is Status.PAUSED):  # killed between the runtime's deed and the record
            state.status = after(state.status, Happening.PAUSE if paused else Happening.UNPAUSE)
            self._index.note(container)
        return True

    async def _status(self, container: Container) -> str | None:
        return await self._runtimes.of(container).status(container.id)

    async def _settle(self, container: Container) -> None:
        """Finish or undo what was half done with a container that does not run."""
        status = container.state.status
        if not status.alive:
            await self._end_strangers(container)
        if status is Status.CREATING:
            await self._remover.undo_creation(container)
        elif status is not Status.REMOVING:
            self._index.adopt(container)
            self._lives.of(container).ended.set()
            if status is Status.STARTING:
                await self._settle_start(container)
            elif status.alive:
                async with self._lives.of(container).lock:
                    await self._supervisor.end(container)
            await self._supervisor.settled(container)
            if container.host.auto_remove and container.state.status is Status.EXITED:
                await self._remover.remove_ended(container)

    async def _settle_start(self, container: Container) -> None:
        """Of a start that got as far as running and has ended since, its end; of any other, nothing remains."""
        state, layout = container.state, Layout(self._host.roots, container.id)
        if state.process is not None and layout.exit_file.exists():
            state.status = after(state.status, Happening.STARTED)
            async with self._lives.of(container).lock:
                await self._supervisor.end(container)
            return
        await self._networks.attachments.deactivate(container)
        state.status = after(state.status, Happening.START_FAILED)
        state.process = state.monitor = None
        state.exit_code = 128
        state.error = "the engine ended while it started this container: start it again"
        container.sandbox.netns = ""
        self._index.note(container)

    def _find_monitors(self) -> dict[str, list[int]]:
        """PIDs of monitors and runtimes at work on a bundle of ours, by container ID (blocking)."""
        prefix = os.fsencode(self._host.roots.bundle("")) + b"/"
        programs = {os.fsencode(runtime.path) for runtime in self._runtimes.known()}
        programs |= {os.fsencode(self._host.binaries.conmon or ""), os.fsencode(SHELL)}
        found: dict[str, list[int]] = {}
        for pid, words in processes.command_lines():
            if words[0] not in programs and not _SEALED.fullmatch(words[0]):
                continue
            for flag, value in itertools.pairwise(words):
                if flag in (b"-b", b"--bundle") and value.startswith(prefix):
                    found.setdefault(os.fsdecode(value[len(prefix) :]), []).append(pid)
        return found

    async def _end_strangers(self, container: Container) -> None:
        """End monitor and runtime of a container that must not run, and what they have made."""
        await self._end_monitors(container.id)
        await self._runtimes.of(container).delete(container.id)

    async def _end_monitors(self, container_id: str) -> None:
        for pid in self._strangers.pop(container_id, ()):
            identity = processes.identify(pid, self._host.boot_id)
            processes.send_signal(identity, signal.SIGKILL, self._host.boot_id)
            await processes.wait_gone(identity, self._host.boot_id, seconds=5)

    async def _sweep(self, running: set[str], records: Sequence[Container]) -> None:
        """Remove what no container that runs, or no record at all, owns."""
        known = {container.id for container in records}
        for container_id in list(self._strangers):
            if container_id not in known:
                await self._end_monitors(container_id)
        for runtime in self._runtimes.known():
            for container_id in await asyncio.to_thread(_names, runtime.state):
                if container_id not in running:
                    await runtime.delete(container_id)
        await asyncio.to_thread(self._sweep_files, running, records)

    def _sweep_files(self, running: set[str], records: Sequence[Container]) -> None:
        roots, known = self._host.roots, {container.id for container in records}
        for container_id in _names(roots.bundle("")):
            if container_id not in running:
                clear_bundle(Layout(roots, container_id))
        for container_id in cgroups.children(self._host.cgroups, roots.cgroup_parent) - running:
            cgroups.remove(self._host.cgroups, Layout(roots, container_id).cgroup)
        for container in records:
            if container.host.cgroup_parent and container.id not in running:
                cgroups.remove(self._host.cgroups, Layout.of(roots, container).cgroup)
        for container_id in _names(roots.container("")):
            if container_id not in known:
                shutil.rmtree(roots.container(container_id), ignore_errors=True)


def _volumes_of(containers: list[Container]) -> dict[str, list[str]]:
    """IDs of the containers by the volumes they have."""
    found: dict[str, list[str]] = {}
    for container in containers:
        for mount in container.mounts:
            if mount.type == "volume":
                found.setdefault(mount.name, []).append(container.id)
    return found


def _names(directory: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(directory)
    return []
