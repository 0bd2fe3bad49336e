"""Running health checks: one heap and one timer for all containers; a task only while a probe runs.

A probe is an exec, so it has a monitor, events and the container's own user, environment and folder. What results come
to is `wherry.model.health`'s to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import time
from dataclasses import dataclass
from typing import Protocol

from wherry.engine.containers.announce import Announcer
from wherry.engine.containers.index import Index
from wherry.errors import WherryError
from wherry.model import health
from wherry.model.config import ExecConfig
from wherry.model.container import Container
from wherry.model.failpoints import failpoint
from wherry.model.health import Check, Output, ProbeResult
from wherry.model.states import Status
from wherry.runtime.attach import Session

log = logging.getLogger(__name__)

LAUNCHING = 4  # probes being started at the same time: a thousand that are due at once must not fall over the host
LAUNCH_PATIENCE = 5.0  # seconds after which one, such as in a container that was just frozen, holds up no others
KILL_PATIENCE = 10.0  # seconds for a killed probe to be gone


class ProbeRunner(Protocol):
    """What is needed of the execs."""

    async def create(self, ref: str, config: ExecConfig, *, probe: bool = False) -> str: ...
    async def start(
        self, exec_id: str, *, detach: bool, tty: bool, console_size: tuple[int, int] | None = None
    ) -> Session | None: ...
    async def ended(self, exec_id: str) -> int: ...
    def kill(self, exec_id: str) -> None: ...
    def forget(self, exec_id: str) -> None: ...


@dataclass(eq=False)
class _Watch:
    """One container that is looked after, from its start or thaw to its end or pause."""

    container: Container
    check: Check
    exec_id: str = ""  # of the probe that runs now


class HealthChecks:
    """Keeps `state.health` of running containers that have a check."""

    def __init__(self, index: Index, execs: ProbeRunner, announce: Announcer) -> None:
        self._index = index
        self._execs = execs
        self._announce = announce
        self._watches: dict[str, _Watch] = {}
        self._due: list[tuple[float, int, _Watch]] = []  # loop time; entries of watches that are over are passed over
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._probes: set[asyncio.Task[None]] = set()
        self._launching = asyncio.Semaphore(LAUNCHING)

    def begin(self, container: Container) -> None:
        """A container has been started. Changes `state.health`; the caller saves."""
        check = Check.of(container.config)
        if check is not None:
            now = container.state.health = health.started(container.state.health)
            self._watch(container, check, check.interval_now(now, age=0))

    def resume(self, container: Container) -> None:
        """A container runs on: after a pause, or under a new daemon."""
        check, known = Check.of(container.config), container.state.health
        if check is not None:
            known = container.state.health = known or health.started(None)
            self._watch(
                container, check, check.first_wait(known, started_at=container.state.started_at, now=time.time_ns())
            )

    def suspend(self, container: Container) -> None:
        """A container is paused or has ended. Changes `state.health`; the caller saves."""
        watch = self._watches.pop(container.id, None)
        if watch is not None:
            self._execs.kill(watch.exec_id)
            self._arm()
        if container.state.health is not None:
            container.state.health = health.suspended(container.state.health)

    def recover(self) -> None:
        """Look after what a former daemon left running."""
        for container in self._index:
            if container.state.status is Status.RUNNING:
                self.resume(container)
            elif container.state.status is Status.PAUSED:
                self.suspend(container)

    async def close(self) -> None:
        """Stop; probes that run are killed."""
        if self._timer is not None:
            self._timer.cancel()
        watches, self._watches = self._watches, {}
        for watch in watches.values():
            self._execs.kill(watch.exec_id)
        if self._probes:
            await asyncio.wait(self._probes, timeout=KILL_PATIENCE)
        for probe in self._probes:
            probe.cancel()
        await asyncio.gather(*self._probes, return_exceptions=True)

    def _watch(self, container: Container, check: Check, wait_ns: int) -> None:
        watch = self._watches[container.id] = _Watch(container, check)
        self._schedule(watch, wait_ns)

    def _schedule(self, watch: _Watch, wait_ns: int) -> None:
        due = asyncio.get_running_loop().time() + wait_ns / 1e9
        heapq.heappush(self._due, (due, next(self._order), watch))
        self._arm()

    def _current(self, watch: _Watch) -> bool:
        return self._watches.get(watch.container.id) is watch

    def _arm(self) -> None:
        """Set the one timer to the earliest probe that is still wanted."""
        if len(self._due) > 2 * len(self._watches) + 16:
            self._due = [entry for entry in self._due if self._current(entry[2])]
            heapq.heapify(self._due)
        while self._due and not self._current(self._due[0][2]):
            heapq.heappop(self._due)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._due:
            self._timer = asyncio.get_running_loop().call_at(self._due[0][0], self._fire)

    def _fire(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._due and self._due[0][0] <= now:
            _, _, watch = heapq.heappop(self._due)
            if self._current(watch):
                task = asyncio.create_task(self._probe(watch))
                self._probes.add(task)
                task.add_done_callback(self._probes.discard)
        self._arm()

    async def _probe(self, watch: _Watch) -> None:
        result = await self._run(watch)
        if not self._current(watch):
            return
        container, check = watch.container, watch.check
        before = container.state.health or health.started(None)
        now = container.state.health = health.judged(before, result, check, started_at=container.state.started_at)
        self._index.note(container)
        failpoint("health.recorded")
        if now.status != before.status:
            self._announce(container, f"health_status: {now.status}")
        self._schedule(watch, check.interval_now(now, age=time.time_ns() - container.state.started_at))

    async def _run(self, watch: _Watch) -> ProbeResult:
        """Run the check once, whatever comes of it."""
        started = time.time_ns()
        try:
            session = await self._launch(watch)
            code, told = await self._outcome(watch, session)
        except (WherryError, OSError) as error:
            code, told = health.FAILED, str(error)
        except Exception as error:
            log.exception("health check of container %s", watch.container.id)
            code, told = health.FAILED, str(error)
        finally:
            self._execs.forget(watch.exec_id)
            watch.exec_id = ""
        return ProbeResult(start=started, end=time.time_ns(), exit_code=code, output=told)

    async def _launch(self, watch: _Watch) -> Session:
        config = ExecConfig(cmd=list(watch.check.argv), attach_stdout=True, attach_stderr=True)
        watch.exec_id = await self._execs.create(watch.container.id, config, probe=True)
        async with self._launching:
            starting = asyncio.ensure_future(self._execs.start(watch.exec_id, detach=False, tty=False))
            try:
                await asyncio.wait({starting}, timeout=LAUNCH_PATIENCE)
            except asyncio.CancelledError:
                starting.cancel()
                raise
        session = await starting
        assert session is not None
        failpoint("health.launched")
        if not self._current(watch):  # paused or ended meanwhile
            self._execs.kill(watch.exec_id)
        return session

    async def _outcome(self, watch: _Watch, session: Session) -> tuple[int, str]:
        """Exit code and what is told of it. The time that starting took does not count."""
        output = Output()
        try:
            async with asyncio.timeout(watch.check.timeout / 1e9):
                async for _stream, data in session.output():
                    output.add(data)
                return await self._execs.ended(watch.exec_id), output.text
        except TimeoutError:
            self._execs.kill(watch.exec_id)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._execs.ended(watch.exec_id), KILL_PATIENCE)
            return health.FAILED, health.too_slow(output, watch.check.timeout)
        finally:
            await session.close()
