"""The images service on a driver whose layers are nowhere on the host: it asks the driver, and walks nothing."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tests.support.image_store import BASE, TOP, Store, packed, pieces
from tests.support.images import digest, docker_archive, oci_archive
from tests.support.snapshots import MemorySnapshots
from wherry.engine.images.service import Images
from wherry.model.filters import Filters


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "data")
    store.images = Images(store.database, store.blobs, MemorySnapshots(), store.events.append, lambda image: [])
    return store


async def test_all_that_is_done_with_images(store: Store) -> None:
    await store.load(docker_archive([BASE, TOP], ["app:1"]))
    await store.load(packed(oci_archive([TOP], "docker.io/library/top:1"), "gzip"))
    image = store.images.resolve("app:1")
    assert image.diff_ids == [digest(BASE), digest(TOP)]
    saved = await store.save("app:1", "top:1")
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        assert f"blobs/{digest(TOP).replace(':', '/')}" in archive.getnames()
    imported = await store.images.import_(pieces(BASE), repository="imported")
    assert imported.diff_ids == [digest(BASE)]
    await store.images.tag("app:1", "other", "2")
    assert [entry.size for entry in store.images.history("app:1")] == [4, 5]
    assert all(path.startswith("/nowhere/") for path in store.images.view_plan(image).lower)
    await store.images.remove("app:1")
    await store.images.prune(Filters({"dangling": ("false",)}))
    assert store.images.all() == []
    await store.images.recover(set())
    assert [name for name in await store.left() if name.startswith("blobs/")] == []
    store.database.close()
