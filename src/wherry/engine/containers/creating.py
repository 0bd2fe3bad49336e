"""Creation: everything is checked and resolved; the record says CREATING; things are made; the record is shown."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wherry.engine.containers.announce import Announcer
from wherry.engine.containers.index import Index
from wherry.engine.containers.layout import Layout
from wherry.engine.containers.needs import ImageSource, NetworkPlane, SnapshotStore, VolumeStore
from wherry.engine.containers.readying import clear_bundle
from wherry.engine.containers.removing import Remover
from wherry.engine.containers.runtimes import Runtimes
from wherry.engine.containers.standby import Standby
from wherry.engine.volumes import Volume
from wherry.engine.working_dir import make_working_dir
from wherry.errors import InvalidParameter, NotFound, SystemFailure
from wherry.linux import mounts, safepath
from wherry.model import links, platforms, validate
from wherry.model.config import Config, HostConfig, NetworkingConfig
from wherry.model.container import Container, MountPoint, Sandbox, State
from wherry.model.container_defaults import ContainerDefaults
from wherry.model.failpoints import failpoint
from wherry.model.host import Host
from wherry.model.ids import new_id
from wherry.model.image import Image
from wherry.model.links import Link
from wherry.model.merge import command, merge
from wherry.model.mount_plans import OverlayPlan
from wherry.model.mounts import resolve
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
        networks: NetworkPlane,
        standby: Standby,
        remover: Remover,
        announce: Announcer,
        defaults: Callable[[], ContainerDefaults],
    ) -> None:
        self._host = host
        self._index = index
        self._images = images
        self._networks = networks
        self._snapshots = snapshots
        self._volumes = volumes
        self._runtimes = runtimes
        self._standby = standby
        self._remover = remover
        self._announce = announce
        self._defaults = defaults

    async def create(
        self, name: str, config: Config, host: HostConfig, networking: NetworkingConfig, platform: str
    ) -> Created:
        """Raises InvalidParameter, NotFound, Conflict and others; nothing is left behind then."""
        container, warnings = self._resolve(name, config, host, networking, platform)
        with self._index.promised(container):
            self._index.keep(container)
            failpoint("create.marked")
            try:
                await self._make(container, working_dir=bool(config.working_dir))
                container.state.status = after(container.state.status, Happening.MADE)
                self._index.show(container)
            except BaseException:
                self._index.given_up(container)
                await self._remover.undo_creation(container)
                raise
        failpoint("create.shown")
        self._standby.begin(container)
        self._announce(container, "create")
        return Created(container.id, warnings)

    def _resolve(
        self, name: str, config: Config, host: HostConfig, networking: NetworkingConfig, platform: str
    ) -> tuple[Container, list[str]]:
        """The record of a container that could be made, and warnings. Changes nothing."""
        defaults = self._defaults()
        host.log_config = defaults.log_config(host.log_config)
        warnings = validate.validate(
            config, host, networking, self._host, exists=os.path.exists, runtimes=self._runtimes.by_name
        )
        self._networks.validate(host, config, networking)
        image = self._images.resolve(config.image)
        _check_platform(platform, image, config.image)
        merged = merge(config, image.config)
        words = command(merged)
        name = self._index.choose_name(name)
        validate.adapt(host, self._host, self._runtimes.default, defaults.shm_size)
        self._name_others_by_id(host)
        linked = self._links(host)
        container_id = new_id()
        if not merged.hostname:
            merged.hostname = os.uname().nodename if host.network_mode == "host" else container_id[:12]
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
            links=linked,
            ids=None if host.userns_mode == "host" else self._host.id_map,
            mounts=resolve(merged.volumes or (), host, data_root=str(self._host.roots.data), mounts_of=self._mounts_of),
        )
        for mount in container.mounts:
            if mount.type == "volume" and not mount.name:
                mount.name = new_id()
            if mount.type == "image" and not mount.image:
                self._find_image(mount)
        return container, warnings

    def _name_others_by_id(self, host: HostConfig) -> None:
        """`container:NAME` becomes `container:ID`, since a name can change hands.

        Raises InvalidParameter for an unknown container: clients take a NotFound for the image and pull it.
        """
        for field in ("network_mode", "pid_mode", "ipc_mode"):
            kind, _, name = getattr(host, field).partition(":")
            if kind == "container":
                setattr(host, field, f"container:{self._other(name).id}")

    def _find_image(self, mount: MountPoint) -> None:
        """Raises InvalidParameter: clients take a NotFound for the container's image and pull that."""
        try:
            image = self._images.resolve(mount.source)
        except NotFound as error:
            raise InvalidParameter(f'invalid mount config for type "image": {error}') from None
        mount.image, mount.chain_id = image.id, image.chain_id

    def _links(self, host: HostConfig) -> dict[str, Link]:
        """The containers of `--link` by alias, the first of an alias; they leave the configuration for the record.

        Raises SystemFailure, InvalidParameter.
        """
        found: dict[str, Link] = {}
        for written in host.links or ():
            name, alias = links.parse(written)
            try:
                if not name:
                    raise InvalidParameter('invalid name or ID supplied: ""')
                other = self._index.find(name)
            except (NotFound, InvalidParameter) as error:
                raise InvalidParameter(f"could not get container for {name}: {error}") from None
            while validate.is_container(other.host.network_mode):
                other = self._other(other.host.network_mode.partition(":")[2])
            if other.host.network_mode == "host":
                raise InvalidParameter(validate.LINK_TO_HOST)
            found.setdefault(alias, Link(other.id, other.name))
        host.links = None
        return found

    def _other(self, name: str) -> Container:
        try:
            return self._index.find(name)
        except NotFound as error:
            raise InvalidParameter(str(error)) from None

    def _mounts_of(self, name: str) -> list[MountPoint]:
        return self._other(name).mounts

    def _sandbox(self, container_id: str, config: Config, host: HostConfig, networking: NetworkingConfig) -> Sandbox:
        """The network namespace to be; its address and ports are allocated at start."""
        if validate.is_container(host.network_mode):
            return Sandbox(id=container_id, mode=host.network_mode)
        if config.network_disabled:
            return Sandbox(id=container_id, mode="")
        return self._networks.new_sandbox(container_id, config, host, networking)

    async def _make(self, container: Container, *, working_dir: bool) -> None:
        """Volumes, then the writable snapshot, then what the image has at the volumes' places.

        `working_dir`: one was asked for, so it is made now; that of the image is looked at when the container starts.
        """
        labels_of = {
            mount.target: mount.volume_options for mount in container.host.mounts or () if mount.volume_options
        }
        volumes: dict[str, Volume] = {}
        for mount in container.mounts:
            if mount.type != "volume":
                continue
            options = labels_of.get(mount.destination)
            driver = options.driver_config if options is not None else None
            volume = await self._volumes.create(
                mount.name,
                driver=(driver.name if driver else "") or mount.driver or "local",
                options=driver.options if driver else None,
                labels=options.labels if options else None,
                anonymous=mount.anonymous,
            )
            mount.source = volume.mountpoint
            volumes[mount.destination] = volume
        failpoint("create.volumes-made")
        await asyncio.to_thread(self._make_files, container, volumes, working_dir)
        failpoint("create.files-made")

    def _make_files(self, container: Container, volumes: dict[str, Volume], working_dir: bool) -> None:
        for key, chain_id in container.snapshots.items():
            self._snapshots.prepare(key, chain_id, ids=container.ids)
        Layout(self._host.roots, container.id).durable.mkdir(parents=True, exist_ok=True, mode=0o700)
        no_copy = {mount.destination for mount in container.mounts if mount.no_copy or mount.subpath}
        seeded = {place: volume for place, volume in volumes.items() if place not in no_copy}
        if container.chain_id and (seeded or working_dir):
            self._look_inside(container, seeded, working_dir)

    def _look_inside(self, container: Container, volumes: dict[str, Volume], working_dir: bool) -> None:
        """Make the working directory; copy what the image has at each volume's place into it, if it is new and empty.

        Raises SystemFailure where the image has a file in their place.
        """
        plan = self._snapshots.mount_plan(container.id, volatile=False)
        if plan.ids is None or not volumes:
            self._look(container, plan, volumes, working_dir)
            return
        # Owners in volumes are those of the image, whatever this container's users are.
        self._look(container, self._snapshots.view_plan(container.chain_id), volumes, working_dir=False)
        if working_dir:
            self._look(container, plan, {}, working_dir)

    def _look(self, container: Container, plan: OverlayPlan, volumes: dict[str, Volume], working_dir: bool) -> None:
        layout = Layout(self._host.roots, container.id)
        layout.rootfs.mkdir(parents=True, mode=0o700)
        mounts.mount_overlay(plan, layout.rootfs)
        try:
            root = os.open(layout.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if working_dir:
                    make_working_dir(root, container.config.working_dir, container.ids)
                anonymous = {mount.destination for mount in container.mounts if mount.anonymous}
                for place, volume in volumes.items():
                    path = f"{layout.rootfs}/{place.lstrip('/')}"
                    problem = (
                        f"cannot mount volume over existing file, file exists {path}"
                        if place in anonymous
                        else f"source {path} is not directory"
                    )
                    self._seed_one(container.id, root, place, volume, problem)
            finally:
                os.close(root)
        finally:
            clear_bundle(layout)

    def _seed_one(self, container_id: str, root: int, place: str, volume: Volume, problem: str) -> None:
        try:
            source = safepath.open_in_root(root, place, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            raise SystemFailure(problem) from None
        try:
            self._volumes.hold(volume.name, container_id)
            self._volumes.seed(volume, Path(f"/proc/self/fd/{source}"))
        finally:
            self._volumes.release(container_id)
            os.close(source)


def _check_platform(asked: str, image: Image, reference: str) -> None:
    """Raises NotFound, in Docker's words, where `--platform` names another than the image's; then clients pull."""
    if not asked:
        return
    wanted = platforms.parse(asked, platforms.from_machine(os.uname().machine))
    if (wanted.os, wanted.architecture) != (image.os, image.architecture):
        written = "/".join(part for part in (wanted.os, wanted.architecture, wanted.variant) if part)
        raise NotFound(
            f"image with reference {reference} was found but does not match the specified platform: "
            f"wanted {written}, actual: {image.os}/{image.architecture}"
        )
