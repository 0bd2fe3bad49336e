"""Images: killed at each step, and at any byte, of load, import, save, tag, rmi and prune."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.image_store import BASE, LARGER, TOP, Store, packed
from tests.support.images import digest, docker_archive, oci_archive

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
    "tag": ["images.tag.recorded"],
    "prune": ["images.remove.recorded", "snapshots.remove.renamed", "images.remove.layers-gone"],
    "remove": ["images.remove.recorded", "snapshots.remove.renamed", "images.remove.layers-gone"],
}


WHOLE = {
    "load": len(oci_archive([BASE, TOP, LARGER], "docker.io/library/app:1", compress=False)),
    "import": len(packed(LARGER, "gzip")),
    "save": len(BASE) + len(TOP),
}
BYTES = [(work, random.Random(f"{work}{n}").randrange(size)) for work, size in WHOLE.items() for n in range(8)]


def killed_while(root: Path, work: str, place: str, at: int = 1 << 40) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.image_store", str(root), work, str(at)],
        env={**os.environ, "WHERRY_FAILPOINT": place, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(("work", "place"), [(work, place) for work, places in _PLACES.items() for place in places])
async def test_killed_at(tmp_path: Path, work: str, place: str) -> None:
    await killed_and_well(tmp_path / "data", work, place)


@pytest.mark.parametrize(("work", "at"), BYTES)
async def test_killed_at_byte(tmp_path: Path, work: str, at: int) -> None:
    await killed_and_well(tmp_path / "data", work, "", at)


async def killed_and_well(root: Path, work: str, place: str, at: int = 1 << 40) -> None:
    """After the next start an image is there as a whole or not at all, and no file is left that nobody names."""
    before = Store(root)
    await before.load(docker_archive([BASE], ["base:1"]))
    kept = await before.left()
    if work in ("remove", "prune", "tag", "save"):
        await before.load(docker_archive([BASE, TOP], ["app:1"], Labels={"prune": ""}))
    before.database.close()

    killed_while(root, work, place, at)

    after = Store(root)
    await after.images.recover()
    assert after.images.resolve("base:1").diff_ids == [digest(BASE)]
    others = [image for image in after.images.all() if image.repo_tags != ["base:1"]]
    assert (len(others) == 1) if work in ("tag", "save") else len(others) <= 1
    if others:
        assert await after.save(*others[0].repo_tags)
        await after.images.remove(others[0].id, force=True)
    assert sorted(await after.left()) == sorted(kept)
    await after.load(docker_archive([BASE, TOP], ["app:1"]))
    assert after.images.resolve("app:1").size == 12
    after.database.close()
