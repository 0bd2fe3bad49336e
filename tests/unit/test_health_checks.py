"""The scheduler of health checks, over probes that are not there: one timer, no task without a probe, no leftovers."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from wherry.engine.health import LAUNCHING, HealthChecks, _Watch
from wherry.errors import Conflict
from wherry.model.config import Config, ExecConfig, Healthcheck, HostConfig
from wherry.model.container import Container, Sandbox, State
from wherry.model.states import Status

MS = 10**6


class FakeSession:
    def __init__(self, run: FakeRun) -> None:
        self._run = run

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        yield 1, b"out"
        await self._run.over.wait()

    async def close(self) -> None:
        self._run.closed = True


class FakeRun:
    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.code = 0
        self.closed = False


class FakeExecs:
    """Probes end at once with `code`, or, where `hang` is set, when they are killed."""

    def __init__(self) -> None:
        self.runs: dict[str, FakeRun] = {}
        self.commands: list[list[str]] = []
        self.code = 0
        self.hang = False
        self.refuse = False
        self.launching = self.most_launching = 0

    async def create(self, ref: str, config: ExecConfig, *, probe: bool = False) -> str:
        assert probe
        if self.refuse:
            raise Conflict("no")
        self.commands.append(config.cmd or [])
        exec_id = f"{ref}-{len(self.commands)}"
        self.runs[exec_id] = FakeRun()
        return exec_id

    async def start(self, exec_id: str, **_: Any) -> Any:
        if exec_id.startswith("frozen"):
            await asyncio.Event().wait()
        self.launching += 1
        self.most_launching = max(self.most_launching, self.launching)
        await asyncio.sleep(0)
        self.launching -= 1
        run = self.runs[exec_id]
        if not self.hang:
            run.code = self.code
            run.over.set()
        return FakeSession(run)

    async def ended(self, exec_id: str) -> int:
        run = self.runs[exec_id]
        await run.over.wait()
        return run.code

    def kill(self, exec_id: str) -> None:
        if exec_id in self.runs:
            self.runs[exec_id].code = 137
            self.runs[exec_id].over.set()

    def forget(self, exec_id: str) -> None:
        self.runs.pop(exec_id, None)


class FakeIndex(list[Container]):
    def __init__(self) -> None:
        super().__init__()
        self.saved = 0

    def note(self, container: Container) -> None:
        self.saved += 1


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if holds():
                return
            await asyncio.sleep(0.001)


class Ward:
    def __init__(self) -> None:
        self.execs = FakeExecs()
        self.index = FakeIndex()
        self.events: list[str] = []
        self.checks = HealthChecks(cast(Any, self.index), self.execs, self._announce)

    def _announce(self, container: Container, action: str, /, **attributes: str) -> None:
        self.events.append(action)

    def container(self, name: str = "c", **check: Any) -> Container:
        check = {"interval": 5 * MS, "retries": 2, **check}
        made = Container(
            id=name,
            name=name,
            created_at=0,
            image="",
            image_ref="",
            chain_id="",
            config=Config(healthcheck=Healthcheck(test=["CMD", "probe"], **check)),
            host=HostConfig(),
            state=State(status=Status.RUNNING, started_at=time.time_ns()),
            sandbox=Sandbox(id=name, mode="none"),
        )
        self.index.append(made)
        return made

    async def until(self, status: str, container: Container) -> None:
        await until(lambda: container.state.health is not None and container.state.health.status == status)


async def test_a_life() -> None:
    ward = Ward()
    container = ward.container()
    ward.checks.begin(container)
    assert container.state.health is not None
    assert container.state.health.status == "starting"
    await ward.until("healthy", container)
    ward.execs.code = 1
    await ward.until("unhealthy", container)
    assert container.state.health.failing_streak >= 2
    ward.execs.code = 0
    await ward.until("healthy", container)
    assert container.state.health.log[-1].output == "out"
    ward.checks.suspend(container)
    assert container.state.health.status == "unhealthy"
    ward.checks.resume(container)
    await ward.until("healthy", container)
    await ward.checks.close()
    assert [event for event in ward.events if event != "health_status: healthy"] == ["health_status: unhealthy"]
    assert ward.execs.commands[0] == ["probe"]


async def test_one_without_a_check_is_left_alone() -> None:
    ward = Ward()
    container = ward.container()
    container.config.healthcheck = None
    for tell in (ward.checks.begin, ward.checks.suspend, ward.checks.resume):
        tell(container)
    assert container.state.health is None


async def test_a_slow_probe_is_killed() -> None:
    ward = Ward()
    ward.execs.hang = True
    container = ward.container(timeout=20 * MS, retries=1)
    ward.checks.begin(container)
    await ward.until("unhealthy", container)
    assert container.state.health is not None
    first = container.state.health.log[0]
    assert (first.exit_code, first.output) == (-1, "Health check exceeded timeout (20ms): out")
    await ward.checks.close()
    assert ward.execs.runs == {}


async def test_a_probe_that_cannot_run_is_a_failure() -> None:
    ward = Ward()
    ward.execs.refuse = True
    container = ward.container(retries=1)
    ward.checks.begin(container)
    await ward.until("unhealthy", container)
    assert container.state.health is not None
    assert (container.state.health.log[0].exit_code, container.state.health.log[0].output) == (-1, "no")
    await ward.checks.close()


async def test_the_result_of_a_probe_that_is_no_longer_wanted_is_dropped() -> None:
    ward = Ward()
    ward.execs.hang = True
    container = ward.container()
    ward.checks.begin(container)
    await until(lambda: bool(ward.execs.runs))
    ward.checks.suspend(container)
    await ward.checks.close()
    assert container.state.health is not None
    assert container.state.health.log == ()
    assert (ward.execs.runs, ward.index.saved) == ({}, 0)


async def test_a_thousand_containers_cost_one_timer() -> None:
    ward = Ward()
    before = len(asyncio.all_tasks())
    containers = [ward.container(f"c{number}", interval=3600 * 10**9) for number in range(1000)]
    for _ in range(5):
        for container in containers:
            ward.checks.begin(container)
    assert len(asyncio.all_tasks()) == before
    assert len(ward.checks._due) <= 2 * len(containers) + 16
    for container in containers:
        ward.checks.suspend(container)
    assert len(ward.checks._due) <= 16
    assert ward.checks._timer is None


def kept() -> set[_Watch | asyncio.Task[Any]]:
    """What is in memory, of use or not."""
    gc.collect()
    return {found for found in gc.get_objects() if isinstance(found, _Watch | asyncio.Task)}


async def test_nothing_is_kept_of_those_that_are_gone() -> None:
    """Whether they end between two probes or in the middle of one: no task, no timer, no object."""
    ward = Ward()
    tasks, before = asyncio.all_tasks(), kept()
    for _ in range(3):
        containers = [ward.container(f"c{number}") for number in range(50)]
        for container in containers:
            ward.checks.begin(container)
        for container in containers[:25]:
            await ward.until("healthy", container)
        ward.execs.hang = True
        await until(lambda: any(not run.over.is_set() for run in ward.execs.runs.values()))
        for container in containers:
            ward.checks.suspend(container)
        await until(lambda: asyncio.all_tasks() == tasks)
        ward.execs.hang = False
        assert ward.checks._timer is None
        assert ward.execs.runs == {}
        assert kept() <= before


async def test_those_that_are_due_together_are_launched_a_few_at_a_time() -> None:
    ward = Ward()
    containers = [ward.container(f"c{number}") for number in range(50)]
    for container in containers:
        ward.checks.begin(container)
    for container in containers:
        await ward.until("healthy", container)
    await ward.checks.close()
    assert 1 < ward.execs.most_launching <= LAUNCHING


async def test_one_that_cannot_be_launched_holds_up_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.engine.health.LAUNCH_PATIENCE", 0.01)
    monkeypatch.setattr("wherry.engine.health.KILL_PATIENCE", 0.01)
    ward = Ward()
    for number in range(2 * LAUNCHING):
        ward.checks.begin(ward.container(f"frozen{number}", interval=MS))
    container = ward.container()
    ward.checks.begin(container)
    await ward.until("healthy", container)
    await ward.checks.close()
    assert ward.execs.runs == {}


async def test_a_new_daemon_goes_on() -> None:
    ward = Ward()
    running, paused, plain = ward.container("running"), ward.container("paused"), ward.container("plain")
    paused.state.status = Status.PAUSED
    plain.config.healthcheck = None
    ward.checks.recover()
    await ward.until("healthy", running)
    await ward.checks.close()
    assert (paused.state.health, plain.state.health) == (None, None)
