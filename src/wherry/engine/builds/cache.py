"""The results of builds that are kept: by which keys they are found, and which go when there are too many.

A result is a chain of layers in the snapshot store. Records are in memory and in the database; files come before the
record that names them and go after it, and `Keeper` shields what a record names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from sqlite3 import Connection

import msgspec
from msgspec import Struct

from wherry.engine.images.leases import Needed
from wherry.model.failpoints import failpoint
from wherry.model.ids import new_id
from wherry.storage.database import Database

REGULAR, CACHE_MOUNT, STATES = "regular", "exec.cachemount", "internal"


class Cached(Struct, kw_only=True):
    """One result. Times are ns since the epoch; `size` in bytes is what it added, and goes with it."""

    id: str
    kind: str = REGULAR
    description: str = ""
    chain_id: str = ""
    diff_ids: list[str] = []  # the whole chain, bottom first
    size: int = 0
    created_ns: int = 0
    used_ns: int = 0
    uses: int = 0
    parent: str = ""  # chain ID that it stands on
    directory: str = ""  # of a cache mount
    mount_id: str = ""


class Cache:
    """See the module. Everything is the loop's; nothing waits."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.results: dict[str, Cached] = {}
        self._keys: dict[str, str] = {}
        self._used: set[str] = set()  # uses that the database does not know of yet
        for (record,) in database.connection.execute("SELECT record FROM build_results"):
            cached = msgspec.json.decode(record, type=Cached)
            self.results[cached.id] = cached
        self._keys = dict(database.connection.execute("SELECT key, result FROM build_keys"))

    def needed(self) -> Needed:
        """What must stay of the layers and blobs."""
        kept = [cached for cached in self.results.values() if cached.chain_id]
        return Needed(
            chains=frozenset(cached.chain_id for cached in kept),
            diff_ids=frozenset(diff_id for cached in kept for diff_id in cached.diff_ids),
        )

    def find(self, key: str) -> Cached | None:
        """A result by a key; it counts as used."""
        found = self.results.get(self._keys.get(key, ""))
        if found is not None:
            self.use(found)
        return found

    def use(self, cached: Cached) -> None:
        cached.used_ns = time.time_ns()
        cached.uses += 1
        self._used.add(cached.id)

    def keep(self, connection: Connection, cached: Cached, keys: Iterable[str]) -> None:
        """Inside a transaction: record a result, found from now on by these keys alone."""
        self.results[cached.id] = cached
        connection.execute(
            "INSERT OR REPLACE INTO build_results (id, record) VALUES (?, ?)",
            (cached.id, msgspec.json.encode(cached)),
        )
        self._name(connection, cached, keys)
        failpoint("builds.cache.recorded")

    def name(self, cached: Cached, keys: Iterable[str]) -> None:
        """Let more keys find a result."""
        missing = [key for key in keys if self._keys.get(key) != cached.id]
        if missing:
            with self._database.transaction() as connection:
                self._name(connection, cached, missing)

    def _name(self, connection: Connection, cached: Cached, keys: Iterable[str]) -> None:
        for key in keys:
            connection.execute("INSERT OR REPLACE INTO build_keys (key, result) VALUES (?, ?)", (key, cached.id))
            self._keys[key] = cached.id

    def keys_of(self, cached: Cached) -> list[str]:
        """Every key that finds a result."""
        return [key for key, result in self._keys.items() if result == cached.id]

    def save_uses(self) -> None:
        """Let the database know when results were used last."""
        used = [self.results[one] for one in self._used if one in self.results]
        self._used.clear()
        if used:
            with self._database.transaction() as connection:
                connection.executemany(
                    "UPDATE build_results SET record = ? WHERE id = ?",
                    [(msgspec.json.encode(cached), cached.id) for cached in used],
                )

    def drop(self, connection: Connection, results: Iterable[Cached]) -> None:
        """Inside a transaction: forget results; their files go at the next collection."""
        gone = {cached.id for cached in results}
        for result in gone:
            connection.execute("DELETE FROM build_results WHERE id = ?", (result,))
            self.results.pop(result, None)
        self._keys = {key: result for key, result in self._keys.items() if result not in gone}

    def forget(self, keep: Callable[[Cached], bool]) -> list[Cached]:
        """Drop the results that are not to be kept, as at start those whose files are gone."""
        gone = [cached for cached in self.results.values() if not keep(cached)]
        if gone:
            with self._database.transaction() as connection:
                self.drop(connection, gone)
        return gone

    # contents of clients' directories

    def keep_list(self, context: str, digests: Iterable[bytes]) -> None:
        """The contents that a directory has now, instead of those it had."""
        joined = b"".join(digests)
        with self._database.transaction() as connection:
            known = connection.execute("SELECT digests FROM build_lists WHERE context = ?", (context,)).fetchone()
            if known == (joined,):
                connection.execute("UPDATE build_lists SET used_ns = ? WHERE context = ?", (time.time_ns(), context))
            else:
                connection.execute(
                    "INSERT OR REPLACE INTO build_lists (context, used_ns, digests) VALUES (?, ?, ?)",
                    (context, time.time_ns(), joined),
                )

    # states that came without a tree of their own

    def knows(self, state: str) -> bool:
        """Whether an earlier build has come to this state of its configuration."""
        return f"state {state}" in self._keys

    def remember(self, states: Iterable[str]) -> None:
        """This build has."""
        missing = [f"state {state}" for state in states if not self.knows(state)]
        if missing:
            with self._database.transaction() as connection:
                self.keep(connection, new_result(kind=STATES), missing)

    def lists(self) -> list[tuple[str, int, int]]:
        """Directories, when they were used, how many contents they have; longest unused first."""
        return list(
            self._database.connection.execute(
                "SELECT context, used_ns, length(digests) / 32 FROM build_lists ORDER BY used_ns"
            )
        )

    def listed(self, context: str = "") -> set[bytes]:
        """The contents of one directory, or of all."""
        rows = self._database.connection.execute("SELECT digests FROM build_lists WHERE ? IN ('', context)", (context,))
        return {row[place : place + 32] for (row,) in rows for place in range(0, len(row), 32)}

    def drop_lists(self, contexts: Iterable[str]) -> None:
        with self._database.transaction() as connection:
            for context in contexts:
                connection.execute("DELETE FROM build_lists WHERE context = ?", (context,))


def new_result(**fields: object) -> Cached:
    """A result made now."""
    now = time.time_ns()
    return msgspec.convert({"id": new_id()[:25], "created_ns": now, "used_ns": now, "uses": 1, **fields}, Cached)
