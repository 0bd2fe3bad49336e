"""Views of containers' files, one a container, shared by everybody who looks at the same time.

A running container's view shows the root filesystem that runs; one that does not run has it mounted for the view alone.
Should it start meanwhile, it is given that very mount: two overlays of the same directories would not agree. With the
last mount of an overlay the kernel writes all that its disk still owes, which may take seconds: a view is closed by a
thread, nobody waits for that but who wants the same directories next.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from wherry.engine.bundles import prepared
from wherry.engine.containers.index import Index
from wherry.engine.containers.layout import Layout
from wherry.engine.containers.live import Lives
from wherry.engine.containers.needs import SnapshotStore
from wherry.engine.etc_files import below
from wherry.errors import NotFound, SystemFailure
from wherry.linux.views import View, open_view
from wherry.model.container import Container
from wherry.model.host import Host
from wherry.model.mount_plans import BindPlan, ViewPlan
from wherry.storage.streams import in_thread


@dataclass
class _Shared:
    view: View
    users: int = 0


class Views:
    """Opens views and knows which are open. `settled` returns when nothing is left of a container's last run."""

    def __init__(self, host: Host, index: Index, lives: Lives, snapshots: SnapshotStore) -> None:
        self._host = host
        self._index = index
        self._lives = lives
        self._snapshots = snapshots
        self._scratch = host.roots.run / "view"  # where views are put together, each in its own namespace
        self._scratch.mkdir(mode=0o700, exist_ok=True)
        self._open: dict[str, _Shared] = {}
        self._closing: dict[str, asyncio.Future[None]] = {}
        self.settled: Callable[[Container], Awaitable[None]] = _at_once

    @contextlib.asynccontextmanager
    async def of(self, container: Container) -> AsyncIterator[View]:
        """The container's view for a while. Raises NotFound (removed meanwhile), SystemFailure."""
        async with self._lives.of(container).lock:  # nobody starts or ends it while the view is made
            await self._closed(container.id)
            if container.id not in self._open:
                if self._index.get(container.id) is None:
                    raise NotFound(f"No such container: {container.id}")
                if not container.state.status.alive:
                    await self.settled(container)
                self._open[container.id] = _Shared(await asyncio.to_thread(self._make, container))
        async with self.held(container.id) as view:
            assert view is not None
            yield view

    @contextlib.asynccontextmanager
    async def held(self, container_id: str) -> AsyncIterator[View | None]:
        """The view that is open, if one is; it stays open meanwhile. None: nothing of one is mounted any more."""
        await self._closed(container_id)
        shared = self._open.get(container_id)
        if shared is None:
            yield None
            return
        shared.users += 1
        try:
            yield shared.view
        finally:
            shared.users -= 1
            if not shared.users:
                del self._open[container_id]
                self._closing[container_id] = closing = in_thread(shared.view.close)
                closing.add_done_callback(lambda _: self._closing.pop(container_id))

    async def _closed(self, container_id: str) -> None:
        if container_id in self._closing:
            await asyncio.wait((self._closing[container_id],))

    def _make(self, container: Container) -> View:
        layout = Layout(self._host.roots, container.id)
        binds, read_only = tuple(self._binds(container)), container.host.readonly_rootfs
        if container.state.status.alive:
            plan = ViewPlan(mounted=str(layout.rootfs), binds=binds, read_only=read_only)
        else:
            overlay = self._snapshots.mount_plan(container.id, volatile=False)
            plan = ViewPlan(overlay, binds=binds, read_only=read_only)
        try:
            return open_view(plan, self._scratch)
        except OSError as error:
            raise SystemFailure(f"cannot mount the files of container {container.id}: {error}") from error

    def _binds(self, container: Container) -> list[BindPlan]:
        """Volumes, binds and the files of /etc; what lives in memory alone is not seen, as in Docker."""
        data = str(self._host.roots.data)
        binds = [
            BindPlan(
                prepared(point, data).source,
                point.destination,
                not point.read_write,
                point.non_recursive,
                container.ids if point.type == "volume" else None,
            )
            for point in container.mounts
            if point.type in ("bind", "volume")
        ]
        binds += self._images(container)
        taken = {point.destination for point in container.mounts}
        for path, source in self._etc_files(container):
            if path not in taken and Path(source).exists():
                binds.append(BindPlan(source, path, container.host.readonly_rootfs))
        return sorted(binds, key=lambda bind: bind.destination.count("/"))

    def _images(self, container: Container) -> list[BindPlan]:
        """Images are mounted while the container runs."""
        layout, alive = Layout(self._host.roots, container.id), container.state.status.alive
        return [
            BindPlan(str(layout.part(number) if point.subpath else layout.image(number)), point.destination, True, True)
            for number, point in enumerate(container.mounts)
            if point.type == "image" and alive
        ]

    def _etc_files(self, container: Container) -> list[tuple[str, str]]:
        kind, _, other = container.host.network_mode.partition(":")
        owner = other if kind == "container" else container.id
        files = below(Layout(self._host.roots, owner).durable)
        if container.config.network_disabled:
            return [("/etc/hostname", files.hostname)]
        return [("/etc/hosts", files.hosts), ("/etc/hostname", files.hostname), ("/etc/resolv.conf", files.resolv_conf)]


async def _at_once(container: Container) -> None:
    return
