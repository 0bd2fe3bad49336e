"""Images: killed at each step of load, import and remove."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.image_store import BASE, TOP, Store
from tests.support.images import digest, docker_archive

_PLACES = {
    "load": [
        "images.load.received",
        "snapshots.unpack.unpacked",
        "snapshots.unpack.renamed",
        "images.load.layer-unpacked",
        "blobs.commit.written",
        "blobs.commit.renamed",
        "images.load.stored",
        "images.load.recorded",
    ],
    "import": ["snapshots.unpack.renamed", "blobs.commit.renamed", "images.import.unpacked", "images.admit.recorded"],
    "remove": ["images.remove.recorded", "snapshots.remove.renamed", "images.remove.layers-gone"],
}


def killed_while(root: Path, work: str, place: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.image_store", str(root), work],
        env={**os.environ, "WHERRY_FAILPOINT": place, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(("work", "place"), [(work, place) for work, places in _PLACES.items() for place in places])
async def test_killed_at(tmp_path: Path, work: str, place: str) -> None:
    """After the next start an image is there as a whole or not at all, and no file is left that nobody names."""
    root = tmp_path / "data"
    before = Store(root)
    await before.load(docker_archive([BASE], ["base:1"]))
    kept = await before.left()
    if work == "remove":
        await before.load(docker_archive([BASE, TOP], ["app:1"]))
    before.database.close()

    killed_while(root, work, place)

    after = Store(root)
    await after.images.recover()
    assert after.images.resolve("base:1").diff_ids == [digest(BASE)]
    others = [image for image in after.images.all() if image.repo_tags != ["base:1"]]
    if others:
        assert await after.save(*others[0].repo_tags)
        await after.images.remove(others[0].id, force=True)
    assert sorted(await after.left()) == sorted(kept)
    await after.load(docker_archive([BASE, TOP], ["app:1"]))
    assert after.images.resolve("app:1").size == 12
    after.database.close()
