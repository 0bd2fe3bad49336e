"""A vertex while it is being made: once, however many builds wait for it.

What it writes is told to all of them, to who comes later from where it is still kept. It ends when the last of them has
gone; a failure is everybody's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable

import msgspec

from wherry.engine.builds.cache import Cached
from wherry.engine.builds.trees import Client, Settings
from wherry.model import build_graph as graph
from wherry.model.build_graph import Vertex

_KEPT = 1 << 20  # bytes of output, for builds that come later


class Output:
    """What a process writes, for all that follow it. The writer waits until each of them has taken a piece."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._dropped = 0  # pieces before the first that is kept
        self._size = 0
        self._ended = False
        self._places: dict[object, int] = {}  # of who follows: the number of the next piece
        self._changed = asyncio.Condition()
        self.begun = asyncio.Event()
        self.begin = self.begun.set

    async def write(self, stream: int, data: bytes) -> None:
        async with self._changed:
            self._pieces.append((stream, data))
            self._size += len(data)
            while (
                self._size > _KEPT
                and len(self._pieces) > 1
                and self._dropped < min(self._places.values(), default=self._end)
            ):
                self._size -= len(self._pieces.popleft()[1])
                self._dropped += 1
            self._changed.notify_all()
            await self._changed.wait_for(lambda: all(place >= self._end for place in self._places.values()))

    async def end(self) -> None:
        self.begin()
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def pieces(self) -> AsyncGenerator[tuple[int, bytes], None]:
        """Stream and data, from the first piece that is kept to the last."""
        me = object()
        self._places[me] = self._dropped
        try:
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._ended or self._places[me] < self._end)
                    place = self._places[me]
                    if place == self._end:
                        return
                    piece = self._pieces[place - self._dropped]
                yield piece
                async with self._changed:
                    self._places[me] += 1
                    self._changed.notify_all()
        finally:
            del self._places[me]
            async with self._changed:
                self._changed.notify_all()

    @property
    def _end(self) -> int:
        return self._dropped + len(self._pieces)


class Making:
    """A job of `Shared`: the work, given where its output goes, until its result is recorded."""

    def __init__(self, work: Callable[[Output], Awaitable[Cached]]) -> None:
        self.output = Output()
        self._work = work
        self._cached: Cached | None = None

    async def run(self) -> None:
        try:
            self._cached = await self._work(self.output)
        finally:
            await self.output.end()

    @property
    def cached(self) -> Cached:
        """Of one that has ended well."""
        assert self._cached is not None
        return self._cached


def making_key(vertex: Vertex, found_key: str, settings: Settings, client: Client) -> str:
    """Builds that come to the same key make a vertex together.

    They have to want the same result and the same limits, network and proxies, and the same freshness: a vertex that is
    not to be found in the cache is shared only with those that are not either. What asks its client for secrets or an
    agent is that client's alone.
    """
    operation = vertex.operation
    parts: list[object] = [found_key, vertex.ignore_cache, settings.limits, settings.network]
    if isinstance(operation, graph.Exec):
        own = any(isinstance(mount, graph.Secret | graph.Ssh) for mount in operation.mounts)
        parts += [operation.proxy_env, id(client) if own else 0]
    return msgspec.json.encode(parts).decode()
