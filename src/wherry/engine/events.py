"""The engine's events: written to disk as they happen, and told to whoever listens.

    events = Events(database)
    events.emit(Event(time_ns=time.time_ns(), type="container", action="start", id=..., attributes={...}))
    async for event in events.stream(since_ns=0, filters=Filters.decode('{"type":["container"]}')):
        ...

A listener holds a place in the record and no queue: it reads on from there whenever something was added. So a slow one
costs nothing, misses nothing that is still recorded, and sees nothing twice; replay and following are one thing.
Everything happens on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncGenerator

import msgspec

from wherry.model.event_filters import event_holds
from wherry.model.events import Event
from wherry.model.filters import Filters
from wherry.storage.database import Database

log = logging.getLogger(__name__)

KEPT = 65_536
_TRIM_EVERY = 256  # one small delete now and then, never a long one
_BATCH = 256  # rows looked at between two turns of the loop
_FOREVER = 2**63 - 1

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Event).decode


class Events:
    """The record of events, bounded to about the newest `kept` ones."""

    def __init__(self, database: Database, *, kept: int = KEPT) -> None:
        self._connection = database.connection
        self._kept = kept
        self._waiting: set[asyncio.Future[None]] = set()
        self._trim(self._newest())

    @property
    def listeners(self) -> int:
        """How many streams wait for news."""
        return len(self._waiting)

    def emit(self, event: Event) -> None:
        """Record one event and wake the listeners.

        Inside a caller's transaction it is recorded, or forgotten, together with what it tells of: listeners are woken
        in the loop's next turn, when the transaction is over.
        """
        values = (event.time_ns, _encode(event))
        try:
            added = self._connection.execute("INSERT INTO events (time_ns, record) VALUES (?, ?)", values)
        except sqlite3.OperationalError as error:
            if self._connection.in_transaction:
                raise
            log.error("event %s of %s %s is not recorded: %s", event.action, event.type, event.id, error)
            return
        sequence = added.lastrowid or 0
        if sequence % _TRIM_EVERY == 0:
            self._trim(sequence)
        for waiting in self._waiting:
            waiting.get_loop().call_soon(_wake, waiting)
        self._waiting.clear()

    async def stream(
        self, *, since_ns: int | None = None, until_ns: int | None = None, filters: Filters | None = None
    ) -> AsyncGenerator[Event, None]:
        """Recorded events from `since_ns` on, then new ones as they come; ends at `until_ns`, or never without it.

        Times are nanoseconds since the epoch, both ends included. With neither given only new events are told; with
        only `until_ns`, all recorded ones before it too. `until_ns` of 0 bounds nothing and ends at once (all as the
        real engine does). The place in the record is taken when the first event is asked for.
        """
        filters = filters or Filters()
        bounds = (since_ns or 0, until_ns or _FOREVER)
        place = self._newest() if since_ns is None and until_ns is None else self._oldest() - 1
        while True:
            newest = self._newest()
            if place >= newest:
                if not await self._added_before(until_ns):
                    return
                continue
            upto = min(place + _BATCH, newest)
            for (record,) in self._connection.execute(_BETWEEN, (place, upto, *bounds)).fetchall():
                event = _decode(record)
                if event_holds(filters, event):
                    yield event
            place = upto
            await asyncio.sleep(0)

    async def _added_before(self, until_ns: int | None) -> bool:
        """Wait for an event; False if `until_ns` came first."""
        left = None if until_ns is None else (until_ns - time.time_ns()) / 1e9
        if left is not None and left <= 0:
            return False
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await asyncio.wait_for(waiting, left)
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(waiting)
        return True

    def _oldest(self) -> int:
        (sequence,) = self._connection.execute("SELECT min(sequence) FROM events").fetchone()
        return sequence or 1

    def _newest(self) -> int:
        (sequence,) = self._connection.execute("SELECT max(sequence) FROM events").fetchone()
        return sequence or 0

    def _trim(self, newest: int) -> None:
        self._connection.execute("DELETE FROM events WHERE sequence <= ?", (newest - self._kept,))


_BETWEEN = """
    SELECT record FROM events
    WHERE sequence > ? AND sequence <= ? AND time_ns >= ? AND time_ns <= ?
    ORDER BY sequence
"""


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
