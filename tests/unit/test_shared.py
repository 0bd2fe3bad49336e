"""Work shared by those who wait for it, and limits on how much is done at once."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.engine.transfers.shared import Limit, Shared, finished


class Task:
    """A job that goes on until it is let, and takes a moment to stop."""

    def __init__(self, ran: list[Task]) -> None:
        self.let = asyncio.Event()
        self.stopping = asyncio.Event()
        self.stopped = False
        self.fails = False
        ran.append(self)

    async def run(self) -> None:
        try:
            await self.let.wait()
            if self.fails:
                raise ValueError("as told")
        finally:
            self.stopping.set()
            await asyncio.sleep(0.01)
            self.stopped = True


async def test_done_once_for_all_who_want_it() -> None:
    ran: list[Task] = []
    shared: Shared[Task] = Shared()
    async with shared.join("a", lambda: Task(ran)) as one, shared.join("a", lambda: Task(ran)) as two:
        assert one is two
        ran[0].let.set()
        assert await asyncio.gather(one.done(), two.done()) == [ran[0], ran[0]]
    async with shared.join("a", lambda: Task(ran)):
        assert len(ran) == 2, "what has ended is not joined"


async def test_a_failure_reaches_all() -> None:
    ran: list[Task] = []
    shared: Shared[Task] = Shared()
    async with shared.join("a", lambda: Task(ran)) as one, shared.join("a", lambda: Task(ran)) as two:
        ran[0].fails = True
        ran[0].let.set()
        for waiting in (one, two):
            with pytest.raises(ValueError, match="as told"):
                await waiting.done()
    assert shared.keys() == set()


async def test_only_the_last_to_leave_ends_it() -> None:
    ran: list[Task] = []
    shared: Shared[Task] = Shared()
    async with shared.join("a", lambda: Task(ran)):
        async with shared.join("a", lambda: Task(ran)):
            await asyncio.sleep(0)  # it begins
        assert not ran[0].stopping.is_set()
    assert ran[0].stopped
    assert shared.keys() == set()


async def test_who_comes_while_it_is_being_given_up_waits_and_begins_anew() -> None:
    ran: list[Task] = []
    shared: Shared[Task] = Shared()
    left = asyncio.Event()

    async def leave() -> None:
        async with shared.join("a", lambda: Task(ran)):
            await left.wait()

    leaving = asyncio.create_task(leave())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    left.set()
    await ran[0].stopping.wait()
    async with shared.join("a", lambda: Task(ran)):
        assert ran[0].stopped
        assert len(ran) == 2
    await leaving


async def test_what_is_short_is_finished_and_undone_where_nobody_waits() -> None:
    begun, let = threading.Event(), threading.Event()
    undone: list[int] = []

    def work() -> int:
        begun.set()
        let.wait()
        return 7

    async def waiting() -> int:
        return await finished(work, undone.append)

    task = asyncio.create_task(waiting())
    await asyncio.to_thread(begun.wait)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    let.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert undone == [7]
    assert await waiting() == 7


@given(st.integers(1, 4), st.lists(st.booleans(), max_size=12))
def test_a_limit_holds_whoever_gives_up(most: int, gives_up: list[bool]) -> None:
    """Some are cancelled while they wait or work; the others all get their turn, never more than `most` at once."""
    asyncio.run(_limited(most, gives_up))


async def _limited(most: int, gives_up: list[bool]) -> None:
    limit = Limit(lambda: most)
    active = highest = done = 0

    async def work() -> None:
        nonlocal active, highest, done
        async with limit:
            active += 1
            highest = max(highest, active)
            try:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                done += 1
            finally:
                active -= 1

    tasks = [asyncio.create_task(work()) for _ in gives_up]
    await asyncio.sleep(0)
    for task, cancelled in zip(tasks, gives_up, strict=True):
        if cancelled:
            task.cancel()
            await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert highest <= most
    assert done >= gives_up.count(False)
    async with limit:
        assert active == 0
