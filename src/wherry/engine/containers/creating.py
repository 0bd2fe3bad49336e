"""Creation: everything is checked and resolved first; then the record says CREATING, things are made, the record is shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wherry.engine.containers.announce import Announcer
from wherry.engine.containers.index import Index
from wherry.engine.containers.layout import Layout
from wherry.engine.containers.needs import ImageSource, SnapshotStore, VolumeStore
from wherry.engine.containers.removing import Remover
from wherry.engine.containers.runtimes import Runtimes
from wherry.errors import InvalidParameter
from wherry.linux import cgroups, mounts
from wherry.model.config import Config, EndpointConfig, HostConfig, NetworkingConfig
from wherry.model.container import Container, Endpoint, MountPoint, Sandbox, State
from wherry.model.failpoints import failpoint
from wherry.model.host import Host
from wherry.model.ids import new_id
from wherry.model.merge import command, merge
from wherry.model.states import Happening, Status, after


@dataclass(frozen=True)
class Created:
    """A new container's ID, and what the user should know of its configuration."""

    id: str
    warnings: list[str]


class Creator:
    """Makes containers."""

    def __init__(
        self,
        host: Host,
        index: Index,
        images: ImageSource,
        snapshots: SnapshotStore,
        volumes: VolumeStore,
        runtimes: Runtimes,
        remover: Remover,
        announce: Announcer,
    ) -> None:
        self._host = host
        self._index = index
        self._images = images
        self._snapshots = snapshots
        self._volumes = volumes
        self._runtimes = runtimes
        self._remover = remover
        self._announce = announce

    async def create(
        self, name: str, config: Config, host: HostConfig, networking: NetworkingConfig, platform: str
    ) -> Created:
        """Raises InvalidParameter, NotFound, Conflict and others; nothing is left behind then."""
        container, warnings = self._resolve(name, config, host, networking, platform)
        self._index.check_free(container.name)
        self._index.keep(container)
        failpoint("create.marked")
        try:
            await self._make(container)
        except BaseException:
            await self._remover.undo_creation(container)
            raise
        container.state.status = after(container.state.status, Happening.MADE)
        self._index.show(container)
        failpoint("create.shown")
        self._announce(container, "create")
        return Created(container.id, warnings)

    def _resolve(
        self, name: str, config: Config, host: HostConfig, networking: NetworkingConfig, platform: str
    ) -> tuple[Container, list[str]]:
        """The record of a container that could be made, and warnings. Changes nothing."""
        name = self._index.choose_name(name)
        image = self._images.resolve(config.image)
        warnings = validate(config, host, networking, self._host, runtimes=self._runtimes.by_name)
        merged = merge(config, image.config)
        container_id = new_id()
        fill_defaults(container_id, merged, host, self._host, default_runtime=self._runtimes.default)
        words = command(merged)
        container = Container(
            id=container_id,
            name=name,
            created_at=time.time_ns(),
            image=image.id,
            image_ref=config.image,
            chain_id=image.chain_id,
            platform=image.os,
            path=words[0],
            args=words[1:],
            config=merged,
            host=host,
            state=State(status=Status.CREATING),
            sandbox=self._sandbox(container_id, merged, host, networking),
            mounts=resolve_mounts(merged.volumes or (), host, data_root=str(self._host.roots.data)),
        )
        for mount in container.mounts:
            if mount.type == "volume" and not mount.name:
                mount.name = new_id()
        return container, warnings
