"""Runs from start to end: starting on request or by policy, hearing of the end, and what follows from it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable

from wherry.engine.containers import ending
from wherry.engine.containers.announce import Announcer
from wherry.engine.containers.index import Index
from wherry.engine.containers.layout import Layout
from wherry.engine.containers.live import Live, Lives, WaitResult
from wherry.engine.containers.log_limits import Trimmer
from wherry.engine.containers.needs import Attachments, HealthWatch, VolumeStore
from wherry.engine.containers.runtimes import Runtimes
from wherry.engine.containers.starting import Starter
from wherry.errors import Conflict, NotFound, NotModified, StartFailed, WherryError
from wherry.linux import processes
from wherry.model.container import Container
from wherry.model.failpoints import failpoint
from wherry.model.host import Host
from wherry.model.restart import next_delay, wants_restart
from wherry.model.states import Happening, Status, after

log = logging.getLogger(__name__)

DRAIN_SECONDS = 2.0  # for output still on its way to attached clients when the process has ended


class Supervisor:
    """Takes containers through the table of states. The caller of `start` and `end` holds the container's lock."""

    def __init__(
        self,
        host: Host,
        index: Index,
        lives: Lives,
        starter: Starter,
        runtimes: Runtimes,
        attachments: Attachments,
        volumes: VolumeStore,
        announce: Announcer,
        health: HealthWatch,
        trimmer: Trimmer,
    ) -> None:
        self._host = host
        self._index = index
        self._lives = lives
        self._starter = starter
        self._runtimes = runtimes
        self._attachments = attachments
        self._volumes = volumes
        self._announce = announce
        self._health = health
        self._trimmer = trimmer
        self._tasks: set[asyncio.Task[None]] = set()
        self.recovered = asyncio.Event()  # until then nothing is started: the sweep would take it for a remnant
        self.auto_remove: Callable[[Container], Awaitable[None]] | None = None
        self.started: Callable[[Container], Awaitable[None]] | None = None  # called of those that others link to

    def spawn(self, work: Awaitable[None], what: str) -> asyncio.Task[None]:
        """Run work in the background; a failure is logged, never lost."""
        task = asyncio.ensure_future(_logged(work, what))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def start(self, container: Container) -> None:
        """Start a container that is not running. Raises StartFailed and others; it is then as it was, error noted."""
        live, state = self._lives.of(container), container.state
        await self.settled(container)
        state.status = after(state.status, Happening.START)
        state.run += 1
        state.error = ""
        state.process = state.monitor = None
        try:
            self._index.save(container)
            failpoint("start.marked")
            self._join_sandbox(container)
            await self._starter.start(container, live.hub)
        except BaseException as error:
            self._start_failed(container, error)
            raise
        state.status = after(state.status, Happening.STARTED)
        state.exit_code = 0
        state.finished_at = 0
        state.oom_killed = False
        state.stopped_by_user = False
        self._health.begin(container)
        self._index.note(container)
        failpoint("start.running")
        live.ended.clear()
        if live.hub.wanted:  # who has attached since the process was let go
            with contextlib.suppress(OSError):
                live.hub.connect(Layout(self._host.roots, container.id).launch(container).attach_socket)
        self.watch(container)
        self._announce(container, "start")
        if self.started is not None and self._index.linked_to(container.id):
            self.spawn(self.started(container), f"links to {container.id}")

    def _start_failed(self, container: Container, error: BaseException) -> None:
        state, live = container.state, self._lives.of(container)
        state.process = state.monitor = None
        state.status = after(state.status, Happening.START_FAILED)
        state.exit_code = error.exit_code if isinstance(error, StartFailed) else 128
        state.error = str(error)
        state.started_at = state.started_at if state.finished_at else 0
        container.sandbox.netns = ""
        self._index.note(container)
        live.hub.end()
        live.resolve(WaitResult(state.exit_code), "next-exit", "not-running")

    def _join_sandbox(self, container: Container) -> None:
        """For `container:ID` networks: the other one's namespace."""
        kind, _, reference = container.sandbox.mode.partition(":")
        if kind != "container":
            return
        try:
            other = self._index.find(reference)
        except NotFound:
            raise NotFound(f"No such container: {reference}") from None
        if not other.state.status.alive:
            raise Conflict(f"cannot join network of a non running container: {other.id}")
        container.sandbox.netns = other.sandbox.netns

    def watch(self, container: Container) -> None:
        """Hear of the monitor's end; one that is already gone is handled at once."""
        live = self._lives.of(container)
        monitor = container.state.monitor
        pidfd = processes.open_pidfd(monitor, self._host.boot_id) if monitor is not None else None
        if pidfd is None:
            self.spawn(self._ended(container), f"end of container {container.id}")
            return
        live.pidfd = pidfd
        self._trimmer.watch(container)
        asyncio.get_running_loop().add_reader(pidfd, self._monitor_ended, container)

    def _monitor_ended(self, container: Container) -> None:
        self._unwatch(self._lives.of(container))
        self.spawn(self._ended(container), f"end of container {container.id}")

    def _unwatch(self, live: Live) -> None:
        if live.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(live.pidfd)
            os.close(live.pidfd)
            live.pidfd = -1

    async def _ended(self, container: Container) -> None:
        live = self._lives.of(container)
        async with live.lock:
            if container.state.status.alive:
                await self.end(container)

    async def end(self, container: Container) -> None:
        """Record the end of a run whose monitor is gone, free what it held, and do what its policy says."""
        layout = Layout.of(self._host.roots, container)
        runtime = self._runtimes.of(container)
        live, state = self._lives.of(container), container.state
        outcome = ending.read_outcome(container, layout, self._host)
        await ending.end_orphan(container, runtime, self._host)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(live.hub.drained(), DRAIN_SECONDS)
        await self._attachments.deactivate(container)
        await self._release_volumes(container)
        await self._trimmer.finish(container)
        failpoint("end.disconnected")
        restart = wants_restart(
            container.host.restart_policy,
            exit_code=outcome.exit_code,
            restarts=state.restart_count,
            stopped_by_user=state.stopped_by_user,
        )
        state.status = after(state.status, Happening.BACK_OFF if restart else Happening.EXIT)
        state.exit_code = outcome.exit_code
        state.finished_at = max(outcome.finished_at, state.started_at)
        state.oom_killed = outcome.oom_killed
        state.error = outcome.error
        state.process = state.monitor = None
        container.sandbox.netns = ""
        self._health.suspend(container)
        self._index.note(container)
        failpoint("end.recorded")
        if outcome.oom_killed:
            self._announce(container, "oom")
        ran_for = max(0, state.finished_at - state.started_at) // 1_000_000_000
        self._announce(container, "die", exitCode=str(outcome.exit_code), execDuration=str(ran_for))
        live.hub.end()
        live.ended.set()
        live.cleanup = self.spawn(ending.clear(container, layout, runtime, self._host), f"remains of {container.id}")
        result = WaitResult(outcome.exit_code, outcome.error)
        live.resolve(result, "next-exit", *(() if restart else ("not-running",)))
        if restart:
            live.restart_delay = next_delay(live.restart_delay, ran_for)
            self.schedule_restart(container, live.restart_delay)
        elif container.host.auto_remove and self.auto_remove is not None:
            await self.auto_remove(container)

    async def _release_volumes(self, container: Container) -> None:
        """Before anybody hears of the end: whoever starts next with a volume finds its device as it then is."""
        if not self._volumes.holds(container.id):
            return
        try:
            await asyncio.to_thread(self._volumes.release, container.id)
        except WherryError as error:
            log.warning("a volume of container %s stays mounted: %s", container.id, error)

    def schedule_restart(self, container: Container, delay: float) -> None:
        """Start a RESTARTING container after `delay` seconds."""
        self._lives.of(container).restart = self.spawn(self._restart(container, delay), f"restart of {container.id}")

    async def _restart(self, container: Container, delay: float) -> None:
        await asyncio.sleep(delay)
        await self.recovered.wait()
        live = self._lives.of(container)
        async with live.lock:
            if container.state.status is not Status.RESTARTING:
                return
            container.state.restart_count += 1
            try:
                await self.start(container)
            except WherryError as error:
                log.warning("container %s cannot be restarted: %s", container.id, error)

    async def give_up_restart(self, container: Container) -> None:
        """A RESTARTING container stays down."""
        live, state = self._lives.of(container), container.state
        if live.restart is not None:
            live.restart.cancel()
            live.restart = None
        state.status = after(state.status, Happening.GIVE_UP)
        self._index.note(container)
        live.resolve(WaitResult(state.exit_code, state.error), "not-running")

    async def settled(self, container: Container) -> None:
        """Return when nothing is left of the last run."""
        live = self._lives.of(container)
        if live.cleanup is not None:
            await live.cleanup
            live.cleanup = None

    async def signal(self, container: Container, number: int) -> None:
        """Signal the container's first process. Raises NotModified if it is gone."""
        if not processes.send_signal(container.state.process, number, self._host.boot_id):
            raise NotModified(f"container {container.id} is not running")

    async def close(self) -> None:
        """Stop watching and waiting; containers run on. What is in progress is finished first."""
        for live in self._lives.all():
            self._unwatch(live)
            if live.restart is not None:
                live.restart.cancel()
            live.hub.end()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)


async def _logged(work: Awaitable[None], what: str) -> None:
    try:
        await work
    except asyncio.CancelledError:
        pass
    except Exception:
        log.exception("%s", what)
