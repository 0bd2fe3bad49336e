"""Runs that are made ready at creation, since the start mostly follows within milliseconds.

Executing and linking monitor and runtime takes longer than a client needs from `create` to `start`, and depends on
nothing that a start decides. What is not asked for in time is undone.
"""

from __future__ import annotations

import asyncio
import logging

from wherry.engine.containers.layout import Layout
from wherry.engine.containers.readying import Ready
from wherry.engine.containers.runtimes import Runtimes
from wherry.errors import SystemFailure
from wherry.model.container import Container
from wherry.model.host import Host

log = logging.getLogger(__name__)

SECONDS = 2.0  # that a run made ready waits for its start
MOST = 8  # that wait at a time


class Standby:
    """Lives on the event loop. Who takes or dismisses a container's holds its lock.

    standby.begin(container)                    # it has just been created
    ready = await standby.take(container)       # at its start
    await standby.dismiss(container)            # or at its removal
    """

    def __init__(self, host: Host, runtimes: Runtimes) -> None:
        self._host = host
        self._runtimes = runtimes
        self._waiting: dict[str, asyncio.Task[Ready]] = {}  # by container ID
        self._closing: dict[str, asyncio.Task[None]] = {}

    def begin(self, container: Container) -> None:
        """Make the first run ready, in the background, where the runtime can wait for its spec."""
        if len(self._waiting) >= MOST or not self._runtimes.of(container).familiar:
            return
        task = self._waiting[container.id] = asyncio.create_task(self._make_ahead(container))
        asyncio.get_running_loop().call_later(SECONDS, self._expire, container.id, task)

    async def take(self, container: Container) -> Ready:
        """The one that waits, or a new one. Raises SystemFailure, OSError."""
        task = self._waiting.pop(container.id, None)
        if task is not None:
            await asyncio.wait({task})
            if task.exception() is None and task.result().launch == self._layout(container).launch(container):
                return task.result()
            await _close(task)  # the container's configuration has changed since, or the making has failed
        await self._closed(container.id)
        return await self._make(container)

    async def dismiss(self, container_id: str) -> None:
        """Undo what waits for a container."""
        if task := self._waiting.get(container_id):
            self._expire(container_id, task)
        await self._closed(container_id)

    async def close(self) -> None:
        """Undo all that waits."""
        for container_id in [*self._waiting, *self._closing]:
            await self.dismiss(container_id)

    def _expire(self, container_id: str, task: asyncio.Task[Ready]) -> None:
        if self._waiting.get(container_id) is task:
            del self._waiting[container_id]
            closing = self._closing[container_id] = asyncio.create_task(_close(task))
            closing.add_done_callback(lambda _: self._closing.pop(container_id))

    async def _closed(self, container_id: str) -> None:
        if closing := self._closing.get(container_id):
            await asyncio.wait({closing})

    async def _make(self, container: Container) -> Ready:
        conmon = self._host.binaries.conmon
        if conmon is None:
            raise SystemFailure("conmon is not installed: apt-get install conmon")
        layout = self._layout(container)
        ready = Ready(self._host, layout, layout.launch(container), self._runtimes.of(container))
        await ready.make(conmon, container.ids)
        return ready

    async def _make_ahead(self, container: Container) -> Ready:
        ready = await self._make(container)
        if container.ids is None and not container.sandbox.mode.startswith(("host", "container:")):
            try:
                await ready.make_network()
            except OSError:
                await ready.close()
                raise
        return ready

    def _layout(self, container: Container) -> Layout:
        return Layout.of(self._host.roots, container)


async def _close(task: asyncio.Task[Ready]) -> None:
    try:
        await (await task).close()
    except Exception as error:  # a start would meet it again, and tell
        log.info("a run that was made ready: %s", error)
