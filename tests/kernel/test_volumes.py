"""Volumes: names, what is refused, seeding from an image's content, and what a crash leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.trees import inventory
from tests.support.volume_store import Store, fill
from wherry.engine.volume_mounts import Mountable, VolumeMounts
from wherry.engine.volumes import ANONYMOUS_LABEL
from wherry.errors import Conflict, InvalidParameter, NotFound, SystemFailure, WherryError
from wherry.model.filters import Filters


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "data")
    yield store
    store.database.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return fill(tmp_path / "source")


async def test_create_is_idempotent(store: Store) -> None:
    volume = await store.volumes.create("data", labels={"a": "b"})
    assert await store.volumes.create("data", labels={"c": "d"}) is volume
    assert (volume.labels, volume.mountpoint) == ({"a": "b"}, str(store.root / "volumes" / "data" / "_data"))
    status = os.stat(volume.mountpoint)
    assert (oct(status.st_mode), status.st_uid) == (oct(0o40755), 0)
    assert store.told() == [("create", "data")]


async def test_a_volume_that_cannot_be_recorded_leaves_nothing(store: Store) -> None:
    store.database.connection.execute("PRAGMA query_only = 1")
    with pytest.raises(SystemFailure):
        await store.volumes.create("data")
    store.database.connection.execute("PRAGMA query_only = 0")
    await store.volumes.create("data")


async def test_anonymous_volumes(store: Store) -> None:
    volume = await store.volumes.create(None)
    assert len(volume.name) == 64 and volume.anonymous and volume.labels == {ANONYMOUS_LABEL: ""}


@pytest.mark.parametrize(
    ("name", "options", "kind", "message"),
    [
        ("a", {}, InvalidParameter, "create a: volume name is too short, names should be at least two alphanumeric"
         " characters"),
        ("../x", {}, InvalidParameter, 'create ../x: "../x" includes invalid characters for a local volume name, only'
         ' "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'),
        ("ok", {"driver": "nope"}, NotFound, 'create ok: error looking up volume plugin nope: plugin "nope" not found'),
        ("ok", {"options": {"nope": "x"}}, InvalidParameter, 'create ok: invalid option: "nope"'),
        ("ok", {"options": {"type": "tmpfs"}}, InvalidParameter, 'create ok: missing required option: "device"'),
        ("ok", {"options": {"size": "1m"}}, InvalidParameter, "create ok: quota size requested but no quota support"),
    ],
)  # fmt: skip
async def test_refusals(
    store: Store, name: str, options: dict[str, str], kind: type[WherryError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        await store.volumes.create(name, **options)
    assert str(caught.value) == message
    assert await asyncio.to_thread(os.listdir, store.root / "volumes") == []


async def test_removal(store: Store) -> None:
    await store.volumes.create("data")
    store.users["data"] = ["c" * 64]
    with pytest.raises(Conflict) as caught:
        await store.volumes.remove("data", force=True)
    assert str(caught.value) == f"remove data: volume is in use - [{'c' * 64}]"
    store.users.clear()
    await store.volumes.remove("data")
    with pytest.raises(NotFound, match=r"^get data: no such volume$"):
        await store.volumes.remove("data")
    await store.volumes.remove("data", force=True)
    assert store.told() == [("create", "data"), ("destroy", "data")]
    assert await asyncio.to_thread(os.listdir, store.root / "volumes") == []


async def test_a_volume_of_a_name_whose_last_one_is_leaving(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.volumes.create("data")
    entered, leave = threading.Event(), threading.Event()
    drop = VolumeMounts.drop

    def slow(mounts: VolumeMounts, volume: Mountable) -> None:
        entered.set()
        leave.wait()
        drop(mounts, volume)

    monkeypatch.setattr(VolumeMounts, "drop", slow)
    removing = asyncio.create_task(store.volumes.remove("data"))
    await asyncio.to_thread(entered.wait)
    creating = asyncio.create_task(store.volumes.create("data"))
    await asyncio.sleep(0)
    leave.set()
    await removing
    made = await creating
    assert await asyncio.to_thread(os.path.isdir, made.mountpoint)
    assert store.told() == [("create", "data"), ("destroy", "data"), ("create", "data")]
    assert await asyncio.to_thread(os.listdir, store.root / "volumes") == ["data"]


async def test_lists_and_prune(store: Store) -> None:
    anonymous = (await store.volumes.create(None)).name
    await store.volumes.create("named", labels={"a": "b"})
    await store.volumes.create("used")
    store.users["used"] = ["c" * 64]

    def names(filters: str) -> set[str]:
        return {volume.name for volume in store.volumes.select(Filters.decode(filters))}

    assert names('{"dangling":["true"]}') == {anonymous, "named"}
    assert names('{"dangling":["false"]}') == {"used"}
    assert names('{"name":["ame"]}') == {"named"}
    assert names('{"label":["a=b"]}') == {"named"}
    with pytest.raises(InvalidParameter, match=r"^invalid filter 'until'$"):
        await store.volumes.prune(Filters.decode('{"until":["1h"]}'))
    assert (await store.volumes.prune(Filters())).names == [anonymous]
    assert (await store.volumes.prune(Filters.decode('{"all":["1"],"label!":["a=b"]}'))).names == []
    assert (await store.volumes.prune(Filters.decode('{"all":["1"]}'))).names == ["named"]
    assert names("") == {"used"}


async def test_seeding_copies_everything(store: Store, source: Path) -> None:
    volume = await store.volumes.create("data")
    await asyncio.to_thread(store.volumes.seed, volume, source)
    assert await asyncio.to_thread(inventory, Path(volume.mountpoint)) == await asyncio.to_thread(inventory, source)
    assert os.stat(f"{volume.mountpoint}/sparse").st_blocks <= 16


async def test_seeding_leaves_content_and_the_folder_itself(store: Store, source: Path) -> None:
    volume = await store.volumes.create("data")
    inode = os.stat(volume.mountpoint).st_ino
    (Path(volume.mountpoint) / "mine").touch()
    await asyncio.to_thread(store.volumes.seed, volume, source)
    assert await asyncio.to_thread(os.listdir, volume.mountpoint) == ["mine"]
    os.unlink(f"{volume.mountpoint}/mine")
    await asyncio.to_thread(store.volumes.seed, volume, source)
    assert os.stat(volume.mountpoint).st_ino == inode  # others may have it mounted


@pytest.mark.parametrize(
    "place",
    ["volumes.create.made", "volumes.create.recorded", "volumes.seed.copied", "volumes.seed.ready",
     "volumes.seed.moved-one", "volumes.remove.recorded"],
)  # fmt: skip
async def test_killed_at(tmp_path: Path, source: Path, place: str) -> None:
    """After the next start a volume is there or not, its content whole or absent, and nothing else is left."""
    root = tmp_path / "data"
    await asyncio.to_thread(killed_while, root, source, place)
    after = Store(root)
    await after.volumes.recover()
    found = {volume.name for volume in after.volumes.select(Filters())}
    assert set(await asyncio.to_thread(os.listdir, root / "volumes")) == found
    for name in found:
        folder = root / "volumes" / name
        assert await asyncio.to_thread(os.listdir, folder) == ["_data"]
        content = await asyncio.to_thread(inventory, folder / "_data")
        assert len(content) == 1 or content == await asyncio.to_thread(inventory, source)
    assert found == ({"data"} if place not in ("volumes.create.made", "volumes.remove.recorded") else set())
    after.database.close()


def killed_while(root: Path, source: Path, place: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.volume_store", str(root), str(source)],
        env={**os.environ, "WHERRY_FAILPOINT": place, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
