"""Which vertices run, in which order, and which earlier results serve.

A result is kept under two keys. The *planned* key is known before anything runs: the operation and the planned keys of
its inputs, where a tree that is there already (an image, a client's files) stands for itself by its content. The
*found* key is known once the inputs are: the operation, the chain of input 0, and the content of what it uses of the
others. A vertex looks under the first without running its inputs, and under the second after. So a stage that was built
anew but came to the same files does not make what is copied from it run again.

Where a vertex must not be taken from the cache, nothing that stands on it has a planned key: it is found by what came
out this time.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec

from wherry.engine.builds.cache import Cache, Cached, new_result
from wherry.engine.builds.making import Making, Output, making_key
from wherry.engine.builds.operations import Outcome
from wherry.engine.builds.progress import Progress, Written
from wherry.engine.builds.shop import Job
from wherry.engine.builds.trees import Client, Files, Result, Settings, Tree
from wherry.engine.transfers.shared import Shared
from wherry.errors import WherryError
from wherry.model import build_graph as graph
from wherry.model.build_graph import Vertex

T = TypeVar("T")
AT_ONCE = max(2, os.cpu_count() or 1)  # operations on files, of all builds together

_PLANNED, _FOUND = "planned", "found"


class Execution(Protocol):
    """Who makes trees; `wherry.engine.builds.operations.Operations`."""

    async def execute(self, job: Job) -> Outcome: ...
    async def tree_of(self, files: Files, settings: Settings, client: Client) -> Outcome: ...
    def digest(self, result: Result, action: graph.Copy) -> str: ...


class Sources(Protocol):
    """Trees that nobody has to make."""

    async def tree(self, vertex: Vertex, client: Client, progress: Progress) -> Result:
        """Of a source vertex. Raises WherryError."""


class Keep(Protocol):
    """Records what a vertex came to, with the layers that no record names yet."""

    def __call__(self, cached: Cached, outcome: Outcome, keys: tuple[str, ...], /) -> None: ...


class Imports(Protocol):
    """Results of builds elsewhere."""

    async def find(self, vertex: Vertex, key: str, *, fetch: bool) -> Imported | None:
        """None where there is none; without `fetch` only one whose layers are here already."""


@dataclass(frozen=True)
class Imported:
    outcome: Outcome
    created_ns: int


@dataclass(frozen=True)
class Known:
    """The tree that a vertex made, and when it did (ns since the epoch; 0 for a source)."""

    tree: Tree
    created_ns: int = 0


class Solve:
    """One build of one target, or of several side by side, which share what they have in common.

        solve = Solve(operations, sources, cache, keep, settings, client, progress, slots, makings)
        tree, known = await solve.solve(target)

    Every vertex that the target needs runs at most once, independent ones side by side; `makings` are what all builds
    make at this time, so that the same vertex of two of them runs once. Operations on files, which end
    by themselves, wait for one of `slots`; processes do not: they may wait for a cache mount or for the world, and how
    many of them use the CPUs at once is the kernel's to see to. The first failure stops the others, and is raised when
    all of them have ended; so does cancelling.
    """

    def __init__(
        self,
        operations: Execution,
        sources: Sources,
        cache: Cache,
        keep: Keep,
        settings: Settings,
        client: Client,
        progress: Progress,
        slots: asyncio.Semaphore,
        makings: Shared[Making],
        imports: Imports | None = None,
    ) -> None:
        self._imports = imports
        self._operations = operations
        self._sources = sources
        self._cache = cache
        self._keep = keep
        self._settings = settings
        self._client = client
        self._progress = progress
        self._slots = slots
        self._makings = makings
        self._results: dict[Vertex, asyncio.Task[Result]] = {}
        self._planned: dict[Vertex, asyncio.Task[str]] = {}
        self._digests: dict[object, asyncio.Task[str]] = {}
        self._anew: set[Vertex] = set()  # what must not come from the cache, and all that stands on it
        self._told: WherryError | None = None
        self._known: dict[Vertex, Known] = {}
        self._solving = 0  # targets

    async def solve(
        self, target: Vertex, states: Iterable[Vertex] = (), *, fetch: bool = False
    ) -> tuple[Tree, dict[Vertex, Known]]:
        """The target's tree, and what is known of how others on the way to it were: of those that were skipped, too.

        With `fetch` also of those that only others have. Raises WherryError.
        """
        for vertex in graph.ordered(target):
            if not isinstance(vertex.operation, graph.Scratch):
                self._progress.planned(vertex)
            if vertex.ignore_cache or not self._anew.isdisjoint(vertex.inputs):
                self._anew.add(vertex)
        self._solving += 1
        try:
            tree = await self._as_tree(await self._result(target))
            for vertex in states:
                if vertex not in self._known:
                    planned = await self._planned_key(vertex)
                    if found := await self._find(vertex, planned, (planned,), fetch=fetch):
                        self._know(vertex, found)
            return tree, self._known
        finally:
            self._solving -= 1
            if not self._solving:
                tasks = [*self._results.values(), *self._planned.values(), *self._digests.values()]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _as_tree(self, result: Result) -> Tree:
        if isinstance(result, Tree):
            return result
        outcome = await self._operations.tree_of(result, self._settings, self._client)
        if outcome.layers:
            self._keep(_cached("", outcome), outcome, ())
        return outcome.tree

    # once each

    def _result(self, vertex: Vertex) -> asyncio.Task[Result]:
        return _once(self._results, vertex, lambda: self._solve(vertex))

    def _planned_key(self, vertex: Vertex) -> asyncio.Task[str]:
        return _once(self._planned, vertex, lambda: self._plan_key(vertex))

    def _digest(self, result: Result, action: graph.Copy) -> asyncio.Task[str]:
        name: object = result.chain_id if isinstance(result, Tree) else id(result)
        plain = msgspec.structs.replace(action, input=0, destination="", owner=None, mode="", time_ns=None)
        return _once(self._digests, (name, plain), lambda: asyncio.to_thread(self._operations.digest, result, plain))

    # one vertex

    async def _solve(self, vertex: Vertex) -> Result:
        try:
            result = await self._find_or_make(vertex)
        except WherryError as error:
            if self._told is None:  # what stands on it fails for the same reason, and did not begin
                self._told = error
                self._progress.ended(vertex, error=str(error))
            raise
        if isinstance(result, Tree):
            self._known.setdefault(vertex, Known(result))
        return result

    def _know(self, vertex: Vertex, cached: Cached) -> Tree:
        tree = Tree(cached.chain_id, tuple(cached.diff_ids))
        self._known[vertex] = Known(tree, cached.created_ns)
        return tree

    async def _find_or_make(self, vertex: Vertex) -> Result:
        operation = vertex.operation
        if isinstance(operation, graph.Scratch):
            return Tree()
        if not vertex.inputs:
            result = await self._sources.tree(vertex, self._client, self._progress)
            self._progress.ended(vertex)
            return result
        planned = await self._planned_key(vertex)
        if vertex not in self._anew and (found := await self._find(vertex, planned, (planned,))) is not None:
            self._progress.ended(vertex, cached=True)
            return self._know(vertex, found)
        inputs = await self._inputs(vertex)
        keys = planned, await self._found_key(vertex, inputs)
        if not vertex.ignore_cache and (found := await self._find(vertex, keys[1], keys)) is not None:
            self._progress.ended(vertex, cached=True)
            return self._know(vertex, found)
        return await self._make(vertex, inputs, keys)

    async def _find(self, vertex: Vertex, key: str, keys: tuple[str, ...], *, fetch: bool = True) -> Cached | None:
        """An earlier result, ours or one of a build elsewhere; found by all the keys from now on."""
        found = self._cache.find(key)
        if found is not None:
            self._cache.name(found, keys)
        elif self._imports is not None and (imported := await self._imports.find(vertex, key, fetch=fetch)) is not None:
            found = _cached(vertex.name, imported.outcome, imported.created_ns)
            self._keep(found, imported.outcome, keys)
        return found

    async def kept(self, vertex: Vertex) -> Cached | None:
        """The result that is kept of a vertex which is known."""
        return self._cache.find(await self._planned_key(vertex)) if vertex.inputs else None

    async def _inputs(self, vertex: Vertex) -> list[Result | None]:
        used = graph.uses(vertex.operation) or set(range(len(vertex.inputs)))
        results = await asyncio.gather(*(self._result(vertex.inputs[number]) for number in used))
        inputs: list[Result | None] = [None] * len(vertex.inputs)
        for number, result in zip(used, results, strict=True):
            inputs[number] = result
        if inputs and (first := inputs[0]) is not None:
            inputs[0] = await self._as_tree(first)
        return inputs

    async def _make(self, vertex: Vertex, inputs: list[Result | None], keys: tuple[str, ...]) -> Tree:
        """Together with whoever makes the same at this time."""

        async def work(output: Output) -> Cached:
            slot = contextlib.nullcontext() if isinstance(vertex.operation, graph.Exec) else self._slots
            async with slot:
                output.begin()
                job = Job(vertex, inputs, self._settings, self._client, output.write)
                outcome = await self._operations.execute(job)
            cached = _cached(vertex.name, outcome)
            self._keep(cached, outcome, keys)
            return cached

        key = making_key(vertex, keys[1], self._settings, self._client)
        async with self._makings.join(key, lambda: Making(work)) as running:
            output = running.job.output
            await output.begun.wait()
            self._progress.started(vertex)
            async with contextlib.aclosing(output.pieces()) as pieces:
                async for stream, data in pieces:
                    self._progress.tell(Written(vertex.digest, stream, data))
                    await self._progress.room()
            try:
                cached = (await running.done()).cached
            except WherryError as error:
                raise _own(error) from error.__cause__
        self._cache.name(cached, keys)
        self._progress.ended(vertex)
        return self._know(vertex, cached)

    # keys

    async def _plan_key(self, vertex: Vertex) -> str:
        operation = vertex.operation
        if isinstance(operation, graph.Scratch):
            return "scratch"
        if not vertex.inputs:
            result = await self._result(vertex)
            return f"tree {result.chain_id}" if isinstance(result, Tree) else f"files {result.described}"
        parts: list[object] = [_PLANNED, self._identity(vertex)]
        for number, other in enumerate(vertex.inputs):
            for action in _taken(operation, number):
                files = None if action is None or _to_be_made(other) else await self._result(other)
                if action is not None and isinstance(files, Files):  # only what is used of them counts
                    parts.append([number, await self._digest(files, action)])
                else:
                    parts.append([number, await self._planned_key(other)])
        return _hash(parts)

    async def _found_key(self, vertex: Vertex, inputs: list[Result | None]) -> str:
        parts: list[object] = [_FOUND, self._identity(vertex)]
        for number, result in enumerate(inputs):
            if result is None:
                continue
            for action in _taken(vertex.operation, number):
                if action is not None:
                    parts.append([number, await self._digest(result, action)])
                elif isinstance(result, Tree):
                    parts.append([number, result.chain_id])
                else:
                    parts.append([number, result.described])
        return _hash(parts)

    def _identity(self, vertex: Vertex) -> object:
        """The operation itself, without where its inputs come from, and what else makes its result another."""
        operation = vertex.operation
        if isinstance(operation, graph.Exec):
            operation = msgspec.structs.replace(operation, proxy_env=())
        return [msgspec.json.encode(operation, order="sorted").decode(), self._settings.epoch]


def _once(
    known: dict[Any, asyncio.Task[T]], name: object, work: Callable[[], Coroutine[Any, Any, T]]
) -> asyncio.Task[T]:
    if name not in known:
        known[name] = asyncio.create_task(work())
    return known[name]


def _own(error: WherryError) -> WherryError:
    """A copy: each build that it is told to says in which line of its own it came up."""
    own = type(error).__new__(type(error), *error.args)
    own.__dict__.update(error.__dict__)
    return own


def _to_be_made(vertex: Vertex) -> bool:
    return bool(vertex.inputs) or isinstance(vertex.operation, graph.ImageSource | graph.Scratch)


def _taken(operation: graph.Operation, number: int) -> list[graph.Copy | None]:
    """What an operation takes of an input: parts, as copies, or None for all of it."""
    match operation:
        case graph.Exec():
            taken: list[graph.Copy | None] = [None] if number == 0 else []
            return taken + [
                graph.Copy(number, mount.source or "/", "", contents_only=True)
                for mount in operation.mounts
                if isinstance(mount, graph.Bind | graph.Cache) and mount.input == number
            ]
        case graph.File():
            taken = [None] if number == 0 else []
            for action in operation.actions:
                if isinstance(action, graph.Copy) and action.input == number:
                    taken.append(action)
                owner = None if isinstance(action, graph.Remove) else action.owner
                if owner is not None and owner.ids_in == number and number:
                    taken.append(graph.Copy(number, "/etc/[gp][ra][os][us]*", "", wildcard=True, allow_empty=True))
            return taken
        case _:
            return [None]


def _hash(parts: list[object]) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _cached(name: str, outcome: Outcome, created_ns: int = 0) -> Cached:
    tree = outcome.tree
    made = {"created_ns": created_ns} if created_ns else {}
    size = sum(layer.size for layer in outcome.layers)
    return new_result(description=name, chain_id=tree.chain_id, diff_ids=list(tree.diff_ids), size=size, **made)
