"""One start, from record to running process; whatever step fails, the steps before it are undone.

The order matters for crashes: the record says STARTING before anything is made, and names of everything made follow
from the container's ID, so that the next daemon can undo or adopt (see `recovery`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from wherry.engine.bundles import encode
from wherry.engine.containers.cgroup_entry import CgroupEntry
from wherry.engine.containers.layout import Layout
from wherry.engine.containers.needs import Attachments, SnapshotStore, VolumeStore
from wherry.engine.containers.readying import Ready, monitor_identity
from wherry.engine.containers.runtimes import Runtimes
from wherry.engine.containers.standby import Standby
from wherry.errors import InvalidParameter, NotFound, StartFailed, SystemFailure
from wherry.linux import cgroups, mounts, processes, safepath, user_namespaces
from wherry.linux.views import View
from wherry.model.config import Ulimit
from wherry.model.container import Container, MountPoint
from wherry.model.failpoints import failpoint
from wherry.model.host import Host
from wherry.model.idmaps import IdMap
from wherry.model.log_attributes import attributes
from wherry.model.logging_options import limits
from wherry.runtime.attach import Hub
from wherry.runtime.conmon import Launch, Monitor, RuntimeRefused
from wherry.runtime.feeding import SpecFeed
from wherry.runtime.oci import Runtime, start_failure
from wherry.runtime.spec import Json, late_limits

MakeSpec = Callable[[Container, Layout, str | None, Mapping[str, str], str], Json]
"""The OCI spec, and the generated /etc files made, given the path of the network namespace to join, the sources of
mounts that are not where the record says, by destination, and the path of the user namespace to join (blocking)."""

HeldView = Callable[[str], contextlib.AbstractAsyncContextManager[View | None]]
"""The view of a container's files that somebody has open, which its root filesystem is then mounted for already."""


