"""Changing limits and restart policy of a container, live.

The record changes first, marked as unsettled until the cgroup has followed: a daemon that dies between the two finishes
at its next start. If the kernel refuses, cgroup and record are as they were.
"""

from __future__ import annotations

import asyncio
import logging

from wherry.engine.containers.announce import Announcer
from wherry.engine.containers.index import Index
from wherry.engine.containers.layout import Layout
from wherry.engine.containers.live import Lives
from wherry.errors import Conflict, SystemFailure, WherryError
from wherry.linux import cgroups
from wherry.model import updates
from wherry.model.config import HostConfig
from wherry.model.container import Container
from wherry.model.failpoints import failpoint
from wherry.model.host import Host
from wherry.model.states import Status
from wherry.model.validate import validate_update

log = logging.getLogger(__name__)


class Updater:
    """Updates of containers."""

    def __init__(self, host: Host, index: Index, lives: Lives, announce: Announcer) -> None:
        self._host = host
        self._index = index
        self._lives = lives
        self._announce = announce

    async def update(self, ref: str, given: HostConfig) -> list[str]:
        """Change what is given; the warnings of what is accepted and discarded.

        Raises InvalidParameter before the container is looked for, as Docker does; then NotFound, NotSupported,
        Conflict, and SystemFailure where the kernel refuses.
        """
        warnings = validate_update(given, self._host)
        container = self._index.find(ref)
        async with self._lives.of(container).lock:
            try:
                await self._change(container, given)
            except (Conflict, SystemFailure) as error:
                raise type(error)(f"Cannot update container {container.id}: {error}") from None
        self._announce(container, "update")
        return warnings

    async def _change(self, container: Container, given: HostConfig) -> None:
        if container.state.status in (Status.REMOVING, Status.DEAD):
            raise SystemFailure('container is marked for removal and cannot be "update"')
        updates.refuse_unchangeable(given)
        before, after = container.host, updates.merged(container.host, given)
        live = container.state.status.alive
        container.host, container.unsettled = after, live
        try:
            self._index.save(container)
            failpoint("update.recorded")
            if live:
                await asyncio.to_thread(self._apply, container, given, after)
                failpoint("update.applied")
        except BaseException:
            container.host = before
            raise
        finally:
            if container.unsettled:
                container.unsettled = False
                self._index.note(container)

    def _apply(self, container: Container, given: HostConfig, after: HostConfig) -> None:
        """Blocking: a limit below what is used waits for the kernel to reclaim."""
        layout, path = self._host.cgroups, Layout.of(self._host.roots, container).cgroup

        def current(controller: str, file: str) -> str:
            return cgroups.current(layout, path, controller, file)

        cgroups.write(layout, path, updates.writes(layout, given, after, current))

    async def recover(self) -> None:
        """Let the cgroups follow where a daemon died between the record and them."""
        for container in self._index:
            if not container.unsettled:
                continue
            if container.state.status.alive:
                try:
                    await asyncio.to_thread(self._apply, container, container.host, container.host)
                except WherryError as error:
                    log.warning("the limits of container %s are not all in force: %s", container.id, error)
            container.unsettled = False
            self._index.note(container)
