"""Where a build's copy goes when symlinks are on its way; BuildKit follows them all, inside the root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.model.build_graph import Copy
from wherry.storage import copying
from wherry.storage.source_trees import RootTree


@pytest.fixture
def source(tmp_path: Path) -> Iterator[RootTree]:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "f").write_text("new")
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    yield RootTree(fd)
    os.close(fd)


@pytest.mark.parametrize(
    ("link", "leads_to", "destination", "made"),
    [
        ("l", "/real/old", "/l", "real/old"),
        ("e", "/nowhere/there", "/e", "nowhere/there"),
        ("d", "/lost/folder", "/d/", "lost/folder/f"),
        ("d", "/lost/folder", "/d/.", "lost/folder/f"),
        ("d", "../../../lost", "/d/name", "lost/name"),
        ("r", "/real", "/r", "real/f"),
    ],
)
def test_symlinks_on_the_way_stay_and_are_followed(
    source: RootTree, tmp_path: Path, link: str, leads_to: str, destination: str, made: str
) -> None:
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (root / "real/old").write_text("old")
    (root / link).symlink_to(leads_to)
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        copying.copy(fd, Copy(0, "/f", destination), source, (os.getuid(), os.getgid()))
    finally:
        os.close(fd)
    assert (root / made).read_text() == "new"
    assert os.readlink(root / link) == leads_to
    assert sorted(os.listdir(tmp_path)) == ["root", "source"]
