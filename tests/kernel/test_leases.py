"""What is removed while images are on their way in or out: everything but what these use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from tests.support.fake_registry import FakeRegistry
from tests.support.image_store import BASE, TOP, Store
from tests.support.images import digest, docker_archive
from tests.support.transfers import BIG, packed, told, until
from wherry.engine.images.removal import Removed
from wherry.model.filters import Filters
from wherry.model.image import chain_ids
from wherry.model.reference import parse

ALL = Filters.decode('{"dangling": ["false"]}')
BASE_CHAIN, TOP_CHAIN = chain_ids([digest(BASE), digest(TOP)])


class Slow:
    """An archive whose second half waits."""

    def __init__(self, archive: bytes) -> None:
        self._archive = archive
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        half = len(self._archive) // 2
        yield self._archive[:half]
        self.begun.set()
        await self.go.wait()
        yield self._archive[half:]


async def load(store: Store, stream: Slow) -> None:
    async for _ in store.images.load(stream):
        pass


async def blobs(store: Store) -> set[str]:
    return await asyncio.to_thread(store.blobs.digests)


async def test_a_pull_under_way_keeps_its_own_and_nothing_else(registry: FakeRegistry, store: Store) -> None:
    registry.put_image("team/app", "1", [BASE, BIG])
    registry.put_image("team/app", "2", [BASE, TOP])
    gate = registry.gates[digest(packed(BIG))] = asyncio.Event()
    pulls, _ = store.transfers(registry)
    await told(pulls.pull(parse("reg.test/team/app:2")))
    pulling = asyncio.create_task(told(pulls.pull(parse("reg.test/team/app:1"))))
    await until(lambda: registry.sent[digest(packed(BIG))] > 0)
    removed = await store.images.remove("reg.test/team/app:2")
    assert removed[-1] == Removed(deleted=TOP_CHAIN), "gone at once, and told"
    assert await asyncio.to_thread(store.snapshots.chains) == {BASE_CHAIN}
    assert digest(packed(TOP)) not in await blobs(store)
    assert digest(packed(BASE)) in await blobs(store)
    gate.set()
    await pulling
    assert registry.asked[f"blob {digest(packed(BASE))}"] == 1
    assert await store.save("reg.test/team/app:1")
    await store.images.remove("reg.test/team/app:1")
    assert await store.left() == []


async def test_what_a_pull_has_brought_is_not_pruned_while_it_runs(registry: FakeRegistry, store: Store) -> None:
    registry.put_image("team/app", "1", [BASE, BIG])
    registry.put_image("team/app", "2", [TOP, BIG])
    pulls, _ = store.transfers(registry)
    registry.cut[digest(packed(BIG))] = 150_000
    with pytest.raises(Exception, match="broke"):
        await told(pulls.pull(parse("reg.test/team/app:2")))
    assert digest(packed(TOP)) in await blobs(store)
    registry.cut.clear()
    gate = registry.gates[digest(packed(BIG))] = asyncio.Event()
    pulling = asyncio.create_task(told(pulls.pull(parse("reg.test/team/app:1"))))
    await until(lambda: digest(packed(BASE)) in store.images.records.fetched)
    await store.images.prune(ALL)
    assert digest(packed(TOP)) not in await blobs(store), "what the broken one had brought"
    gate.set()
    await pulling
    assert registry.asked[f"blob {digest(packed(BASE))}"] == 1
    await store.images.remove("reg.test/team/app:1")
    assert await store.left() == []


async def test_an_image_that_is_removed_while_it_is_loaded_again_is_whole_afterwards(store: Store) -> None:
    archive = docker_archive([BASE, TOP], ["app:1"])
    await store.load(archive)
    await store.load(docker_archive([TOP], ["other:1"]))
    slow = Slow(archive)
    loading = asyncio.create_task(load(store, slow))
    await slow.begun.wait()
    await store.images.remove("other:1")
    assert await asyncio.to_thread(store.snapshots.chains) == {BASE_CHAIN, TOP_CHAIN}
    await store.images.remove("app:1")
    slow.go.set()
    await loading
    assert await store.save("app:1")
    await store.images.remove("app:1")
    assert await store.left() == []


async def test_what_is_being_pushed_can_be_removed_and_arrives(registry: FakeRegistry, store: Store) -> None:
    registry.put_image("team/app", "1", [BASE, TOP])
    pulls, _ = store.transfers(registry)
    await told(pulls.pull(parse("reg.test/team/app:1")))
    elsewhere = FakeRegistry()
    gate = elsewhere.gates[digest(packed(TOP))] = asyncio.Event()
    _, pushes = store.transfers(elsewhere)
    pushing = asyncio.create_task(told(pushes.push(parse("reg.test/team/app:1"))))
    await until(lambda: elsewhere.asked[f"upload {digest(packed(TOP))}"] > 0)
    await store.images.remove("reg.test/team/app:1")
    assert digest(packed(TOP)) in await blobs(store)
    gate.set()
    await pushing
    assert elsewhere.manifests == registry.manifests
    assert await store.left() == []


async def test_what_is_being_saved_can_be_removed_and_is_saved(store: Store) -> None:
    await store.load(docker_archive([BASE, TOP], ["app:1"]))
    whole = await store.save("app:1")
    async with aclosing(await store.images.save(["app:1"])) as pieces:  # type: ignore[type-var]
        saved = await anext(pieces)
        await store.images.remove("app:1")
        saved += b"".join([piece async for piece in pieces])
    assert saved == whole
    assert await store.left() == []


async def test_a_first_push_of_what_is_removed_meanwhile_ends(registry: FakeRegistry, store: Store) -> None:
    await store.load(docker_archive([BIG], ["reg.test/app:1"]))
    _, pushes = store.transfers(registry)
    async with aclosing(pushes.push(parse("reg.test/app:1"))) as messages:
        await anext(messages)
        await anext(messages)  # the layer is being compressed
        await store.images.remove("reg.test/app:1")
        with pytest.raises(Exception, match="tag does not exist"):
            async for _ in messages:
                pass
    assert await store.left() == []
