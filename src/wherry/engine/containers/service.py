"""The containers, as clients of the engine see them: each verb checks, asks the state table's keepers, and tells."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass

from wherry.engine.containers.announce import Announcer
from wherry.engine.containers.connecting import Connector
from wherry.engine.containers.creating import Created, Creator
from wherry.engine.containers.index import Index
from wherry.engine.containers.layout import Layout
from wherry.engine.containers.live import Lives, WaitResult
from wherry.engine.containers.needs import HealthWatch, ImageSource, SnapshotStore
from wherry.engine.containers.pruning import prune_selection
from wherry.engine.containers.removing import Remover
from wherry.engine.containers.runtimes import Runtimes
from wherry.engine.containers.supervisor import Supervisor
from wherry.engine.terminal import resize_terminal
from wherry.errors import Conflict, InvalidParameter, NotModified, NotSupported, SystemFailure, WherryError
from wherry.linux import cgroups
from wherry.linux.inotify import Watcher
from wherry.model import links, signals
from wherry.model.config import Config, HostConfig, NetworkingConfig
from wherry.model.container import Container
from wherry.model.filters import Filters
from wherry.model.host import Host
from wherry.model.ids import NAME, NAME_RULE
from wherry.model.logs import LogEntry, LogOptions
from wherry.model.states import Happening, Status, after
from wherry.runtime.attach import Session
from wherry.storage.logs import read_batches

DEFAULT_GRACE = 10  # seconds between a stop's signal and SIGKILL
KILL_PATIENCE = 10  # seconds for the kernel to end what was killed


@dataclass(frozen=True)
class Pruned:
    """What a prune removed, and how many bytes that freed."""

    ids: list[str]
    reclaimed: int


class Containers:
    """All verbs of containers. References are names, IDs or unique prefixes; every verb raises NotFound."""

    def __init__(
        self,
        host: Host,
        index: Index,
        lives: Lives,
        creator: Creator,
        supervisor: Supervisor,
        remover: Remover,
        runtimes: Runtimes,
        snapshots: SnapshotStore,
        images: ImageSource,
        watcher: Watcher,
        announce: Announcer,
        connector: Connector,
        health: HealthWatch,
    ) -> None:
        self.connector = connector
        self._host = host
        self._index = index
        self._lives = lives
        self._creator = creator
        self._supervisor = supervisor
        self._remover = remover
        self._runtimes = runtimes
        self._snapshots = snapshots
        self._images = images
        self._watcher = watcher
        self._announce = announce
        self._health = health

    def get(self, ref: str) -> Container:
        return self._index.find(ref)

    def all(self) -> list[Container]:
        return list(self._index)

    def links_of(self, container: Container) -> list[str]:
        """The container's links as inspect shows them."""
        others = (self._index.get(link.id) for link in container.links.values())
        return links.shown(container.links, container.name, {other.id: other.name for other in others if other})

    def names_of_links(self) -> dict[str, list[str]]:
        """What links call containers, by the ID of the container."""
        return self._index.names_of_links()

    async def create(
        self, name: str, config: Config, host: HostConfig, networking: NetworkingConfig, platform: str = ""
    ) -> Created:
        if not self._runtimes.by_name[self._runtimes.default].hierarchies:
            self._supervisor.spawn(asyncio.to_thread(cgroups.warm_up, self._host.cgroups), "warming the cgroup lock")
        return await self._creator.create(name, config, host, networking, platform)

    async def start(self, ref: str) -> None:
        """Raises NotModified if it runs, Conflict, StartFailed."""
        container = self._index.find(ref)
        async with self._lives.of(container).lock:
            await self._start(container)

    async def _start(self, container: Container) -> None:
        status = container.state.status
        if status is Status.RUNNING:
            raise NotModified(f"container {container.id} is already running")
        if status is Status.PAUSED:
            raise Conflict("cannot start a paused container, try unpause instead")
        if status in (Status.REMOVING, Status.DEAD):
            raise Conflict("container is marked for removal and cannot be started")
        if status is Status.RESTARTING:
            await self._supervisor.give_up_restart(container)
        container.state.restart_count = 0
        try:
            await self._supervisor.start(container)
        except BaseException:
            if container.host.auto_remove:
                await self._remover.remove_ended(container)
            raise

    async def stop(self, ref: str, grace: int | None = None, signal_name: str | None = None, /) -> None:
        """Ask it to end with its stop signal, after `grace` seconds (-1: never) make it. Raises NotModified if down."""
        container = self._index.find(ref)
        await self._stop(container, grace, signal_name)
        self._announce(container, "stop")

    async def _stop(self, container: Container, grace: int | None, signal_name: str | None) -> None:
        live = self._lives.of(container)
        async with live.lock:
            if await self._stays_down(container):
                return
            if not container.state.status.alive:
                raise NotModified(f"container {container.id} is not running")
            try:
                number = signals.parse(signal_name or container.config.stop_signal or "SIGTERM")
            except InvalidParameter as error:
                raise SystemFailure(f"cannot stop container: {container.name}: {error}") from None
            if grace is None:
                grace = container.config.stop_timeout if container.config.stop_timeout is not None else DEFAULT_GRACE
            ended = live.wait("next-exit")
            await self._send(container, number, final=True)
        if not await _within(ended, None if grace < 0 else grace):
            await self._kill_and_wait(container, ended)

    async def _stays_down(self, container: Container) -> bool:
        """If it waits to be restarted, it is not going to be; False if it does not wait."""
        if container.state.status is not Status.RESTARTING:
            return False
        container.state.stopped_by_user = True
        await self._supervisor.give_up_restart(container)
        return True

    async def _kill_and_wait(self, container: Container, ended: asyncio.Future[WaitResult]) -> None:
        async with self._lives.of(container).lock:
            if container.state.status.alive:
                await self._send(container, signal.SIGKILL, final=True)
        await _must_end(container, ended)

    async def _send(self, container: Container, number: int, *, final: bool) -> None:
        """Signal a live container. `final`: it is meant to end, so no policy restarts it and a frozen one is thawed."""
        if final and not container.state.stopped_by_user:
            container.state.stopped_by_user = True
            self._index.note(container)
        if number == signal.SIGKILL and container.host.pid_mode == "host":
            await self._runtimes.of(container).kill_all(container.id, number)
        with contextlib.suppress(NotModified):  # it is ending by itself right now
            await self._supervisor.signal(container, number)
        self._announce(container, "kill", signal=str(number))
        if final and container.state.status is Status.PAUSED:
            await self._thaw(container)

    async def restart(self, ref: str, grace: int | None = None, signal_name: str | None = None, /) -> None:
        container = self._index.find(ref)
        with contextlib.suppress(NotModified):
            await self._stop(container, grace, signal_name)
            self._announce(container, "stop")
        if self._index.get(container.id) is None:  # --rm took it away
            return
        async with self._lives.of(container).lock:
            try:
                with contextlib.suppress(NotModified):
                    await self._start(container)
            except WherryError as error:
                raise SystemFailure(f"Cannot restart container {ref}: {error}") from None
        self._announce(container, "restart")

    async def kill(self, ref: str, signal_name: str = "", /) -> None:
        """Raises Conflict if it does not run, InvalidParameter for an unknown signal."""
        try:
            number = signals.parse(signal_name or "SIGKILL")
        except InvalidParameter as error:
            raise InvalidParameter(f"cannot kill container: {ref}: {error}") from None
        container = self._index.find(ref)
        live = self._lives.of(container)
        async with live.lock:
            if await self._stays_down(container):
                return
            if not container.state.status.alive:
                raise Conflict(f"cannot kill container: {ref}: container {container.id} is not running")
            ended = live.wait("next-exit")
            await self._send(container, number, final=_ends(container, number))
        if number == signal.SIGKILL:
            await _must_end(container, ended)

    async def pause(self, ref: str) -> None:
        container = self._index.find(ref)
        async with self._lives.of(container).lock:
            if container.state.status is Status.PAUSED:
                raise Conflict(f"Container {container.id} is already paused")
            self._must_run(container)
            await self._runtimes.of(container).pause(container.id)
            container.state.status = after(container.state.status, Happening.PAUSE)
            self._health.suspend(container)
            self._index.note(container)
        self._announce(container, "pause")

    async def unpause(self, ref: str) -> None:
        container = self._index.find(ref)
        async with self._lives.of(container).lock:
            if container.state.status is not Status.PAUSED:
                raise SystemFailure(f"Container {container.id} is not paused")
            await self._thaw(container)
        self._announce(container, "unpause")

    async def _thaw(self, container: Container) -> None:
        await self._runtimes.of(container).resume(container.id)
        container.state.status = after(container.state.status, Happening.UNPAUSE)
        self._health.resume(container)
        self._index.note(container)

    def _must_run(self, container: Container) -> None:
        if not container.state.status.alive:
            raise Conflict(f"container {container.id} is not running")

    async def rename(self, ref: str, name: str, /) -> None:
        container = self._index.find(ref)
        new, old = name.removeprefix("/"), container.name
        if new == old:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        if not NAME.fullmatch(new):
            raise InvalidParameter(
                f"Error when allocating new name: Invalid container name (/{new}), only {NAME_RULE} are allowed"
            )
        try:
            self._index.rename(container, new)
        except Conflict as error:
            raise Conflict(f"Error when allocating new name: {error}") from None
        self._announce(container, "rename", oldName=f"/{old}")

    async def remove(self, ref: str, force: bool = False, volumes: bool = False, link: bool = False, /) -> None:
        if link:
            self._remove_link(ref)
            return
        container = self._index.find(ref)
        live = self._lives.of(container)
        if force and container.state.status.alive:
            async with live.lock:
                ended = live.wait("next-exit")
                if container.state.status.alive:
                    await self._send(container, signal.SIGKILL, final=True)
                else:
                    ended.cancel()
            if not ended.cancelled():
                await _must_end(container, ended)
        async with live.lock:
            if self._index.get(container.id) is None:  # --rm or another client was faster
                return
            self._refuse_removal(container, force=force)
            if container.state.status is Status.RESTARTING:
                await self._supervisor.give_up_restart(container)
            await self._remover.remove(container, volumes=volumes or container.host.auto_remove)

    def _remove_link(self, ref: str) -> None:
        container = self._index.find(ref)
        parent, alias = self._index.link(ref)
        if parent is None or alias not in parent.links or parent.links[alias].id != container.id:
            raise SystemFailure("Conflict, cannot remove the default link name of the container")
        del parent.links[alias]
        self._index.save(parent)

    def _refuse_removal(self, container: Container, *, force: bool) -> None:
        if force and container.state.status is Status.RESTARTING:
            return
        problem = {
            Status.RUNNING: "container is running: stop the container before removing or force remove",
            Status.PAUSED: "container is paused and must be unpaused first",
            Status.RESTARTING: "container is restarting: stop the container before removing or force remove",
        }.get(container.state.status)
        if problem:
            raise Conflict(f'cannot remove container "/{container.name}": {problem}')

    def wait(self, ref: str, condition: str = "not-running", /) -> asyncio.Future[WaitResult]:
        """A future for the end under `condition`: not-running, next-exit or removed."""
        container = self._index.find(ref)
        state = container.state
        idle = state.status in (Status.CREATED, Status.EXITED, Status.DEAD)
        if condition in ("", "not-running") and idle:
            done: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()
            done.set_result(WaitResult(state.exit_code, state.error))
            return done
        return self._lives.of(container).wait(condition or "not-running")

    async def attach(
        self, ref: str, *, stdin: bool, stdout: bool, stderr: bool, stream: bool = True, logs: bool = False
    ) -> Session:
        """A session on the container's streams; of one that does not run yet, from its next start on."""
        container = self._index.find(ref)
        if container.state.status is Status.PAUSED:
            raise Conflict(f"container {container.name} is paused, unpause the container before attach")
        if container.state.status is Status.RESTARTING:
            raise Conflict(f"container {container.name} is restarting, wait until the container is running")
        hub = self._lives.of(container).hub
        session = hub.session(stdin=stdin and container.config.open_stdin, stdout=stdout, stderr=stderr)
        if container.state.status is Status.RUNNING:
            with contextlib.suppress(OSError):  # it has just ended: the session ends with it
                hub.connect(Layout(self._host.roots, container.id).launch(container).attach_socket)
        if logs:
            async for batch in self.logs(ref, LogOptions(stdout=stdout, stderr=stderr)):
                for entry in batch:
                    session.feed(entry.stream, entry.data)
        if not stream:
            session.end()
        self._announce(container, "attach")
        return session

    async def resize(self, ref: str, height: int, width: int, /) -> None:
        container = self._index.find(ref)
        self._must_run(container)
        resize_terminal(Layout(self._host.roots, container.id).bundle, height, width)
        self._announce(container, "resize", height=str(height), width=str(width))

    async def size(self, ref: str) -> tuple[int, int]:
        """Bytes of the container's own files, and of those with its image's."""
        container = self._index.find(ref)
        own = await asyncio.to_thread(self._snapshots.usage, container.id)
        return own, own + self._images.size(container.image)

    async def logs(self, ref: str, options: LogOptions, /) -> AsyncIterator[list[LogEntry]]:
        """What the container wrote, a block at a time; with `follow`, until it ends.

        Raises NotSupported where nothing was kept.
        """
        container = self._index.find(ref)
        if container.host.log_config.type == "none":
            raise NotSupported("configured logging driver does not support reading")
        path = Layout(self._host.roots, container.id).log
        ended = self._lives.of(container).ended
        async with contextlib.aclosing(read_batches(path, options, ended=ended, watcher=self._watcher)) as batches:
            async for batch in batches:
                yield batch

    async def prune(self, filters: Filters, /) -> Pruned:
        """Remove all containers that do not run and match (`label`, `label!`, `until`)."""
        selected = prune_selection(filters)
        pruned: list[str] = []
        reclaimed = 0
        for container in self.all():
            idle = container.state.status in (Status.CREATED, Status.EXITED, Status.DEAD)
            if not idle or not selected(container):
                continue
            with contextlib.suppress(WherryError):
                size = await asyncio.to_thread(self._snapshots.occupied, container.id)
                await self.remove(container.id)
                pruned.append(container.id)
                reclaimed += size
        return Pruned(pruned, reclaimed)


async def _within(ended: asyncio.Future[WaitResult], seconds: float | None) -> bool:
    done, _ = await asyncio.wait({ended}, timeout=seconds)
    return bool(done)


async def _must_end(container: Container, ended: asyncio.Future[WaitResult]) -> None:
    if not await _within(ended, KILL_PATIENCE):
        raise SystemFailure(f"container {container.id} does not end: its process hangs in the kernel")


def _ends(container: Container, number: int) -> bool:
    """Whether a signal asks the container to end, as Docker sees it: SIGKILL, its stop signal, any if it names none."""
    named = container.config.stop_signal
    return number == signal.SIGKILL or not named or signals.parse(named) == number
