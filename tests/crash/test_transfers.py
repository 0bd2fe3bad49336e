"""Pull and push, killed at each step and at bytes of no significance."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fake_registry import FakeRegistry
from tests.support.image_store import Store
from tests.support.images import digest
from tests.support.transfer_store import LAYERS, NAME, killed_while, load, pull, push, registry
from wherry.errors import NotFound

PULL = [
    "partials.write.written",
    "partials.commit.verified",
    "partials.commit.renamed",
    "snapshots.unpack.unpacked",
    "snapshots.unpack.renamed",
    "pulls.pull.layer-unpacked",
    "blobs.commit.written",
    "blobs.commit.renamed",
    "pulls.pull.stored",
    "images.admit.recorded",
    "pulls.pull.recorded",
]
PUSH = [
    "blobs.commit.written",
    "blobs.commit.renamed",
    "pushes.pack.stored",
    "pushes.pack.recorded",
    "pushes.push.sent",
]
BYTES = [0, 1, 777, 40_000, 123_456, 199_999]


def on_disk(root: Path) -> dict[str, int]:
    """The bytes of each blob that are there, whole or in part."""
    return {
        f"sha256:{path.name}": path.stat().st_size
        for place in ("blobs/sha256", "blobs/partial")
        for path in (root / place).iterdir()
    }


async def pulled_again(root: Path) -> None:
    """The next start has a consistent store; the image is there or its pull fetches what is missing and no more."""
    store = Store(root)
    await store.images.recover()
    there = on_disk(root)
    source = registry()
    try:
        image = store.images.resolve(NAME)
    except NotFound:
        assert store.images.all() == []
    else:
        assert image.repo_tags == [NAME]
    await pull(store, source)
    for blob, data in source.blobs["team/app"].items():
        assert source.sent[blob] == len(data) - there.get(blob, 0), f"{blob}: {there}"
    image = store.images.resolve(NAME)
    assert image.diff_ids == [digest(layer) for layer in LAYERS]
    assert await store.save(NAME)
    assert (await push(store, elsewhere := FakeRegistry())).startswith("1: digest: ")
    assert elsewhere.manifests["team/app"]["1"] == source.manifests["team/app"]["1"]
    await store.images.remove(NAME)
    assert await store.left() == []
    assert on_disk(root) == {}
    store.database.close()


@pytest.mark.parametrize("place", PULL)
async def test_pull_killed_at(tmp_path: Path, place: str) -> None:
    killed_while(tmp_path / "data", "pull", place)
    await pulled_again(tmp_path / "data")


@pytest.mark.parametrize("byte", BYTES)
async def test_pull_killed_after_bytes(tmp_path: Path, byte: int) -> None:
    killed_while(tmp_path / "data", "pull", byte=byte)
    await pulled_again(tmp_path / "data")


async def test_pull_killed_again_and_again(tmp_path: Path) -> None:
    for byte in (50_000, 50_000, 50_000):  # each begins where the last one ended
        killed_while(tmp_path / "data", "pull", byte=byte)
    await pulled_again(tmp_path / "data")


async def pushed_again(root: Path) -> None:
    """The next start has the image, whole; pushing it twice gives one digest and leaves nothing behind."""
    store = Store(root)
    await store.images.recover()
    first, second = [await push(store, FakeRegistry()) for _ in range(2)]
    assert first == second
    assert await store.save(NAME)
    await store.images.remove(NAME)
    assert await store.left() == []
    store.database.close()


@pytest.mark.parametrize("place", PUSH)
async def test_push_killed_at(tmp_path: Path, place: str) -> None:
    await load(tmp_path / "data")
    killed_while(tmp_path / "data", "push", place)
    await pushed_again(tmp_path / "data")


@pytest.mark.parametrize("byte", BYTES[1:4])
async def test_push_killed_after_bytes(tmp_path: Path, byte: int) -> None:
    await load(tmp_path / "data")
    killed_while(tmp_path / "data", "push", byte=byte)
    await pushed_again(tmp_path / "data")
