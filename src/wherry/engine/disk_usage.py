"""What the engine's objects take of the disk, as allocated there: what `du` on the data root says.

An image takes its unpacked layers and the blobs they came from. Layers never change, so each is walked once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from wherry.engine.images.service import Images
from wherry.engine.volumes import Volume, Volumes
from wherry.errors import NotFound
from wherry.model.container import Container
from wherry.model.filters import Filters
from wherry.model.image_filters import Listed


class Stored(Protocol):
    """What is asked of the store of snapshots. Blocking."""

    def occupied(self, key: str) -> int:
        """Bytes on disk of a snapshot's own files. Raises NotFound."""


@dataclass(frozen=True)
class ImageUsage:
    """`size` and `shared` are bytes on disk, `shared` those in layers that other images have too."""

    listed: Listed
    containers: int
    size: int
    shared: int


@dataclass(frozen=True)
class VolumeUsage:
    volume: Volume
    containers: int
    size: int


class DiskUsage:
    """Looks when it is asked; at most once at a time for each kind, since walking trees loads the disk."""

    def __init__(
        self, images: Images, volumes: Volumes, snapshots: Stored, containers: Callable[[], Iterable[Container]]
    ) -> None:
        self._images = images
        self._volumes = volumes
        self._snapshots = snapshots
        self._containers = containers
        self._looking = asyncio.Lock()

    async def images(self) -> tuple[int, list[ImageUsage]]:
        """Bytes of all layers, each counted once, and the images that a list shows."""
        listed = self._images.select(Filters({}))
        made = Counter(container.image for container in self._containers())
        async with self._looking:
            total = await asyncio.to_thread(self._images.occupied)
            pairs = [await asyncio.to_thread(self._images.occupied_by, item.image) for item in listed]
        return total, [
            ImageUsage(item, made[item.image.id], size, shared)
            for item, (size, shared) in zip(listed, pairs, strict=True)
        ]

    async def containers(self) -> list[tuple[Container, tuple[int, int]]]:
        """Newest first, each with the bytes of its own files and of those with its image's."""
        found = sorted(self._containers(), key=lambda container: container.created_at, reverse=True)
        async with self._looking:
            own = await asyncio.to_thread(self._own, [container.id for container in found])
        return [
            (container, (size, size + self._images.size(container.image)))
            for container, size in zip(found, own, strict=True)
            if size is not None
        ]

    def _own(self, ids: Sequence[str]) -> list[int | None]:
        return [self._of_snapshot(container_id) for container_id in ids]

    def _of_snapshot(self, container_id: str) -> int | None:
        try:
            return self._snapshots.occupied(container_id)
        except NotFound:  # removed meanwhile
            return None

    async def volumes(self) -> list[VolumeUsage]:
        """In order of their names; not those with options, whose files may be elsewhere, as Docker does it."""
        volumes = [volume for volume in self._volumes.select(Filters({})) if not volume.options]
        async with self._looking:
            sizes = await asyncio.to_thread(lambda: [self._volumes.size(volume) for volume in volumes])
        return [
            VolumeUsage(volume, self._volumes.users(volume.name), size)
            for volume, size in zip(volumes, sizes, strict=True)
        ]
