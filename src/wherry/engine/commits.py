"""`commit`: an image made of what a container has written."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Protocol

from wherry.engine.containers.announce import Announcer
from wherry.errors import Conflict
from wherry.model.commits import Commit, committed_config
from wherry.model.config import Config
from wherry.model.container import Container
from wherry.model.image import Image
from wherry.model.reference import Reference, parse_target
from wherry.model.states import Status
from wherry.model.timestamps import rfc3339_nano


class ContainerSource(Protocol):
    def get(self, ref: str) -> Container: ...
    async def pause(self, ref: str) -> None: ...
    async def unpause(self, ref: str) -> None: ...


class ImageStore(Protocol):
    def resolve(self, ref: str) -> Image: ...
    async def commit(self, base: Image, key: str, target: Reference | None, step: Commit) -> Image: ...


class Commits:
    """Makes images of containers."""

    def __init__(self, containers: ContainerSource, images: ImageStore, announce: Announcer) -> None:
        self._containers = containers
        self._images = images
        self._announce = announce

    async def commit(
        self,
        ref: str,
        *,
        repository: str = "",
        tag: str = "",
        comment: str = "",
        author: str = "",
        changes: Sequence[str] = (),
        pause: bool = True,
        config: Config | None = None,
    ) -> Image:
        """The new image: the container's with its changes as one more layer. `pause` stops it while they are read.

        `config` replaces the container's configuration before `changes` (Dockerfile instructions) are applied.
        Raises NotFound, InvalidParameter, Conflict, SystemFailure.
        """
        target = parse_target(repository, tag) if repository else None
        container = self._containers.get(ref)
        if container.state.status in (Status.DEAD, Status.REMOVING):
            raise Conflict(f"You cannot commit container {container.id} which is {container.state.status.name.title()}")
        step = Commit(
            container_id=container.id,
            container_config=container.config,
            config=committed_config(config, container.config, changes),
            author=author,
            comment=comment,
            created=rfc3339_nano(time.time_ns()),
        )
        base = self._images.resolve(container.image)
        async with contextlib.AsyncExitStack() as stack:
            if pause and container.state.status is Status.RUNNING:
                with contextlib.suppress(Conflict):  # it has just ended, or somebody else pauses it
                    await self._containers.pause(container.id)
                    stack.push_async_callback(self._thaw, container)
            image = await self._images.commit(base, container.id, target, step)
        self._announce(
            container,
            "commit",
            comment=comment,
            imageID=image.id,
            imageRef=target.familiar if target is not None else "",
        )
        return image

    async def _thaw(self, container: Container) -> None:
        if container.state.status is Status.PAUSED:
            await self._containers.unpause(container.id)