class Starter:
    """Starts containers. Holds no state of its own."""

    def __init__(
        self,
        host: Host,
        runtimes: Runtimes,
        standby: Standby,
        snapshots: SnapshotStore,
        attachments: Attachments,
        volumes: VolumeStore,
        save: Callable[[Container], None],
        make_spec: MakeSpec,
        shared_users: Callable[[Container], str],
        held_view: HeldView,
        ulimits: Callable[[Container], list[Ulimit]],
    ) -> None:
        self._host = host
        self._runtimes = runtimes
        self._standby = standby
        self._snapshots = snapshots
        self._attachments = attachments
        self._volumes = volumes
        self._save = save
        self._make_spec = make_spec
        self._shared_users = shared_users
        self._held_view = held_view
        self._ulimits = ulimits

    async def start(self, container: Container, hub: Hub) -> None:
        """Bring the process of a STARTING container up and fill in its state's identities and start time.

        Raises StartFailed with the exit code to record, or another WherryError; nothing is left behind then.
        """
        self._runtimes.check(container)
        runtime = self._runtimes.of(container)
        _check_log(container, Layout.of(self._host.roots, container))
        _check_mounts(container)
        ready = await self._standby.take(container)
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(ready.clear)
            undo.push_async_callback(asyncio.to_thread, self._volumes.release, container.id)
            undo.push_async_callback(ready.abort)
            async with ready.held as until_joined:
                if not runtime.hierarchies:  # it joins its cgroup some ms from now: be the kernel's lock warm by then
                    warm_up = asyncio.create_task(asyncio.to_thread(cgroups.warm_up, self._host.cgroups))
                    until_joined.push_async_callback(asyncio.wait, {warm_up})
                await self._create(container, ready, undo, until_joined)
                await self._release(container, ready.launch, runtime, hub)
            undo.pop_all()

    async def _create(
        self,
        container: Container,
        ready: Ready,
        undo: contextlib.AsyncExitStack,
        until_joined: contextlib.AsyncExitStack,
    ) -> None:
        """Bring the container's first process into being, where it waits."""
        layout, entry = Layout.of(self._host.roots, container), ready.entry
        needs_network = not container.sandbox.mode.startswith("container:")
        user, network = await own_users(
            container.ids, until_joined, shared=self._shared_users(container), network=needs_network
        )
        network = network if container.ids else ready.network
        netns = await self._surroundings(container, layout, network, undo, until_joined)
        self._save(container)  # addresses and ports, before a process can use them
        await asyncio.to_thread(self._feed, container, layout, netns, user, entry, ready.feed)
        failpoint("start.spec-written")
        if not ready.feed.early:
            ready.monitor.go()
        entry.check(await self._created(container, ready.monitor))
        if entry.limits:
            await asyncio.to_thread(entry.limit)

    def _feed(
        self,
        container: Container,
        layout: Layout,
        netns: str | None,
        user_ns: str,
        entry: CgroupEntry,
        feed: SpecFeed,
    ) -> None:
        """Everything that the runtime is to find, and what it is to do."""
        sources = self._take_volumes(container, layout)
        spec = self._make_spec(container, layout, netns, sources, user_ns)
        entry.rule(spec["linux"]["resources"])
        feed.put(encode(spec))

    async def _surroundings(
        self,
        container: Container,
        layout: Layout,
        network: int,
        undo: contextlib.AsyncExitStack,
        until_joined: contextlib.AsyncExitStack,
    ) -> str | None:
        """Root filesystem and network, side by side."""

        async def mounted() -> None:
            async with self._held_view(container.id) as view:
                await asyncio.to_thread(self._mount_root, container, layout, view)

        connected = asyncio.create_task(self._connect(container, network, undo, until_joined))
        await _all(mounted(), connected)
        return connected.result()

    def _mount_root(self, container: Container, layout: Layout, view: View | None) -> None:
        if view is not None:
            view.attach(layout.rootfs)
        else:
            plan = self._snapshots.mount_plan(container.id, volatile=container.host.auto_remove)
            mounts.mount_overlay(plan, layout.rootfs)
        failpoint("start.root-mounted")
        if container.host.ipc_mode == "shareable":
            layout.shm.mkdir(mode=0o700)
            uid, gid = container.ids.root if container.ids else (0, 0)
            mounts.mount_tmpfs(layout.shm, f"mode=1777,size={container.host.shm_size},uid={uid},gid={gid}")

    def _take_volumes(self, container: Container, layout: Layout) -> dict[str, str]:
        """Mount the volumes' devices and images; where a part is wanted, bind it to a place of this run's own.

        It is bound by its descriptor, opened beneath the volume: whatever a container that has the volume does to its
        links meanwhile, what was found is what is mounted.
        """
        sources: dict[str, str] = {}
        for number, mount in enumerate(container.mounts):
            if mount.type == "volume":
                self._volumes.hold(mount.name, container.id)
                source = mount.source
                if mount.subpath:
                    source = str(_bind_part(mount.source, mount.subpath, layout.part(number)))
                if container.ids is not None:
                    source = _show(mount.name, source, layout.mapped(number), container.ids)
                if source != mount.source:
                    sources[mount.destination] = source
            elif mount.type == "image":
                place = self._mount_image(mount, layout.image(number), layout.part(number), container.ids)
                sources[mount.destination] = str(place)
        return sources

    def _mount_image(self, mount: MountPoint, whole: Path, part: Path, ids: IdMap | None) -> Path:
        """An image, read-only, and what of it is wanted; returns where that is."""
        whole.mkdir(mode=0o700, parents=True)
        mounts.mount_overlay(replace(self._snapshots.view_plan(mount.chain_id), ids=ids), whole)
        failpoint("start.image-mounted")
        return _bind_part(str(whole), mount.subpath, part) if mount.subpath else whole

    async def _connect(
        self,
        container: Container,
        network: int,
        undo: contextlib.AsyncExitStack,
        until_joined: contextlib.AsyncExitStack,
    ) -> str | None:
        """Path of the network namespace for the runtime to join; None leaves the host's."""
        if container.sandbox.mode.startswith("container:"):
            return container.sandbox.netns
        undo.push_async_callback(self._attachments.deactivate, container)
        activation = await self._attachments.activate(container, network)
        failpoint("start.connected")
        if activation.netns_fd is None:
            return None
        until_joined.callback(os.close, activation.netns_fd)
        return f"/proc/{os.getpid()}/fd/{activation.netns_fd}"

    async def _created(self, container: Container, monitor: Monitor) -> int:
        """The PID of the first process that the runtime has made for the monitor, and which waits."""
        try:
            pid = await monitor.created()
        except RuntimeRefused as refused:
            raise start_failure(
                str(refused), container.path, verb="create", runtime=self._runtimes.of(container).name
            ) from None
        failpoint("start.created")
        state = container.state
        state.process = processes.identify(pid, self._host.boot_id)
        state.monitor = monitor_identity(monitor.launch.monitor_pid_file, self._host.boot_id)
        if state.process is None or state.monitor is None:
            raise SystemFailure(f"container {container.id} ended before it could be started: {monitor.errors()}")
        if container.sandbox.mode != "host":
            container.sandbox.netns = f"/proc/{pid}/ns/net"
        return pid

    async def _release(self, container: Container, launch: Launch, runtime: Runtime, hub: Hub) -> None:
        """Connect who is attached, then let the process run."""
        state = container.state
        assert state.process is not None
        if late := late_limits(self._ulimits(container)):
            await asyncio.to_thread(_set_late_limits, late, state.process.pid)
        if hub.wanted:
            hub.connect(launch.attach_socket)
        state.started_at = time.time_ns()
        self._save(container)
        await runtime.start(container.id)
        failpoint("start.released")


