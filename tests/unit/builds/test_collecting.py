"""What clients have sent is not collected while a build begins, which would be told that it is there."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wherry.engine.builds.cache import Cache
from wherry.engine.builds.service import Builds
from wherry.model.cache_rules import CacheRules
from wherry.storage.content import Contents
from wherry.storage.database import Database


class Held(Contents):
    """Its collection waits until it is let."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.begun, self.let = threading.Event(), threading.Event()
        self.collected = 0

    def collect(self, needed: Collection[bytes]) -> None:
        self.begun.set()
        assert self.let.wait(5)
        super().collect(needed)
        self.collected += 1


@pytest.fixture
def contents(tmp_path: Path) -> Held:
    return Held(tmp_path / "contents")


@pytest.fixture
def digest(contents: Held) -> bytes:
    return contents.put(b"content")


@pytest.fixture
def builds(contents: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Builds]:
    monkeypatch.setattr(Builds, "_disk", lambda self: (0, 0))
    images: Any = SimpleNamespace(admission=SimpleNamespace(holding=contextlib.nullcontext), all=list)
    shop: Any = SimpleNamespace(contents=contents, cache_mounts=SimpleNamespace(users={}))
    nobody: Any = None
    database = Database.open(tmp_path / "wherry.db")
    cache = Cache(database)
    yield Builds(shop, images, nobody, nobody, nobody, database, cache, tmp_path / "builds", CacheRules(enabled=False))
    database.close()


async def test_a_build_begins_when_the_collection_has_ended(contents: Held, digest: bytes, builds: Builds) -> None:
    pruning = asyncio.create_task(builds.prune())
    await asyncio.to_thread(contents.begun.wait, 5)

    async def told() -> set[bytes]:
        async with builds.using():
            return await asyncio.to_thread(contents.missing, [digest])

    building = asyncio.create_task(told())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not building.done()
    contents.let.set()
    await pruning
    assert await building == {digest}


async def test_while_a_build_runs_nothing_is_collected(contents: Held, digest: bytes, builds: Builds) -> None:
    contents.let.set()
    async with builds.using():
        await builds.prune()
        assert contents.collected == 0
    await builds.prune()
    assert contents.collected == 1 and await asyncio.to_thread(contents.missing, [digest]) == {digest}
