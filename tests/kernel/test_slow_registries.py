"""A registry that is slow holds up its own pulls and nobody else's."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.support.fake_registry import FakeRegistry
from tests.support.image_store import BASE, TOP, Store
from tests.support.images import Entry, digest, tar
from tests.support.transfers import BIG, packed, told, until
from wherry.engine.transfers.downloads import Patience
from wherry.model.credentials import Credentials
from wherry.model.reference import Reference, parse

ONE, OTHER = "slow.test/app:1", "fast.test/app:1"
BLOB = digest(packed(BIG))


class Hosts:
    """Several registries by their domains."""

    def __init__(self, **hosts: FakeRegistry) -> None:
        self._hosts = hosts

    def repository(self, reference: Reference, credentials: Credentials | None = None) -> object:
        return self._hosts[reference.domain.partition(".")[0]].repository(reference, credentials)


@pytest.fixture
def slow() -> FakeRegistry:
    """Whose blob never ends."""
    registry = FakeRegistry()
    registry.put_image("app", "1", [BIG])
    registry.gates[BLOB] = asyncio.Event()
    return registry


@pytest.fixture
def fast() -> FakeRegistry:
    registry = FakeRegistry()
    registry.put_image("app", "1", [BIG])
    return registry


async def test_who_is_slow_gives_way_to_another_registry(store: Store, slow: FakeRegistry, fast: FakeRegistry) -> None:
    pulls, _ = store.transfers(Hosts(slow=slow, fast=fast))  # type: ignore[arg-type]
    pulls._downloads.patience = Patience(0.05, len(BIG))
    first = asyncio.create_task(told(pulls.pull(parse(ONE))))
    await until(lambda: slow.sent[BLOB] > 0)
    await told(pulls.pull(parse(OTHER)))
    await first
    assert slow.sent[BLOB] + fast.sent[BLOB] == len(packed(BIG)), "it was gone on with"
    assert slow.asked[f"blob {BLOB}"] == 1
    assert store.images.resolve(ONE) is store.images.resolve(OTHER)


async def test_who_was_slow_is_asked_again_where_the_other_fails(
    store: Store, slow: FakeRegistry, fast: FakeRegistry
) -> None:
    pulls, _ = store.transfers(Hosts(slow=slow, fast=fast))  # type: ignore[arg-type]
    pulls._downloads.patience = Patience(0.05, len(BIG))
    first = asyncio.create_task(told(pulls.pull(parse(ONE))))
    await until(lambda: slow.sent[BLOB] > 0)
    fast.cut[BLOB] = 0
    second = asyncio.create_task(told(pulls.pull(parse(OTHER))))
    await until(lambda: slow.asked[f"blob {BLOB}"] == 2)
    slow.gates[BLOB].set()
    await asyncio.gather(first, second)
    assert slow.sent[BLOB] == len(packed(BIG))


async def test_who_is_slow_and_alone_is_waited_for(store: Store, slow: FakeRegistry) -> None:
    pulls, _ = store.transfers(slow)
    pulls._downloads.patience = Patience(0.001, len(BIG))
    pulling = asyncio.create_task(told(pulls.pull(parse(ONE))))
    await until(lambda: slow.sent[BLOB] > 0)
    await asyncio.sleep(0.05)
    slow.gates[BLOB].set()
    await pulling
    assert slow.asked[f"blob {BLOB}"] == 1


async def test_what_two_registries_gave_together_is_not_believed_more(
    store: Store, slow: FakeRegistry, fast: FakeRegistry
) -> None:
    slow.lies[BLOB] = b"x" * len(packed(BIG))
    pulls, _ = store.transfers(Hosts(slow=slow, fast=fast))  # type: ignore[arg-type]
    pulls._downloads.patience = Patience(0.05, len(BIG))
    first = asyncio.create_task(told(pulls.pull(parse(ONE))))
    await until(lambda: slow.sent[BLOB] > 0)
    await told(pulls.pull(parse(OTHER)))
    await first
    assert store.images.resolve(OTHER).diff_ids == [digest(BIG)]
    assert fast.asked[f"blob {BLOB}"] == 2


async def test_layers_that_are_waited_for_leave_room_for_another_pull(store: Store) -> None:
    slow, fast = FakeRegistry(), FakeRegistry()
    layers = [tar([Entry("big", random.Random(seed).randbytes(100_000))]) for seed in (1, 2)]
    slow.put_image("app", "1", layers)
    gate = asyncio.Event()
    slow.gates |= {digest(packed(layer)): gate for layer in layers}
    fast.put_image("app", "1", [BASE, TOP])
    pulls, _ = store.transfers(Hosts(slow=slow, fast=fast))  # type: ignore[arg-type]
    first = asyncio.create_task(told(pulls.pull(parse(ONE))))
    await until(lambda: all(slow.sent[digest(packed(layer))] > 50_000 for layer in layers))
    await told(pulls.pull(parse(OTHER)))
    gate.set()
    await first
