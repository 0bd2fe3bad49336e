"""A process of a build: a container of this engine's, with the mounts that its operation asks for, and no monitor.

Its root filesystem is a snapshot, and what it writes there becomes a layer. The places of its mounts are in a layer of
their own (`Snapshots.prepare`), so that they are none of its changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from wherry.engine.builds import processes
from wherry.engine.builds.shop import Job, Shop, uninterrupted
from wherry.engine.builds.trees import Files, ProcessFailed, Tree
from wherry.engine.containers.layout import Layout
from wherry.engine.containers.readying import clear_bundle, make_bundle
from wherry.engine.containers.starting import own_users
from wherry.engine.images.admission import KeptLayer
from wherry.errors import InvalidParameter, NotFound, SystemFailure
from wherry.linux import cgroups, mounts, safepath
from wherry.model import build_graph as graph
from wherry.model import validate
from wherry.model.config import Config, HostConfig, NetworkingConfig, Ulimit
from wherry.model.container import Container, MountPoint
from wherry.model.failpoints import failpoint
from wherry.model.idmaps import IdMap
from wherry.model.ids import new_id
from wherry.model.mount_plans import OverlayPlan
from wherry.runtime import spec
from wherry.storage import copying

HOSTNAME = "build"
_LAST = 4096  # bytes
_FOREIGN = (
    ": exec format error: a program of another platform, for which this host's kernel has no emulator; install one"
    " (apt-get install qemu-user-static), or let the stage run here: FROM --platform=$BUILDPLATFORM"
)


class Step:
    """One process. No record names its container.

    step = Step(shop, job, operation)
    async with step.prepared():
        await step.run()
        ...                                  # take what it wrote from the snapshot `step.id`
    """

    def __init__(self, shop: Shop, job: Job, operation: graph.Exec) -> None:
        self.id = new_id()
        self._shop = shop
        self._job = job
        self._operation = operation
        self._layout = Layout(shop.host.roots, self.id)
        self._points: list[MountPoint] = []
        self._env: list[str] = []
        self._snapshots: list[str] = []  # keys of trees that mounts show
        self._container: Container | None = None
        self._netns: str | None = None
        self._ids = shop.host.id_map

    @contextlib.asynccontextmanager
    async def prepared(self) -> AsyncIterator[None]:
        """Root, mounts and network are there inside; leaving takes everything but nothing of the result away."""
        shop, layout = self._shop, self._layout
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(uninterrupted, self._clear)
            warm_up = asyncio.create_task(asyncio.to_thread(cgroups.warm_up, shop.host.cgroups))
            undo.push_async_callback(asyncio.wait, {warm_up})
            await self._prepare_mounts(undo)
            await uninterrupted(self._mount_root)
            container = self._container = self._describe()
            undo.push_async_callback(shop.networks.attachments.deactivate, container)
            user_ns, network = await own_users(self._ids, undo)
            activation = await shop.networks.attachments.activate(container, network)
            if activation.netns_fd is not None:
                undo.callback(os.close, activation.netns_fd)
                self._netns = f"/proc/{os.getpid()}/fd/{activation.netns_fd}"
            await asyncio.to_thread(shop.bundles.write, container, layout, self._netns, user_ns)
            failpoint("builds.exec.prepared")
            yield

    async def run(self) -> None:
        """Raises ProcessFailed, StartFailed."""
        assert self._container is not None
        runtime = self._shop.runtimes.of(self._container)
        last = bytearray()  # of what it says

        async def tell(stream: int, data: bytes) -> None:
            last[:] = (last + data)[-_LAST:]
            await self._job.tell(stream, data)

        code = await processes.run(runtime, self.id, self._layout.bundle, self._operation.args[0], tell)
        failpoint("builds.exec.ended")
        if code != 0:
            foreign = b"exec format error" in last.lower()
            raise ProcessFailed(self._operation.args, code, _FOREIGN if foreign else "")

    def keep(self) -> KeptLayer | None:
        """What the process, which has ended, wrote, as a layer. Blocking."""
        mounts.unmount(self._layout.rootfs)
        return self._shop.keep(self.id, self._job.settings, mapped=self._ids is not None)

    def _mount_root(self) -> None:
        places = [(point.destination, point.type == "tmpfs" or os.path.isdir(point.source)) for point in self._points]
        self._shop.snapshots.prepare(self.id, self._job.base.chain_id, places, ids=self._ids)
        mounts.mount_overlay(self._shop.snapshots.mount_plan(self.id, volatile=True), self._layout.rootfs)

    def _clear(self) -> None:
        """Blocking, idempotent. The snapshot goes last: its layer was made before."""
        clear_bundle(self._layout)
        shutil.rmtree(self._layout.durable, ignore_errors=True)
        for key in (*self._snapshots, self.id):
            self._shop.snapshots.remove(key)

    def _describe(self) -> Container:
        """The container that the process is, as a record that is never kept. Raises InvalidParameter and others."""
        operation, shop, settings = self._operation, self._shop, self._job.settings
        if not operation.args:
            raise InvalidParameter("a process needs a command")
        host = msgspec.convert(msgspec.to_builtins(settings.limits), HostConfig)
        host.network_mode = operation.network or settings.network or "default"
        host.extra_hosts = list(operation.extra_hosts) or None
        host.shm_size = operation.shm_size or host.shm_size
        asked = [Ulimit(limit.name, limit.hard, limit.soft) for limit in operation.ulimits]
        host.ulimits = [*(host.ulimits or ()), *asked] or None
        host.auto_remove = True
        config = Config(
            hostname=operation.hostname or HOSTNAME,
            user=operation.user,
            env=[*operation.env, *operation.proxy_env, *self._env],
            cmd=list(operation.args),
            working_dir=operation.cwd,
        )
        if host.network_mode == "host" and not operation.hostname:
            config.hostname = os.uname().nodename
        names = shop.runtimes.by_name
        networking = NetworkingConfig()
        validate.validate(config, host, networking, shop.host, exists=os.path.exists, runtimes=names)
        validate.adapt(host, shop.host, shop.runtimes.default, shop.defaults().shm_size)
        if late := spec.late_limits(shop.defaults().limits(host.ulimits)):
            raise InvalidParameter(f"ulimit {late[0].name.lower()}={late[0].soft}: a build's process needs 64 at least")
        return Container(
            id=self.id,
            name=f"build-{self.id[:12]}",
            created_at=time.time_ns(),
            image="",
            image_ref="",
            chain_id=self._job.base.chain_id,
            path=operation.args[0],
            args=list(operation.args[1:]),
            config=config,
            host=host,
            sandbox=shop.networks.new_sandbox(self.id, config, host, networking),
            mounts=self._points,
            ids=self._ids,
        )

    # mounts

    async def _prepare_mounts(self, undo: contextlib.AsyncExitStack) -> None:
        await uninterrupted(lambda: make_bundle(self._layout, self._ids))
        self._layout.parts.mkdir(mode=0o700, exist_ok=True)
        caches = [mount for mount in self._operation.mounts if isinstance(mount, graph.Cache)]
        alone = [self._cache_name(mount) for mount in caches if mount.sharing == "locked"]
        await undo.enter_async_context(self._shop.cache_mounts.locking(alone))
        for number, mount in enumerate(self._operation.mounts):
            match mount:
                case graph.Bind():
                    await uninterrupted(partial(self._bind, mount, number))
                case graph.Cache():
                    await self._cache(mount, number, undo)
                case graph.Tmpfs():
                    size = f"size={mount.size}" if mount.size else ""
                    self._points.append(
                        MountPoint(type="tmpfs", source="", destination=mount.target, tmpfs_options=size)
                    )
                case graph.Secret():
                    await self._secret(mount, number)
                case graph.Ssh():
                    await self._agent(mount, number, undo)

    def _bind(self, mount: graph.Bind, number: int) -> None:
        result = self._job.inputs[mount.input]
        assert result is not None
        part = self._layout.parts / str(number)
        part.mkdir(mode=0o700)
        shop = self._shop
        if isinstance(result, Tree) and mount.readonly:
            mounts.mount_overlay(replace(shop.snapshots.view_plan(result.chain_id), ids=self._ids), part)
        elif isinstance(result, Tree):
            mounts.mount_overlay(self._writable(f"{self.id}-{number}", result.chain_id, self._ids), part)
        else:
            self._bind_files(result, mount.source, part, f"{self.id}-{number}")
        self._points.append(self._point(part, mount.source, mount.target, number, read_write=not mount.readonly))

    def _writable(self, key: str, chain_id: str, ids: IdMap | None) -> OverlayPlan:
        """How to mount a snapshot of this step's, made now."""
        self._snapshots.append(key)
        self._shop.snapshots.prepare(key, chain_id, container=False, ids=ids)
        return self._shop.snapshots.mount_plan(key, volatile=True)

    def _bind_files(self, files: Files, source: str, part: Path, key: str) -> None:
        """Nobody can make files where owners are mapped: there they are made first, and shown as a layer."""
        plan = self._writable(key, "", None)
        mounts.mount_overlay(plan, part)
        self._fill(part, files, source)
        if self._ids is not None:
            assert plan.upper is not None
            mounts.unmount(part)
            mapped = self._writable(f"{key}-mapped", "", self._ids)
            mounts.mount_overlay(replace(mapped, lower=(plan.upper, *mapped.lower)), part)

    def _fill(self, part: Path, files: Files, source: str) -> None:
        """Only what the mount shows."""
        path = "/" + source.strip("/")
        root = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            action = graph.Copy(0, path, path, contents_only=True)
            with self._shop.source(files) as tree:
                copying.copy(root, action, tree, None)
        finally:
            os.close(root)

    def _point(self, part: Path, source: str, target: str, number: int, *, read_write: bool) -> MountPoint:
        """A path inside a mounted tree, symlinks followed inside it, as something to bind."""
        shown = str(part)
        if source.strip("/"):
            root = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                found = safepath.open_in_root(root, source, os.O_PATH)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR):
                    raise NotFound(f'"/{source.strip("/")}": not found') from None
                raise SystemFailure(f"{source}: {(error.strerror or '').lower()}") from None
            finally:
                os.close(root)
            try:
                place = self._layout.parts / f"{number}-path"
                mounts.bind_descriptor(found, place)
            finally:
                os.close(found)
            shown = str(place)
        return MountPoint(
            type="bind", source=shown, destination=target, read_write=read_write, mode="" if read_write else "ro"
        )

    def _owner(self, uid: int, gid: int) -> tuple[int, int]:
        """The host's user and group that these of the process are. Raises InvalidParameter."""
        return self._ids.to_host(uid, gid) if self._ids is not None else (uid, gid)

    def _cache_name(self, mount: graph.Cache) -> str:
        result = self._job.inputs[mount.input] if mount.input >= 0 else None
        return f"{mount.id} {result.chain_id} {mount.source}" if isinstance(result, Tree) else mount.id

    async def _cache(self, mount: graph.Cache, number: int, undo: contextlib.AsyncExitStack) -> None:
        result = self._job.inputs[mount.input] if mount.input >= 0 else None
        name = self._cache_name(mount)

        def fill(path: Path) -> None:
            if result is None:
                return
            root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with self._shop.source(result) as tree:
                    copying.copy(root, graph.Copy(0, mount.source or "/", "/", contents_only=True), tree, None)
            finally:
                os.close(root)

        path = await undo.enter_async_context(self._shop.cache_mounts.hold(mount, name, fill))
        if self._ids is not None:
            shown = self._layout.parts / str(number)
            await uninterrupted(partial(mounts.bind_shown, str(path), shown, self._ids))
            path = shown
        self._points.append(
            MountPoint(type="bind", source=str(path), destination=mount.target, read_write=not mount.readonly)
        )

    async def _secret(self, mount: graph.Secret, number: int) -> None:
        value = await self._job.client.secret(mount.id)
        if value is None:
            if mount.required:
                raise NotFound(f"secret {mount.id}: not found")
            return
        if mount.env:
            if b"\0" in value:
                raise InvalidParameter(f"secret {mount.id}: a variable cannot hold a zero byte")
            self._env.append(f"{mount.env}={value.decode(errors='surrogateescape')}")
        if not mount.target:
            return
        part = self._layout.parts / str(number)
        await uninterrupted(lambda: _in_memory(part, value, mount, self._owner(mount.uid, mount.gid)))
        self._points.append(
            MountPoint(type="bind", source=str(part / "secret"), destination=mount.target, read_write=False, mode="ro")
        )

    async def _agent(self, mount: graph.Ssh, number: int, undo: contextlib.AsyncExitStack) -> None:
        if not any(entry.startswith("SSH_AUTH_SOCK=") for entry in (*self._operation.env, *self._env)):
            self._env.append(f"SSH_AUTH_SOCK={mount.target}")  # also where there is no agent, as under BuildKit
        connect = await self._job.client.agent(mount.id)
        if connect is None:
            if mount.required:
                raise NotFound(f"unset ssh forward key {mount.id}")
            return
        path = self._layout.parts / f"{number}.sock"

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                await connect(reader, writer)

        folder = os.open(self._layout.parts, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        undo.callback(os.close, folder)
        # the path itself may be longer than an address can be (unix(7))
        server = await asyncio.start_unix_server(serve, f"/proc/self/fd/{folder}/{path.name}")
        undo.callback(server.close)
        os.chown(path, *self._owner(mount.uid, mount.gid))
        os.chmod(path, mount.mode)
        self._points.append(MountPoint(type="bind", source=str(path), destination=mount.target))


def _in_memory(part: Path, value: bytes, mount: graph.Secret, owner: tuple[int, int]) -> None:
    """A secret as a file that no disk holds."""
    part.mkdir(mode=0o700)
    mounts.mount_tmpfs(part, f"mode=0700,size={max(len(value), 1) + 4096}")
    fd = os.open(part / "secret", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(value)
        os.fchown(fd, *owner)
        os.fchmod(fd, mount.mode)
