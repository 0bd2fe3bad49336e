"""Which files of images are needed, and the removal of those that are not."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from functools import reduce
from operator import or_
from sqlite3 import Connection

from wherry.engine.images.leases import Lease, Needed
from wherry.model.failpoints import failpoint
from wherry.model.image import chain_ids
from wherry.storage.blobs import Blobs
from wherry.storage.image_records import ImageRecords
from wherry.storage.snapshots import Snapshots

log = logging.getLogger(__name__)


class Keeper:
    """Removes the files that nobody needs: no image, no container's snapshot, no `owner` and no lease.

    Work that uses files which may lose their record, or makes some that have none yet, takes a `lease` and shields
    them by name; whatever it does not name is collected meanwhile. Work that learns the names of its files only when
    they are there (a commit, an import, a build) does it inside `holding`: nothing is collected then, and the last to
    leave makes up for it. Who has records of its own that name files (a build cache) announces itself with `owner`,
    before `recover`:

        keeper.owner(lambda: Needed(chains=frozenset(cache.chains)))
        async with keeper.lease() as lease:
            await lease.shield(blobs=[digest])
            ...                                   # files, then the record that names them
    """

    def __init__(self, records: ImageRecords, blobs: Blobs, snapshots: Snapshots) -> None:
        self._records = records
        self._blobs = blobs
        self._snapshots = snapshots
        self._owners: list[Callable[[], Needed]] = []
        self._leavings: list[Callable[[], Awaitable[int]]] = []
        self.gate = asyncio.Lock()  # while files are collected nobody begins to use some
        self._holders = 0
        self._leases: set[Lease] = set()
        self._uncollected = False

    def owner(self, needs: Callable[[], Needed]) -> None:
        """From now on what `needs()` answers, on the loop and at once, is kept."""
        self._owners.append(needs)

    def leavings(self, forget: Callable[[], Awaitable[int]]) -> None:
        """From now on a prune calls `forget`, which gives up what is kept just in case; it says how many bytes."""
        self._leavings.append(forget)

    async def forget_leavings(self) -> int:
        """Bytes that are given up; those of blobs are free after `collect`."""
        return sum([await forget() for forget in self._leavings])

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease]:
        """What it shields is kept inside."""
        lease = Lease(self.gate)
        self._leases.add(lease)
        try:
            yield lease
        finally:
            self._leases.remove(lease)
            await self._make_up()

    @asynccontextmanager
    async def holding(self) -> AsyncIterator[None]:
        """Nothing is collected inside."""
        async with self.gate:
            self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            await self._make_up()

    async def _make_up(self) -> None:
        """Collect what was left because of somebody who has gone now."""
        if self._uncollected and not self._holders:
            async with self.gate:
                with self._records.transaction() as connection:
                    self.forget_blobs(connection)
                await self.collect()

    def leased(self) -> Needed:
        """What all leases shield."""
        return reduce(or_, (lease.needed for lease in self._leases), Needed())

    async def recover(self, snapshot_keys: Collection[str] | None = None) -> None:
        """At start, before anything else: forget images whose files are gone, sweep files that nobody names.

        `snapshot_keys` are the containers that exist; without it the containers' snapshots are left alone.
        """
        broken, incomplete = await asyncio.to_thread(self._broken)
        with self._records.transaction() as connection:
            for image_id in broken:
                log.warning("image %s has lost its files and is forgotten; load it again", image_id)
                self._records.drop(connection, image_id)
            for digest in incomplete:
                self._records.drop_manifest(connection, digest)
            self.forget_blobs(connection)
        chains, blobs = self._chains(), self._digests()
        await asyncio.to_thread(self._snapshots.sweep, keys=snapshot_keys, chains=chains, tars=blobs)
        await asyncio.to_thread(self._blobs.sweep, blobs)
        self._purge()

    def _broken(self) -> tuple[list[str], list[str]]:
        """Images without their files, and manifests that can no more be pushed as they are."""
        chains, blobs = self._snapshots.chains(), self._blobs.digests()
        images = [
            image.id
            for image in self._records.images.values()
            if image.id not in blobs or not chains.issuperset(chain_ids(image.diff_ids))
        ]
        manifests = [
            manifest.digest for manifest in self._records.manifests.values() if not blobs.issuperset(manifest.files())
        ]
        return images, manifests

    def belongings(self, image_id: str) -> Needed:
        """All that is here of an image that is known: what a lease shields of one that is read."""
        image = self._records.images[image_id]
        blobs = {image_id}
        for manifest in self._records.manifests_of(image_id):
            blobs.update(manifest.files())
        return Needed(frozenset(chain_ids(image.diff_ids)), frozenset(blobs), frozenset(image.diff_ids))

    async def release(self, image_id: str = "") -> None:
        """After a container of this image is removed: give back what only it still needed of a deleted image.

        Nothing is looked at while the image exists. Without an ID everything is.
        """
        if image_id in self._records.images:
            return
        async with self.gate:
            await self.collect()

    def forget_blobs(self, connection: Connection) -> None:
        """Inside a transaction: drop the records of layers' blobs that nobody needs any more."""
        others = self._others().diff_ids
        self._records.drop_blobs(connection, self._records.blobs.keys() - self._records.needed_diff_ids() - others)

    async def collect(self) -> list[str]:
        """Remove files that nobody needs, unless somebody is `holding`: the last of them does it then.

        Returns the chain IDs of the layers that are gone. The gate is held.
        """
        self._uncollected = bool(self._holders or self._leases)
        if self._holders:
            return []
        gone = await asyncio.to_thread(self._snapshots.collect, self._chains(), self._digests())
        failpoint("images.remove.layers-gone")
        await asyncio.to_thread(self._blobs.collect, self._digests())
        if gone:
            self._purge()
        return gone

    def _others(self) -> Needed:
        """What is needed by others than images."""
        return reduce(or_, (needs() for needs in self._owners), self.leased())

    def _chains(self) -> set[str]:
        return self._records.needed_chains() | self._others().chains

    def _digests(self) -> set[str]:
        others = self._others()
        records = self._records
        layers = {blob.digest for diff_id in others.diff_ids if (blob := records.blobs.get(diff_id)) is not None}
        return records.needed_blobs() | layers | others.blobs

    def _purge(self) -> None:
        """Deleting many files takes long and nobody waits for it: a thread that may die with the process."""
        threading.Thread(target=self._snapshots.purge, name="purge of layers", daemon=True).start()
