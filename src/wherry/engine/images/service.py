"""The images service: what the rest of the engine knows of this package."""

from __future__ import annotations

import platform as machine
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterable, Sequence
from typing import Any

from wherry.engine.images.admission import Admission
from wherry.engine.images.catalog import Catalog
from wherry.engine.images.committing import Committing
from wherry.engine.images.importing import Importing
from wherry.engine.images.keeping import Keeper
from wherry.engine.images.loading import Loading
from wherry.engine.images.removal import InUse, Removed
from wherry.engine.images.removing import Pruned, Removing
from wherry.engine.images.saving import Saving
from wherry.engine.images.variants import Variant, variants
from wherry.model import platforms
from wherry.model.commits import Commit
from wherry.model.events import Event
from wherry.model.filters import Filters
from wherry.model.image import Image
from wherry.model.manifests import Descriptor
from wherry.model.reference import Reference
from wherry.storage.blobs import Blobs
from wherry.storage.database import Database
from wherry.storage.image_records import ImageRecords
from wherry.storage.snapshots import Snapshots


class Images(Catalog):
    """The catalog, and all that changes it. `keeper` and `admission` are for those who make images elsewhere.

    `in_use` answers for an image ID which containers were made from it; `emit` records an event.
    """

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        snapshots: Snapshots,
        emit: Callable[[Event], None],
        in_use: Callable[[str], Sequence[InUse]],
    ) -> None:
        super().__init__(ImageRecords(database), blobs, snapshots, emit)
        self.host = platforms.from_machine(machine.machine())
        self.keeper = Keeper(self.records, blobs, snapshots)
        self.admission = Admission(self, self.keeper, blobs, snapshots)
        self._loading = Loading(self, self.admission, blobs, snapshots, self.host)
        self._importing = Importing(self.admission, self.host)
        self._committing = Committing(self.admission)
        self._saving = Saving(self, self.keeper, blobs, snapshots)
        self._in_use = in_use
        self._removing = Removing(self, self.keeper, emit, in_use)

    async def recover(self, snapshot_keys: Collection[str] | None = None) -> None:
        """See Keeper.recover."""
        await self.keeper.recover(snapshot_keys)

    async def release(self, image_id: str = "") -> None:
        """See Keeper.release."""
        await self.keeper.release(image_id)

    def load(self, stream: AsyncIterable[bytes], *, quiet: bool = True) -> AsyncIterator[dict[str, Any]]:
        """Take in an archive; yields Docker's progress messages. Raises InvalidParameter, SystemFailure.

        Images of the archive that were complete before an error stay.
        """
        return self._loading.load(stream, quiet=quiet)

    async def import_(
        self,
        stream: AsyncIterable[bytes],
        *,
        repository: str = "",
        tag: str = "",
        changes: Iterable[str] = (),
        message: str = "Imported from -",
        platform: str = "",
    ) -> Image:
        """Make an image of one layer from a root file system's tar. Raises InvalidParameter, SystemFailure."""
        return await self._importing.import_(
            stream, repository=repository, tag=tag, changes=changes, message=message, platform=platform
        )

    async def commit(self, base: Image, key: str, target: Reference | None, step: Commit) -> Image:
        """Make an image of `base` with one more layer, what the snapshot `key` has now; without one if it has nothing.

        Raises InvalidParameter, SystemFailure.
        """
        return await self._committing.commit(base, key, target, step)

    async def save(self, refs: Sequence[str]) -> AsyncIterator[bytes]:
        """An archive of the named images, as Docker writes it. Everything is found before the first byte is given.

        A repository without a tag means all of its tags. Raises NotFound, InvalidParameter.
        """
        return await self._saving.save(refs)

    async def save_dressed(self, image: Image, top: Descriptor, names: Sequence[Reference]) -> AsyncIterator[bytes]:
        """The same of one image with the manifest or index that was made for it, under names it need not have."""
        return await self._saving.save_dressed(image, top, names)

    async def remove(self, ref: str, *, force: bool = False, prune: bool = True) -> list[Removed]:
        """Docker's rules: a name is untagged, the last name or an ID deletes; parents without a name go too (`prune`).

        Raises NotFound, InvalidParameter, Conflict in Docker's words.
        """
        return await self._removing.remove(ref, force=force, prune=prune)

    def variants(self, image: Image) -> tuple[list[Variant], list[str]]:
        """Its manifests, those of other platforms too, and the IDs of the containers made from it. Blocking."""
        return variants(self, self._blobs, image), [user.id for user in self._in_use(image.id)]

    async def prune(self, filters: Filters) -> Pruned:
        """Remove unused images: dangling ones, or with `dangling=false` all that no container needs.

        Raises InvalidParameter, SystemFailure.
        """
        return await self._removing.prune(filters)
