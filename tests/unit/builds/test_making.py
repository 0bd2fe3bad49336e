"""Builds at the same time that need the same vertex: it is made once, for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from wherry.engine.builds import making
from wherry.engine.builds.cache import Cache, Cached
from wherry.engine.builds.making import Making, Output
from wherry.engine.builds.operations import Outcome
from wherry.engine.builds.progress import Ended, Message, Progress, Started, Written
from wherry.engine.builds.shop import Job
from wherry.engine.builds.solving import Solve
from wherry.engine.builds.trees import Client, Files, ProcessFailed, Result, Settings, Tree
from wherry.engine.builds.uploads import Uploaded
from wherry.engine.transfers.shared import Shared
from wherry.model.build_graph import Copy, Exec, ImageSource, Secret, Vertex
from wherry.model.config import HostConfig
from wherry.model.file_list import FileList
from wherry.storage.database import Database

BASE = Vertex(ImageSource("base"), name="FROM base")


def run(*words: str, on: Vertex = BASE, anew: bool = False, secret: bool = False, proxy: str = "") -> Vertex:
    mounts = (Secret("key", "/key"),) if secret else ()
    operation = Exec(words, mounts=mounts, proxy_env=(proxy,) if proxy else ())
    return Vertex(operation, (on,), name=" ".join(words), ignore_cache=anew)


@dataclass
class Engine:
    """One whose processes say that they began, and end when they are let."""

    cache: Cache
    makings: Shared[Making] = field(default_factory=Shared)
    ran: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    let: asyncio.Event = field(default_factory=asyncio.Event)
    fails: bool = False

    async def execute(self, job: Job) -> Outcome:
        name = job.vertex.name
        self.ran.append(name)
        try:
            await job.tell(1, b"began ")
            self.begun.set()
            await self.let.wait()
            await job.tell(1, b"ended")
            if self.fails:
                raise ProcessFailed((name,), 7)
        finally:
            self.ended.append(name)
        return Outcome(Tree(f"{job.base.chain_id}/{name}", (*job.base.diff_ids, name)))

    async def tree_of(self, given: Files, settings: Settings, client: Client) -> Outcome:
        raise AssertionError("not here")

    def digest(self, result: Result, action: Copy) -> str:
        raise AssertionError("not here")

    async def tree(self, vertex: Vertex, client: Client, progress: Progress) -> Result:
        return Tree("base", ("base",))

    def keep(self, cached: Cached, outcome: Outcome, keys: tuple[str, ...]) -> None:
        with self.cache._database.transaction() as connection:
            self.cache.keep(connection, cached, keys)


class Build:
    """One that begins with the first step that is awaited."""

    def __init__(self, engine: Engine, target: Vertex, settings: Settings | None = None) -> None:
        self.told: list[Message] = []
        self.news = asyncio.Event()
        self.solve = Solve(
            engine,
            engine,
            engine.cache,
            engine.keep,
            settings or Settings(),
            Uploaded(FileList.empty()),
            Progress(self),
            asyncio.Semaphore(4),
            engine.makings,
        )
        self.task = asyncio.create_task(self.solve.solve(target))

    def tell(self, message: Message, /) -> None:
        self.told.append(message)
        self.news.set()

    async def room(self) -> None:
        return

    @property
    def output(self) -> bytes:
        return b"".join(message.data for message in self.told if isinstance(message, Written))

    async def heard(self, text: bytes) -> None:
        while text not in self.output:
            self.news.clear()
            await self.news.wait()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    database = Database.open(tmp_path / "db")
    yield Engine(Cache(database))
    database.close()


async def both(engine: Engine, one: Vertex, two: Vertex, *settings: Settings) -> list[Build]:
    """Two builds, both with a step that runs."""
    first, second = (Build(engine, target, *settings[number : number + 1]) for number, target in enumerate((one, two)))
    async with asyncio.timeout(10):
        await first.heard(b"began")
        await second.heard(b"began")
    return [first, second]


async def test_the_same_vertex_runs_once_and_both_hear_it(engine: Engine) -> None:
    builds = await both(engine, run("make"), run("make"))
    engine.let.set()
    trees = [(await build.task)[0] for build in builds]
    assert engine.ran == ["make"] and trees[0] == trees[1]
    assert [build.output for build in builds] == [b"began ended"] * 2
    for build in builds:
        assert [
            message for message in build.told if isinstance(message, Started) and message.vertex == run("make").digest
        ]
        assert [message.cached for message in build.told if isinstance(message, Ended)] == [False, False]


async def test_the_end_of_one_build_is_not_the_others(engine: Engine) -> None:
    first, second = await both(engine, run("make"), run("make"))
    first.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first.task
    assert engine.ended == []
    engine.let.set()
    assert (await second.task)[0].diff_ids == ("base", "make")
    assert engine.ran == ["make"] and second.output == b"began ended"


async def test_the_last_to_go_ends_it(engine: Engine) -> None:
    builds = await both(engine, run("make"), run("make"))
    for build in builds:
        build.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await build.task
    assert engine.ended == ["make"] and engine.makings.keys() == set()


async def test_a_failure_is_told_to_both_as_an_error_of_their_own(engine: Engine) -> None:
    engine.fails = True
    builds = await both(engine, run("make"), run("make"))
    engine.let.set()
    errors = []
    for build in builds:
        with pytest.raises(ProcessFailed, match="exit code: 7") as failed:
            await build.task
        errors.append(failed.value)
        assert [message.error for message in build.told if isinstance(message, Ended) and message.error]
    assert errors[0] is not errors[1] and errors[0].exit_code == errors[1].exit_code == 7
    assert engine.ran == ["make"]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (run("make"), run("other")),
        (run("make"), run("make", anew=True)),
        (run("make", secret=True), run("make", secret=True)),
        (run("make", proxy="http_proxy=http://a"), run("make", proxy="http_proxy=http://b")),
    ],
    ids=["another", "anew", "secrets", "proxies"],
)
async def test_what_differs_is_not_shared(engine: Engine, one: Vertex, two: Vertex) -> None:
    builds = await both(engine, one, two)
    engine.let.set()
    for build in builds:
        await build.task
    assert len(engine.ran) == 2


async def test_builds_with_other_limits_share_nothing(engine: Engine) -> None:
    small = Settings(HostConfig(memory=1 << 26))
    builds = await both(engine, run("make"), run("make"), Settings(), small)
    engine.let.set()
    for build in builds:
        await build.task
    assert len(engine.ran) == 2


async def test_two_that_are_built_anew_are_built_together(engine: Engine) -> None:
    builds = await both(engine, run("make", anew=True), run("make", anew=True))
    engine.let.set()
    for build in builds:
        await build.task
    assert engine.ran == ["make"]


async def test_output_waits_for_the_slowest_and_not_for_who_left() -> None:
    output = Output()
    slow, quick = output.pieces(), output.pieces()
    written = asyncio.create_task(output.write(1, b"x"))
    assert await anext(slow) == await anext(quick) == (1, b"x")
    ending = asyncio.create_task(anext(quick, None))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not written.done()
    await slow.aclose()
    await written
    await output.end()
    assert await ending is None


async def test_of_much_output_the_last_is_kept_for_who_comes_later() -> None:
    output = Output()
    for number in range(40):
        await output.write(1, bytes([number]) * 100_000)
    await output.end()
    kept = [data async for _, data in output.pieces()]
    assert 0 < len(kept) <= 10 and kept[-1] == bytes([39]) * 100_000


async def test_who_comes_late_and_is_slow_reads_what_was_written_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "_KEPT", 4)
    output = Output()
    for letter in b"abcd":
        await output.write(1, bytes([letter]))
    late = output.pieces()
    read = [await anext(late)]
    writing = asyncio.create_task(output.write(1, b"efg"))
    for _ in range(20):
        await asyncio.sleep(0)
    while len(read) < 5:
        read.append(await anext(late))
    await output.end()
    assert b"".join([data for _, data in read] + [data async for _, data in late]) == b"abcdefg"
    await writing
