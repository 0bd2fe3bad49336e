"""Archives that skopeo writes, by the code that Podman and Buildah write theirs with, and what it makes of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.image_store import BASE, TOP, Store
from tests.support.images import docker_archive
from wherry.errors import InvalidParameter

SKOPEO = os.environ.get("TEST_SKOPEO") or shutil.which("skopeo")


@pytest.fixture
async def saved(store: Store, tmp_path: Path) -> Path:
    """Our own archive of app:1."""
    if not SKOPEO:
        pytest.skip("probe skopeo: it is not installed, and TEST_SKOPEO names no other")
    await store.load(docker_archive([BASE, TOP], ["app:1"], Env=["A=b"]))
    path = tmp_path / "saved.tar"
    path.write_bytes(await store.save("app:1"))
    return path


def copy(source: str, target: str) -> None:
    done = subprocess.run([SKOPEO or "", "--insecure-policy", "copy", source, target], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("docker-archive:{}:docker.io/library/app:2", ["app:2"]),
        ("docker-archive:{}:localhost/team/app:2", ["localhost/team/app:2"]),
        ("docker-archive:{}", []),
        ("oci-archive:{}:localhost/team/app:2", ["localhost/team/app:2"]),
        ("oci-archive:{}", []),
    ],
)
async def test_its_archives(store: Store, saved: Path, tmp_path: Path, target: str, shown: list[str]) -> None:
    copy(f"docker-archive:{saved}", target.format(tmp_path / "copy.tar"))
    other = Store(tmp_path / "other")
    await other.load((tmp_path / "copy.tar").read_bytes())
    (image,) = other.images.all()
    assert image.repo_tags == shown
    assert (image.diff_ids, image.config.env) == (store.images.resolve("app:1").diff_ids, ["A=b"])
    other.database.close()


async def test_its_directories(store: Store, saved: Path, tmp_path: Path) -> None:
    copy(f"docker-archive:{saved}", f"dir:{tmp_path / 'folder'}")
    archive = tmp_path / "folder.tar"
    with tarfile.open(archive, "w") as packed:
        packed.add(tmp_path / "folder", ".")
    before = await store.left()
    with pytest.raises(InvalidParameter, match=r"transport dir: .* skopeo copy dir:FOLDER docker-archive:"):
        await store.load(archive.read_bytes())
    assert await store.left() == before
