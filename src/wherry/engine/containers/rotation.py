"""Log rotation: looks at the logs of running containers that have a limit, and at no others."""

from __future__ import annotations

import asyncio
import logging

from wherry.engine.containers.index import Index
from wherry.engine.containers.layout import Layout
from wherry.model.host import Host
from wherry.model.logging_options import LogLimits, limits
from wherry.storage.logs import rotate

log = logging.getLogger(__name__)

PERIOD = 0.5  # seconds: a log overshoots its limit by what is written meanwhile


class Rotator:
    """Rotates logs while `run` runs."""

    def __init__(self, host: Host, index: Index) -> None:
        self._host = host
        self._index = index

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            due = [
                (Layout(self._host.roots, container.id), bound)
                for container in self._index
                if container.state.status.alive and (bound := limits(container.host.log_config)).max_size
            ]
            if due:
                await asyncio.to_thread(self._rotate, due)

    def _rotate(self, due: list[tuple[Layout, LogLimits]]) -> None:
        for layout, bound in due:
            try:
                rotate(layout.log, bound, layout.bundle / "ctl")
            except OSError as error:  # it has just ended, or the disk is full: nothing is lost
                log.warning("log of container %s was not rotated: %s", layout.container_id, error)
