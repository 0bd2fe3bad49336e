"""What containers need of the other services, as they need it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from wherry.engine.volumes import Volume
from wherry.model.config import Config, HostConfig, NetworkingConfig
from wherry.model.container import Container, Endpoint, Sandbox
from wherry.model.events import Event
from wherry.model.filechanges import Change
from wherry.model.idmaps import IdMap
from wherry.model.image import Image
from wherry.model.mount_plans import OverlayPlan
from wherry.model.networks import Network


class ImageSource(Protocol):
    def resolve(self, ref: str) -> Image:
        """Raises NotFound."""

    def size(self, image_id: str) -> int:
        """Bytes of all its layers; 0 if it is gone."""

    async def release(self, image_id: str) -> None:
        """Give back what only a removed container still needed of this image, if that is deleted."""


class SnapshotStore(Protocol):
    """Blocking: called in threads."""

    def prepare(self, key: str, chain_id: str, *, ids: IdMap | None = None) -> None: ...
    def mount_plan(self, key: str, *, volatile: bool) -> OverlayPlan: ...
    def view_plan(self, chain_id: str) -> OverlayPlan: ...
    def usage(self, key: str) -> int: ...
    def changes(self, key: str) -> list[Change]: ...
    def occupied(self, key: str) -> int: ...
    def remove(self, key: str) -> None: ...
    def keys(self) -> set[str]: ...


class VolumeStore(Protocol):
    async def create(
        self,
        name: str | None,
        *,
        driver: str = "local",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        anonymous: bool = False,
    ) -> Volume: ...
    async def remove(self, name: str, *, force: bool = False) -> None: ...
    def seed(self, volume: Volume, source: Path) -> None:
        """Blocking."""

    def hold(self, name: str, container_id: str) -> None:
        """Mount a volume's device until the container releases it (blocking)."""

    def holds(self, container_id: str) -> bool:
        """Whether the container has the device of a volume mounted."""

    def release(self, container_id: str) -> None:
        """Unmount what only this container held (blocking, idempotent)."""

    def adopt(self, holders: Mapping[str, Collection[str]]) -> None:
        """At start: the containers that run, by volume (blocking)."""


class Activation(Protocol):
    @property
    def netns_fd(self) -> int | None: ...


class Attachments(Protocol):
    """Containers' places in networks."""

    async def activate(self, container: Container, namespace: int = -1) -> Activation: ...
    async def deactivate(self, container: Container) -> None: ...
    async def connect(
        self, container: Container, endpoint: Endpoint, namespace: int, save: Callable[[], None], /
    ) -> None: ...
    async def disconnect(
        self, container: Container, name: str, namespace: int, save: Callable[[], None], /
    ) -> None: ...


class NetworkPlane(Protocol):
    @property
    def attachments(self) -> Attachments: ...

    def validate(self, host: HostConfig, config: Config, networking: NetworkingConfig, /) -> None:
        """Raises InvalidParameter or NotSupported for ports, networks and addresses that cannot be."""

    def new_sandbox(self, id: str, config: Config, host: HostConfig, networking: NetworkingConfig, /) -> Sandbox: ...

    def host_gateway(self) -> str:
        """The address of the host as containers of the default bridge see it."""

    def inspect(self, ref: str) -> Network:
        """Raises NotFound."""

    async def recover(self, alive: Iterable[Sandbox]) -> None: ...


class HealthWatch(Protocol):
    """Who looks after the health of containers that have a check; the others it leaves alone.

    The first three change `state.health` at most; the caller saves the record.
    """

    def begin(self, container: Container) -> None:
        """It has been started."""

    def suspend(self, container: Container) -> None:
        """It is paused or has ended."""

    def resume(self, container: Container) -> None:
        """It runs on: it is paused no more."""


class EventSink(Protocol):
    def emit(self, event: Event) -> None: ...


Json = dict[str, Any]
