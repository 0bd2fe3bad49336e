"""What is kept although no image needs it: what others need, and what work in progress uses or is about to make."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Needed:
    """Chains of layers, blobs by digest, and the blobs of layers by diff ID."""

    chains: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()
    diff_ids: frozenset[str] = frozenset()

    def __or__(self, other: Needed) -> Needed:
        return Needed(self.chains | other.chains, self.blobs | other.blobs, self.diff_ids | other.diff_ids)


class Lease:
    """The names of what a piece of work uses; everything else may be collected meanwhile. See `Keeper.lease`."""

    def __init__(self, gate: asyncio.Lock) -> None:
        self._gate = gate
        self.needed = Needed()

    async def shield(
        self, *, chains: Iterable[str] = (), blobs: Iterable[str] = (), diff_ids: Iterable[str] = ()
    ) -> None:
        """From now on these are kept, if they are there, or once they are. A layer does not shield those below it.

        First shield, then look: what is found afterwards stays.
        """
        await self.add(Needed(frozenset(chains), frozenset(blobs), frozenset(diff_ids)))

    async def add(self, needed: Needed) -> None:
        """The same."""
        async with self._gate:  # not while files are collected
            self.needed |= needed
