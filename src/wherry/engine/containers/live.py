"""What is known of a container only while the daemon lives: its lock, its attached clients, who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from wherry.model.container import Container
from wherry.runtime.attach import Hub


@dataclass(frozen=True)
class WaitResult:
    """How a container ended: its exit code, and why that is not known where it is not."""

    exit_code: int
    error: str = ""


@dataclass
class Live:
    """One container's companions in memory. `lock` is held by whoever changes its status."""

    hub: Hub
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # set while no monitor writes the log
    pidfd: int = -1  # of the monitor, while it is watched
    cleanup: asyncio.Task[None] | None = None  # of the last run's leftovers
    restart: asyncio.Task[None] | None = None  # sleeping until the next start
    restart_delay: float = 0.0
    waiters: dict[asyncio.Future[WaitResult], str] = field(default_factory=dict)

    def wait(self, condition: str) -> asyncio.Future[WaitResult]:
        """A future for `next-exit` or `removed`."""
        future: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()
        self.waiters[future] = condition
        future.add_done_callback(self._gone)
        return future

    def _gone(self, future: asyncio.Future[WaitResult]) -> None:
        """Answered, or its client has left."""
        self.waiters.pop(future, None)

    def resolve(self, result: WaitResult, *conditions: str) -> None:
        """Tell those who wait for one of the conditions."""
        for future, condition in list(self.waiters.items()):
            if condition in conditions and not future.done():
                future.set_result(result)


class Lives:
    """The companions of all containers, made when first asked for."""

    def __init__(self, make_hub: Callable[[Container], Hub]) -> None:
        self._make_hub = make_hub
        self._lives: dict[str, Live] = {}

    def of(self, container: Container) -> Live:
        live = self._lives.get(container.id)
        if live is None:
            live = self._lives[container.id] = Live(self._make_hub(container))
        return live

    def drop(self, container: Container) -> None:
        self._lives.pop(container.id, None)

    def all(self) -> list[Live]:
        return list(self._lives.values())
