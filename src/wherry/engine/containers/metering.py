"""What containers use, once or every second.

Readings asked for at about the same moment are made together, in one visit to a thread: fifty clients that each follow
a container cost one thread a few milliseconds a second, and nothing at all is read while nobody asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from wherry.engine.containers.index import Index
from wherry.engine.containers.layout import Layout
from wherry.errors import SystemFailure
from wherry.linux import usage
from wherry.linux.usage import Subject
from wherry.model.container import Container
from wherry.model.host import Host
from wherry.model.usage import Reading

INTERVAL = 1.0  # seconds between the readings of a stream, as Docker's


class Meter:
    """Readings of containers."""

    def __init__(self, host: Host, index: Index) -> None:
        self._host = host
        self._index = index
        self._wanted: list[tuple[Subject, asyncio.Future[Reading | None]]] = []
        self._visit: asyncio.Task[None] | None = None

    async def read(self, container: Container) -> Reading | None:
        """What it uses now; None if it does not run."""
        if not container.state.status.alive:
            return None
        wanted: asyncio.Future[Reading | None] = asyncio.get_running_loop().create_future()
        self._wanted.append((self._subject(container), wanted))
        if self._visit is None:
            self._visit = asyncio.create_task(self._read_all())
        return await wanted

    async def follow(
        self, container: Container, interval: float = INTERVAL
    ) -> AsyncGenerator[tuple[Reading | None, Reading | None], None]:
        """The reading now and the one before it, every `interval` seconds until the container is removed."""
        loop = asyncio.get_running_loop()
        before: Reading | None = None
        due = loop.time()
        while self._index.get(container.id) is container:
            reading = await self.read(container)
            yield reading, before
            before = reading
            due = max(due + interval, loop.time())
            await asyncio.sleep(due - loop.time())

    def _subject(self, container: Container) -> Subject:
        sandbox = container.sandbox
        kind, _, reference = sandbox.mode.partition(":")
        if kind == "container" and (other := self._index.seek(reference)) is not None:
            sandbox = other.sandbox
        interfaces = [place.interface for place in sandbox.endpoints.values() if place.interface]
        return Subject(Layout.of(self._host.roots, container).cgroup, interfaces)

    async def _read_all(self) -> None:
        """Read what is wanted, and what is wanted meanwhile, until nothing is."""
        try:
            while self._wanted:
                batch, self._wanted = self._wanted, []
                subjects = [subject for subject, _ in batch]
                try:
                    readings = await asyncio.to_thread(usage.read, self._host.cgroups, subjects, self._host.memory)
                except BaseException as error:
                    for _, wanted in batch:
                        if not wanted.done():
                            wanted.set_exception(SystemFailure(f"reading cgroups: {error}"))
                    raise
                for (_, wanted), reading in zip(batch, readings, strict=True):
                    if not wanted.done():
                        wanted.set_result(reading)
        finally:
            self._visit = None
