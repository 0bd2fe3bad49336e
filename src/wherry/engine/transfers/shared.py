"""Work that several wait for and that is done once; and a limit on how much is done at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar


class Job(Protocol):
    def run(self) -> Coroutine[Any, Any, None]: ...


J = TypeVar("J", bound=Job)
T = TypeVar("T")


@dataclass(eq=False)
class Running(Generic[J]):
    """A job and the task that does it."""

    job: J
    task: asyncio.Task[None]
    waiting: int = 0
    abandoned: bool = False

    @property
    def joinable(self) -> bool:
        return not self.abandoned and not self.task.done()

    async def done(self) -> J:
        """Wait for its end; raises what it failed with. Who waits may be cancelled without hurting it."""
        await asyncio.shield(self.task)
        return self.job


class Shared(Generic[J]):
    """Jobs by key. A job that nobody wants any more is cancelled; one with the same key begins only after its end.

    async with downloads.join(digest, lambda: Download(...)) as running:
        await running.done()
    """

    def __init__(self) -> None:
        self._running: dict[str, Running[J]] = {}

    def keys(self) -> set[str]:
        return set(self._running)

    @asynccontextmanager
    async def join(
        self, key: str, make: Callable[[], J], *, fits: Callable[[J], bool] = lambda job: True
    ) -> AsyncIterator[Running[J]]:
        """`fits`: whether a job that runs is one to join; the end of another is waited for."""
        while (running := self._running.get(key)) is not None and not (running.joinable and fits(running.job)):
            await asyncio.wait((running.task,))
        if running is None:
            running = self._begin(key, make())
        running.waiting += 1
        try:
            yield running
        finally:
            running.waiting -= 1
            if not running.waiting and not running.task.done():
                running.abandoned = True
                running.task.cancel()
                await asyncio.wait((running.task,))

    def _begin(self, key: str, job: J) -> Running[J]:
        running = Running(job, asyncio.create_task(job.run()))
        self._running[key] = running

        def ended(task: asyncio.Task[None]) -> None:
            del self._running[key]
            if not task.cancelled():
                task.exception()  # seen, also where nobody waits any more

        running.task.add_done_callback(ended)
        return running


async def finished(work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
    """Do something short in a thread and wait for its end, also where who waits is cancelled: nothing is torn from
    under it, and what it made is handed to `undo` then."""
    task = asyncio.create_task(asyncio.to_thread(work))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if task.exception() is None and undo is not None:
        undo(task.result())
    raise cancelled


class Limit:
    """So many at once, first come first served; how many is asked each time, since a reload may change it."""

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._active = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self._queue or self._active >= self._most():
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._leave()
                raise
        else:
            self._active += 1

    async def __aexit__(self, *exception: object) -> None:
        self._leave()

    def _leave(self) -> None:
        self._active -= 1
        while self._queue and self._active < self._most():
            turn = self._queue.popleft()
            if not turn.cancelled():
                self._active += 1
                turn.set_result(None)
