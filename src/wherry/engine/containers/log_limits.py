"""Log limits: woken by writes to the logs of running containers that have one, and never by others."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from wherry.engine.containers.layout import Layout
from wherry.linux.inotify import Watcher
from wherry.model.container import Container
from wherry.model.host import Host
from wherry.model.logging_options import LogLimits, limits
from wherry.storage.logs import trim

log = logging.getLogger(__name__)

PACE = 0.1  # seconds between two looks at a log that is written to: it overshoots its limit by what comes meanwhile


@dataclass(eq=False)
class _Watch:
    layout: Layout
    bound: LogLimits
    change: asyncio.Future[None] | None = None
    timer: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        for waiting in (self.change, self.timer):
            if waiting is not None:
                waiting.cancel()


class Trimmer:
    """Keeps logs within their limits: no task for a container, only a watch on its folder."""

    def __init__(self, host: Host, watcher: Watcher) -> None:
        self._host = host
        self._watcher = watcher
        self._watches: dict[str, _Watch] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self, container: Container) -> None:
        """From its start, or from the daemon's, until `finish`."""
        bound = limits(container.host.log_config)
        if bound.max_size:
            watch = self._watches[container.id] = _Watch(Layout(self._host.roots, container.id), bound)
            self._look(watch)

    async def finish(self, container: Container) -> None:
        """The run is over: bring its log within the limit for good."""
        if (watch := self._watches.pop(container.id, None)) is not None:
            watch.cancel()
        bound = limits(container.host.log_config)
        if bound.max_size:
            await _trim(Layout(self._host.roots, container.id), bound)

    async def close(self) -> None:
        for watch in self._watches.values():
            watch.cancel()
        self._watches.clear()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _look(self, watch: _Watch) -> None:
        """Trim, and look again when the log has grown; armed first, so that no growth goes unseen."""
        watch.change = self._watcher.next_change(watch.layout.durable)
        watch.change.add_done_callback(lambda change: self._changed(watch, change))
        task = asyncio.create_task(_trim(watch.layout, watch.bound))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _changed(self, watch: _Watch, change: asyncio.Future[None]) -> None:
        if not change.cancelled() and self._watches.get(watch.layout.container_id) is watch:
            watch.timer = asyncio.get_running_loop().call_later(PACE, self._look, watch)


async def _trim(layout: Layout, bound: LogLimits) -> None:
    try:
        await asyncio.to_thread(trim, layout.log, bound)
    except OSError as error:
        log.warning("the log of container %s grows beyond its limit: %s", layout.container_id, error)
