"""What pulls that did not end have left: whole blobs and beginnings of blobs, kept for a while for the next attempt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

from wherry.engine.images.keeping import Keeper
from wherry.engine.images.leases import Needed
from wherry.storage.image_records import FetchedBlob, ImageRecords
from wherry.storage.partials import Partials

KEPT_SECONDS = 24 * 3600
KEPT_BYTES = 20 << 30
_NS = 1_000_000_000


class Unfinished:
    """An owner of blobs (see Keeper): those that a pull has brought, until an image needs them or time is up.

    `busy` tells the digests that are under way.
    """

    def __init__(
        self, records: ImageRecords, keeper: Keeper, partials: Partials, busy: Callable[[], Collection[str]]
    ) -> None:
        self._records = records
        self._partials = partials
        self._keeper = keeper
        self._busy = busy
        keeper.owner(lambda: Needed(blobs=frozenset(self._wanted())))
        keeper.leavings(self.forget)

    def fetched(self, blob: FetchedBlob) -> None:
        """Record a blob before it gets its name."""
        with self._records.transaction() as connection:
            self._records.put_fetched(connection, blob)

    async def tidy(self) -> None:
        """Forget what is too old or too much."""
        self._drop(self._records.fetched.keys() - self._wanted() - set(self._busy()))
        await asyncio.to_thread(self._partials.sweep, age=KEPT_SECONDS, room=KEPT_BYTES, busy=self._busy())

    async def forget(self) -> int:
        """Forget all that no pull under way needs."""
        busy = set(self._busy())
        unwanted = self._records.fetched.keys() - busy - self._keeper.leased().blobs
        freed = sum(self._records.fetched[digest].size for digest in unwanted)
        self._drop(unwanted)
        return freed + await asyncio.to_thread(self._partials.sweep, age=0, room=0, busy=busy)

    def _drop(self, digests: Collection[str]) -> None:
        if digests:
            with self._records.transaction() as connection:
                self._records.drop_fetched(connection, digests)

    def _wanted(self) -> set[str]:
        oldest = time.time_ns() - KEPT_SECONDS * _NS
        wanted: set[str] = set()
        taken = 0
        for blob in sorted(self._records.fetched.values(), key=lambda blob: -blob.fetched_ns):
            taken += blob.size
            if blob.fetched_ns < oldest or taken > KEPT_BYTES:
                break
            wanted.add(blob.digest)
        return wanted
