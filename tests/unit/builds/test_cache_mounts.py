"""Cache mounts between processes: who waits for whom, and what a sweep leaves alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.engine.builds.cache import Cache
from wherry.engine.builds.mounts import CacheMounts
from wherry.model.build_graph import Cache as CacheMount
from wherry.storage.database import Database


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[CacheMounts]:
    database = Database.open(tmp_path / "wherry.db")
    yield CacheMounts(tmp_path / "mounts", Cache(database), database)
    database.connection.close()


async def _twice(mounts: CacheMounts) -> list[str]:
    done: list[str] = []

    async def step(*names: str) -> None:
        for _ in range(3):
            async with mounts.locking(names):
                await asyncio.sleep(0)
                done.append(names[0])

    async with asyncio.timeout(30):
        await asyncio.gather(step("a", "b"), step("b", "a"), step("a", "a"))
    return done


def test_processes_that_lock_several_in_any_order_never_wait_for_one_another(mounts: CacheMounts) -> None:
    assert len(asyncio.run(_twice(mounts))) == 9


def test_a_directory_being_made_is_not_swept(mounts: CacheMounts) -> None:
    async def run() -> bool:
        def fill(path: Path) -> None:
            mounts.sweep()
            assert path.is_dir()

        async with mounts.hold(CacheMount("/c", "id"), "id", fill) as path:
            await asyncio.to_thread(mounts.sweep)
            return await asyncio.to_thread(path.is_dir)

    assert asyncio.run(run())
