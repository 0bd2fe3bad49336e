"""Which files of images are needed, and the removal of those that are not."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from sqlite3 import Connection

from wherry.model.failpoints import failpoint
from wherry.model.image import chain_ids
from wherry.storage.blobs import Blobs
from wherry.storage.image_records import ImageRecords
from wherry.storage.snapshots import Snapshots

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Needed:
    """What others than images need: chains of layers, blobs by digest, and the blobs of layers by diff ID."""

    chains: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()
    diff_ids: frozenset[str] = frozenset()


class Keeper:
    """Removes the files that nobody needs: no image, no container's snapshot, and no `owner`.

    Work that makes files which no record names yet does it inside `holding`; as long as somebody does, nothing is
    collected, and the last to leave makes up for it. Who has records of its own that name files (a build cache)
    announces itself with `owner`, before `recover`:

        keeper.owner(lambda: Needed(chains=frozenset(cache.chains)))
        async with keeper.holding():
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
    async def holding(self) -> AsyncIterator[None]:
        """Nothing is collected inside."""
        async with self.gate:
            self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders and self._uncollected:
                async with self.gate:
                    await self.collect()

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
            manifest.digest
            for manifest in self._records.manifests.values()
            if not blobs.issuperset((manifest.digest, *manifest.layers, *manifest.indexes))
            or not blobs.issuperset(chain.from_iterable(manifest.attached.values()))
        ]
        return images, manifests

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
        others = {diff_id for needs in self._owners for diff_id in needs().diff_ids}
        self._records.drop_blobs(connection, self._records.blobs.keys() - self._records.needed_diff_ids() - others)

    async def collect(self) -> list[str]:
        """Remove files that nobody needs, unless somebody is `holding`: the last of them does it then.

        Returns the chain IDs of the layers that are gone. The gate is held.
        """
        if self._holders:
            self._uncollected = True
            return []
        self._uncollected = False
        gone = await asyncio.to_thread(self._snapshots.collect, self._chains(), self._digests())
        failpoint("images.remove.layers-gone")
        await asyncio.to_thread(self._blobs.sweep, self._digests())
        if gone:
            self._purge()
        return gone

    def _chains(self) -> set[str]:
        return self._records.needed_chains().union(*(needs().chains for needs in self._owners))

    def _digests(self) -> set[str]:
        needed = [needs() for needs in self._owners]
        layers = {
            blob.digest
            for each in needed
            for diff_id in each.diff_ids
            if (blob := self._records.blobs.get(diff_id)) is not None
        }
        return self._records.needed_blobs() | layers.union(*(each.blobs for each in needed))

    def _purge(self) -> None:
        """Deleting many files takes long and nobody waits for it: a thread that may die with the process."""
        threading.Thread(target=self._snapshots.purge, name="purge of layers", daemon=True).start()
