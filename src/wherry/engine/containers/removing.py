"""Removal: promised in the record, answered, then carried out; if not by this daemon, by the next."""

from __future__ import annotations

import asyncio
import logging

from wherry.engine.containers.announce import Announcer
from wherry.engine.containers.index import Index
from wherry.engine.containers.layout import Layout
from wherry.engine.containers.live import Lives, WaitResult
from wherry.engine.containers.needs import ImageSource, SnapshotStore, VolumeStore
from wherry.engine.containers.readying import clear_bundle
from wherry.engine.containers.standby import Standby
from wherry.engine.containers.supervisor import Supervisor
from wherry.errors import Conflict, NotFound, SystemFailure
from wherry.model.container import Container
from wherry.model.failpoints import failpoint
from wherry.model.host import Host
from wherry.model.states import Happening, Status, after
from wherry.storage.trees import remove_tree

log = logging.getLogger(__name__)

DRIVER = "overlay2"  # as Docker calls what the snapshots are like


class Remover:
    """Removes containers that do not run. The caller holds the container's lock."""

    def __init__(
        self,
        host: Host,
        index: Index,
        lives: Lives,
        supervisor: Supervisor,
        standby: Standby,
        images: ImageSource,
        snapshots: SnapshotStore,
        volumes: VolumeStore,
        announce: Announcer,
    ) -> None:
        self._host = host
        self._index = index
        self._lives = lives
        self._supervisor = supervisor
        self._standby = standby
        self._images = images
        self._snapshots = snapshots
        self._volumes = volumes
        self._announce = announce

    async def remove(self, container: Container, *, volumes: bool) -> None:
        """From here on the container is gone for everybody; what it occupies is freed in the background.

        One whose files could not be deleted then comes back as dead. Of a dead one the files go first: raises
        SystemFailure if they still cannot, and it stays dead.
        """
        state = container.state
        dead = state.status is Status.DEAD
        state.status = after(state.status, Happening.REMOVE)
        container.remove_volumes = volumes
        if dead:
            self._index.save(container)
            await self._delete_or_bury(container)
        self._index.hide(container)
        failpoint("remove.marked")
        self._announce(container, "destroy")
        await self._remove_volumes(container)  # now, since clients look: what they hold is no mount any more
        live = self._lives.of(container)
        live.hub.end()
        live.resolve(WaitResult(state.exit_code), "removed", "next-exit", "not-running")
        self._supervisor.spawn(self.finish(container), f"removal of container {container.id}")

    async def remove_ended(self, container: Container) -> None:
        """What `--rm` asks for at the end of the run."""
        await self.remove(container, volumes=True)

    async def finish(self, container: Container) -> None:
        """Free everything a container in REMOVING occupies; can be repeated from any point."""
        await self._supervisor.settled(container)
        await self._standby.dismiss(container.id)
        try:
            await self._delete_or_bury(container)
        except SystemFailure as error:
            log.error("%s: it stays, dead", error)
            return
        await self._free(container)

    async def _free(self, container: Container) -> None:
        failpoint("remove.files-deleted")
        await self._release_image(container)
        await self._remove_volumes(container)
        failpoint("remove.volumes-deleted")
        self._index.forget(container)
        self._lives.drop(container)

    async def undo_creation(self, container: Container) -> None:
        """Of a container in CREATING, leave nothing."""
        container.remove_volumes = True
        await self._supervisor.settled(container)
        await asyncio.to_thread(self._delete_files, container)
        await self._free(container)

    async def _delete_or_bury(self, container: Container) -> None:
        """Delete its files; if that fails it is dead, and found by everybody. Raises SystemFailure."""
        try:
            await asyncio.to_thread(self._delete_files, container)
        except SystemFailure as error:
            container.state.status = after(container.state.status, Happening.REMOVE_FAILED)
            container.state.error = str(error)
            if not self._index.is_free(container.name, container):  # taken since
                container.name = container.id[:12]
            self._index.show(container)
            failpoint("remove.buried")
            raise

    def _delete_files(self, container: Container) -> None:
        """Raises SystemFailure in Docker's words."""
        layout = Layout(self._host.roots, container.id)
        try:
            clear_bundle(layout)
            self._volumes.release(container.id)
            for key in container.snapshots:
                self._snapshots.remove(key)
        except OSError as error:
            raise _undeleted(container, f'driver "{DRIVER}" failed to remove root filesystem', error) from None
        try:
            remove_tree(layout.durable)
        except OSError as error:
            raise _undeleted(container, f"unable to remove filesystem for {container.id}", error) from None

    async def _release_image(self, container: Container) -> None:
        for image in container.images:
            await self._images.release(image)

    async def _remove_volumes(self, container: Container) -> None:
        for mount in container.mounts if container.remove_volumes else ():
            if mount.anonymous and mount.name:
                try:
                    await self._volumes.remove(mount.name)
                except NotFound:
                    continue
                except Conflict as error:  # another container uses it by now
                    log.info("anonymous volume %s stays: %s", mount.name, error)


def _undeleted(container: Container, what: str, error: OSError) -> SystemFailure:
    reason = (error.strerror or str(error)).lower()
    return SystemFailure(f"container {container.id}: {what}: unlinkat {error.filename}: {reason}")
