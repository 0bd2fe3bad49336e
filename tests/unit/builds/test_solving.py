"""What of a graph runs, side by side and once, and what an earlier build has done already."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from wherry.engine.builds.cache import Cache, Cached
from wherry.engine.builds.making import Making
from wherry.engine.builds.operations import Outcome
from wherry.engine.builds.progress import Ended, Message, Progress, Started
from wherry.engine.builds.shop import Job
from wherry.engine.builds.solving import Solve
from wherry.engine.builds.trees import Client, Files, Result, Settings, Tree
from wherry.engine.builds.uploads import Uploaded
from wherry.engine.transfers.shared import Shared
from wherry.errors import SystemFailure
from wherry.model.build_graph import Copy, Exec, File, ImageSource, LocalSource, Vertex
from wherry.model.file_list import FileList, Listed
from wherry.storage.database import Database

BASE = Vertex(ImageSource("base"), name="FROM base")
CONTEXT = Vertex(LocalSource("context"), name="context")
FILE, FOLDER = 0o100644, 0o040755


def run(*words: str, on: Vertex = BASE, anew: bool = False) -> Vertex:
    return Vertex(Exec(words), (on,), name=" ".join(words), ignore_cache=anew)


def copy(path: str, source: Vertex = CONTEXT, on: Vertex = BASE) -> Vertex:
    return Vertex(File((Copy(1, path, "/"),)), (on, source), name=f"COPY {path}")


def files(**contents: str) -> FileList:
    listed = [Listed(name.encode(), FILE, size=1, digest=text.encode().ljust(32)) for name, text in contents.items()]
    return FileList(sorted(listed, key=lambda entry: entry.path))


@dataclass
class World:
    """An engine that makes trees of names: what ran, and what each process left."""

    cache: Cache
    context: FileList = field(default_factory=FileList.empty)
    made: dict[str, str] = field(default_factory=dict)  # by vertex name: the chain, where it is not its own
    failing: dict[str, str] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    told: list[Message] = field(default_factory=list)
    together: dict[str, asyncio.Event] = field(default_factory=dict)  # vertices that wait for another to run
    makings: Shared[Making] = field(default_factory=Shared)

    async def execute(self, job: Job) -> Outcome:
        name = job.vertex.name
        self.ran.append(name)
        self.begun.set()
        if name in self.together:
            event = self.together[name]
            if all(other in self.ran for other in self.together):
                for waiting in self.together.values():
                    waiting.set()
            await event.wait()
        await asyncio.sleep(0)
        if name in self.failing:
            raise SystemFailure(self.failing[name])
        diff = self.made.get(name, name)
        chain = f"{job.base.chain_id}/{diff}"
        return Outcome(Tree(chain, (*job.base.diff_ids, diff)))

    async def tree_of(self, given: Files, settings: Settings, client: Client) -> Outcome:
        raise AssertionError("not here")

    def digest(self, result: Result, action: Copy) -> str:
        if isinstance(result, Files):
            return result.files.by_path[action.source.encode()].digest.decode()
        return result.chain_id.rpartition("/")[2].partition("@")[0]  # what is behind @ is not copied

    async def tree(self, vertex: Vertex, client: Client, progress: Progress) -> Result:
        if isinstance(vertex.operation, ImageSource):
            return Tree("base", ("base",))
        return Files(self.context, self.context.digest())

    def tell(self, message: Message, /) -> None:
        self.told.append(message)

    async def room(self) -> None:
        return

    def keep(self, cached: Cached, outcome: Outcome, keys: tuple[str, ...]) -> None:
        with self.cache._database.transaction() as connection:
            self.cache.keep(connection, cached, keys)

    async def build(self, target: Vertex, slots: int = 4) -> list[str]:
        """What ran."""
        self.ran.clear()
        solve = Solve(
            self,
            self,
            self.cache,
            self.keep,
            Settings(),
            Uploaded(self.context),
            Progress(self),
            asyncio.Semaphore(slots),
            self.makings,
        )
        self.result, self.known = await solve.solve(target)
        return sorted(self.ran)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(tmp_path / "db")
    yield database
    database.close()


@pytest.fixture
def world(database: Database) -> World:
    return World(Cache(database))


async def test_what_the_target_does_not_need_does_not_run(world: World) -> None:
    run("unneeded")
    assert await world.build(run("second", on=run("first"))) == ["first", "second"]
    assert world.result.diff_ids == ("base", "first", "second")


async def test_nothing_runs_twice(world: World) -> None:
    shared = run("shared")
    target = copy("x", source=run("left", on=shared), on=run("right", on=shared))
    assert await world.build(target) == ["COPY x", "left", "right", "shared"]


async def test_independent_vertices_run_side_by_side(world: World) -> None:
    world.together = {"left": asyncio.Event(), "right": asyncio.Event()}
    async with asyncio.timeout(10):
        await world.build(copy("x", source=run("left"), on=run("right")))


async def test_no_more_file_operations_run_at_once_than_there_are_slots(world: World) -> None:
    world.context = files(f="1", g="2")
    world.together = {"COPY f": asyncio.Event(), "COPY g": asyncio.Event()}
    building = asyncio.create_task(world.build(copy("x", source=copy("f"), on=copy("g")), slots=1))
    async with asyncio.timeout(10):
        await world.begun.wait()
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(world.ran) == 1
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building


async def test_processes_that_wait_keep_nobody_from_running(world: World) -> None:
    waiting = {name: asyncio.Event() for name in ("first", "second", "COPY f")}
    world.context = files(f="1")
    world.together = waiting  # each goes on once all of them run
    async with asyncio.timeout(10):
        await world.build(copy("x", source=run("first"), on=copy("y", source=run("second"), on=copy("f"))), slots=1)


async def test_the_second_build_runs_nothing(world: World) -> None:
    world.context = files(f="1")
    target = run("make", on=copy("f"))
    assert await world.build(target) == ["COPY f", "make"]
    first = world.result
    assert await world.build(target) == []
    assert world.result == first


async def test_only_what_is_copied_counts(world: World) -> None:
    world.context = files(f="1", g="1")
    await world.build(copy("f"))
    world.context = files(f="1", g="2")
    assert await world.build(copy("f")) == []
    world.context = files(f="2", g="2")
    assert await world.build(copy("f")) == ["COPY f"]


async def test_another_base_is_another_result(world: World) -> None:
    await world.build(run("make", on=run("one")))
    assert await world.build(run("make", on=run("two"))) == ["make", "two"]


async def test_a_stage_built_anew_that_comes_to_the_same_files_changes_nothing_after_it(world: World) -> None:
    def target(tool: str) -> Vertex:
        return run("use", on=copy("out", source=run(tool)))

    world.made = {"compiler 1": "out@1", "compiler 2": "out@2"}
    assert await world.build(target("compiler 1")) == ["COPY out", "compiler 1", "use"]
    assert await world.build(target("compiler 2")) == ["compiler 2"]
    assert await world.build(target("compiler 2")) == []


async def test_a_vertex_that_ignores_the_cache_runs_and_what_follows_goes_by_its_result(world: World) -> None:
    await world.build(run("use", on=run("date")))
    assert await world.build(run("use", on=run("date", anew=True))) == ["date"]
    world.made = {"date": "later"}
    assert await world.build(run("use", on=run("date", anew=True))) == ["date", "use"]
    assert await world.build(run("use", on=run("date"))) == []
    assert world.result.diff_ids == ("base", "later", "use")


async def test_a_failure_is_raised_once_and_told_of_the_vertex_that_failed(world: World) -> None:
    world.failing = {"bad": "no luck"}
    with pytest.raises(SystemFailure, match="no luck"):
        await world.build(run("after", on=run("bad", on=run("good"))))
    told = {message.vertex: message.error for message in world.told if isinstance(message, Ended) and message.error}
    assert told == {run("bad", on=run("good")).digest: "no luck"}
    assert await world.build(run("good")) == []  # what was done before is kept


async def test_a_failure_stops_the_others(world: World) -> None:
    world.failing = {"bad": "no luck"}
    world.together = {"never": asyncio.Event()}
    world.together["other"] = asyncio.Event()
    async with asyncio.timeout(10):
        with pytest.raises(SystemFailure):
            await world.build(copy("x", source=run("bad"), on=run("never")))


async def test_every_vertex_that_starts_ends(world: World) -> None:
    world.context = files(f="1")
    await world.build(run("make", on=copy("f")))
    started = {message.vertex for message in world.told if isinstance(message, Started)}
    ended = {message.vertex for message in world.told if isinstance(message, Ended)}
    assert started <= ended


async def test_steps_that_were_skipped_are_known(world: World) -> None:
    first = run("first")
    target = run("second", on=first)
    await world.build(target)
    solve = Solve(
        world, world, world.cache, world.keep, Settings(), Uploaded(FileList.empty()), Progress(world),
        asyncio.Semaphore(1), world.makings,
    )  # fmt: skip
    _, known = await solve.solve(target, [first, target])
    assert known[first].tree.diff_ids == ("base", "first")
    assert known[first].created_ns > 0


async def test_results_survive_a_restart(world: World, database: Database) -> None:
    await world.build(run("make"))
    world.cache = Cache(database)
    assert await world.build(run("make")) == []


async def test_what_is_dropped_runs_again(world: World) -> None:
    await world.build(run("make"))
    with world.cache._database.transaction() as connection:
        world.cache.drop(connection, list(world.cache.results.values()))
    assert await world.build(run("make")) == ["make"]