def _show(volume: str, source: str, place: Path, ids: IdMap) -> str:
    """A volume with its files' owners as the container's users. Raises SystemFailure."""
    place.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        mounts.bind_shown(source, place, ids)
    except OSError as error:
        raise SystemFailure(
            f"the file system of volume {volume} cannot show files to a container with users of its own "
            f"(--userns host shares the host's): {(error.strerror or str(error)).lower()}"
        ) from None
    return str(place)


def _bind_part(source: str, subpath: str, place: Path) -> Path:
    """Raises NotFound, InvalidParameter (a part that leads out)."""
    place.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = safepath.open_subpath(source, subpath)
    try:
        mounts.bind_descriptor(descriptor, place)
    except OSError as error:  # deleted since
        raise NotFound(f"cannot access path {source}/{subpath}: {(error.strerror or '').lower()}") from None
    finally:
        os.close(descriptor)
    failpoint("start.part-mounted")
    return place


def _set_late_limits(limits: Sequence[Ulimit], pid: int) -> None:
    for limit in limits:
        try:
            processes.limit_open_files(pid, limit.soft, limit.hard)
        except PermissionError:
            raise SystemFailure(
                f"the limit of open files nofile={limit.soft}:{limit.hard} cannot be set on another user's process: "
                "the engine lacks CAP_SYS_RESOURCE; give it that capability or the container a soft limit of 64 or more"
            ) from None


def _check_log(container: Container, layout: Layout) -> None:
    try:
        limits(container.host.log_config)
        attributes(container, log_path=str(layout.log), hostname=os.uname().nodename)
    except InvalidParameter as error:
        raise SystemFailure(
            f"failed to create task for container: failed to initialize logging driver: {error}"
        ) from None


def _check_mounts(container: Container) -> None:
    """`Config.Volumes` may name the root, as "" or ".": Docker makes such a container and fails at its start (400)."""
    if any(point.destination == "/" for point in container.mounts):
        raise StartFailed("failed to create task for container: invalid volume: destination can't be '/'", 127)


async def _all(*steps: Awaitable[object]) -> None:
    """Await all to their end, then raise the first failure: an undo must not overtake a step."""
    outcomes = await asyncio.gather(*steps, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def own_users(
    ids: IdMap | None, until_joined: contextlib.AsyncExitStack, *, shared: str = "", network: bool = True
) -> tuple[str, int]:
    """Path of a user namespace to join, and a network namespace that is that one's; "" and -1 for none.

    `shared` is the path of one that there is; without it one is made. Raises Unavailable.
    """
    if ids is None:
        return "", -1
    if not shared:
        user, made = await asyncio.to_thread(user_namespaces.make, ids, network=network)
        until_joined.callback(os.close, user)
        shared = f"/proc/{os.getpid()}/fd/{user}"
    else:
        made = await asyncio.to_thread(user_namespaces.network_of, shared) if network else -1
    if made >= 0:
        until_joined.callback(os.close, made)
    return shared, made
