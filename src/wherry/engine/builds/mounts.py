"""Directories that outlive a build: what cache mounts show, and who has which at the moment.

Of one name there may be several, for processes that want none but their own. Each is a result of the cache, so that it
is listed and pruned with the others; one in use is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

from wherry.engine.builds.cache import CACHE_MOUNT, Cache, Cached, new_result
from wherry.model.build_graph import Cache as CacheMount
from wherry.model.failpoints import failpoint
from wherry.storage.database import Database
from wherry.storage.usage import disk_usage


class CacheMounts:
    """See the module. `root` holds them, each in a directory named like its record."""

    def __init__(self, root: Path, cache: Cache, database: Database) -> None:
        self._root = root
        self._cache = cache
        self._database = database
        self._locks: dict[str, asyncio.Lock] = {}
        self._making: set[str] = set()  # IDs of those that no record names yet
        self.users: Counter[str] = Counter()  # by ID of the record

    @contextlib.asynccontextmanager
    async def locking(self, names: Iterable[str]) -> AsyncIterator[None]:
        """Alone with the directories of these names. All that a process needs are asked for at once, and everybody
        waits for them in the same order, so that no two wait for one another."""
        async with contextlib.AsyncExitStack() as stack:
            for name in sorted(set(names)):
                await stack.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            yield

    @contextlib.asynccontextmanager
    async def hold(self, mount: CacheMount, name: str, fill: Callable[[Path], None]) -> AsyncIterator[Path]:
        """The directory for one process. `name` is the mount's identity; a new directory is filled by `fill`.

        One that is to be locked has been, by `locking`.
        """
        async with self._locks.setdefault(f"{name} is being chosen", asyncio.Lock()):
            record = self._choose(name, private=mount.sharing == "private")
            if record is None:
                record = await self._make(mount, name, fill)
            self.users[record.id] += 1
        try:
            self._cache.use(record)
            yield self._root / record.id
        finally:
            self.users[record.id] -= 1
            record.size = await asyncio.to_thread(disk_usage, self._root / record.id)

    def _choose(self, name: str, *, private: bool) -> Cached | None:
        for record in self._cache.results.values():
            if record.kind == CACHE_MOUNT and record.mount_id == name and not (private and self.users[record.id]):
                return record
        return None

    async def _make(self, mount: CacheMount, name: str, fill: Callable[[Path], None]) -> Cached:
        record = new_result(kind=CACHE_MOUNT, description=f"cached mount {mount.target} from exec", mount_id=name)
        making = self._root / f"{record.id}.making"
        self._making.add(record.id)
        try:
            await asyncio.to_thread(_make_directory, making, mount, fill)
            failpoint("builds.mounts.made")
            os.rename(making, self._root / record.id)
            with self._database.transaction() as connection:
                self._cache.keep(connection, record, ())
        finally:
            self._making.discard(record.id)
        return record

    def sweep(self) -> None:
        """Remove the directories that no record names (blocking)."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in os.listdir(self._root):
            if name not in self._cache.results and name.removesuffix(".making") not in self._making:
                shutil.rmtree(self._root / name, ignore_errors=True)

    def there(self) -> set[str]:
        """IDs of the directories that are there (blocking)."""
        return set(os.listdir(self._root)) if self._root.exists() else set()


def _make_directory(path: Path, mount: CacheMount, fill: Callable[[Path], None]) -> None:
    path.mkdir(mode=0o700, parents=True)
    os.chown(path, mount.uid, mount.gid)
    os.chmod(path, mount.mode)
    fill(path)
