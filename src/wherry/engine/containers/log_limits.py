"""Log limits: looks at the logs of running containers that have one, and at no others."""

from __future__ import annotations

import asyncio
import logging

from wherry.engine.containers.index import Index
from wherry.engine.containers.layout import Layout
from wherry.model.container import Container
from wherry.model.host import Host
from wherry.model.logging_options import limits
from wherry.storage.logs import trim

log = logging.getLogger(__name__)

PERIOD = 0.5  # seconds: a log overshoots its limit by what is written meanwhile


class Trimmer:
    """Keeps logs within their limits while `run` runs."""

    def __init__(self, host: Host, index: Index) -> None:
        self._host = host
        self._index = index

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            for container in [container for container in self._index if container.state.status.alive]:
                await trim_log(container, Layout(self._host.roots, container.id))


async def trim_log(container: Container, layout: Layout) -> None:
    """Bring one container's log within its limit, if it has one."""
    bound = limits(container.host.log_config)
    if not bound.max_size:
        return
    try:
        await asyncio.to_thread(trim, layout.log, bound)
    except OSError as error:
        log.warning("the log of container %s grows beyond its limit: %s", layout.container_id, error)
