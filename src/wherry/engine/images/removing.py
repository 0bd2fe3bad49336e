"""`rmi` and `prune`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wherry.engine.images.catalog import Catalog
from wherry.engine.images.keeping import Keeper
from wherry.engine.images.removal import InUse, Removal, Removed
from wherry.errors import Conflict, NotFound
from wherry.model import image_filters
from wherry.model.events import Event
from wherry.model.failpoints import failpoint
from wherry.model.filters import Filters
from wherry.model.reference import Reference, parse_any


@dataclass(frozen=True)
class Pruned:
    removed: list[Removed]
    reclaimed: int  # bytes


class Removing:
    def __init__(
        self,
        catalog: Catalog,
        keeper: Keeper,
        emit: Callable[[Event], None],
        in_use: Callable[[str], Sequence[InUse]],
    ) -> None:
        self._catalog = catalog
        self._records = catalog.records
        self._keeper = keeper
        self._emit = emit
        self._in_use = in_use

    async def remove(self, ref: str, *, force: bool, prune: bool) -> list[Removed]:
        """See Images.remove."""
        async with self._keeper.gate:
            removal = Removal(self._records, self._in_use, force, prune)
            image = self._catalog.resolve(ref)
            named = parse_any(ref)
            if isinstance(named, Reference):
                recorded = self._catalog.recorded(named)
                if recorded is None:  # the beginning of its ID or of a digest
                    ref = image.id
                elif named.digest:
                    ref = recorded.familiar
            removal.remove(ref, image)
            gone = await self._execute(removal)
        return removal.done + [Removed(deleted=chain_id) for chain_id in gone]

    async def prune(self, filters: Filters) -> Pruned:
        """See Images.prune."""
        filters.validate(image_filters.PRUNE_FILTERS)
        dangling = filters.boolean("dangling", True)
        until = image_filters.until_ns(filters)
        done: list[Removed] = []
        reclaimed = 0
        async with self._keeper.gate:
            if not filters.fields.keys() - {"dangling"}:
                reclaimed += await self._keeper.forget_leavings()
                await self._keeper.collect()
            for image in list(self._records.images.values()):
                if image.id not in self._records.images or not image_filters.prunable(image, filters, until):
                    continue
                names = self._records.references(image.id)
                if dangling and (any(not name.digest for name in names) or self._records.children(image.id)):
                    continue
                if not names and image.id in self._records.companions():
                    continue
                sizes = await asyncio.to_thread(self._catalog.layers_occupied, image)
                for ref in [name.familiar for name in names] or [image.id]:
                    if image.id not in self._records.images:
                        break  # digests went with the tag, and with them the image
                    removal = Removal(self._records, self._in_use, False, True)
                    try:
                        removal.remove(ref, image)
                    except (Conflict, NotFound):
                        break
                    gone = await self._execute(removal)
                    done += removal.done + [Removed(deleted=chain_id) for chain_id in gone]
                    reclaimed += sum(sizes.get(chain_id, 0) for chain_id in gone)
        self._emit(
            Event(time_ns=time.time_ns(), type="image", action="prune", id="", attributes={"reclaimed": str(reclaimed)})
        )
        return Pruned(done, reclaimed)

    async def _execute(self, removal: Removal) -> list[str]:
        """Records first, then the files; returns the layers that are gone."""
        with self._records.transaction() as connection:
            for image, untagged in removal.untagged:
                self._catalog.event("untag", image, image.id)
                self._records.unname(connection, untagged)
            for image in removal.deleted:
                self._records.drop(connection, image.id)
                self._catalog.event("delete", image, image.id, labels=False)
            self._keeper.forget_blobs(connection)
            failpoint("images.remove.recorded")
        return await self._keeper.collect() if removal.deleted else []
