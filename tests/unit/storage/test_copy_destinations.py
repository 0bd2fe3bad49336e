"""Where a build's copy goes when symlinks are on its way; BuildKit follows them all, inside the root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.errors import NotFound
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


def chosen(tmp_path: Path, written: str) -> list[bytes]:
    folder = tmp_path / "tree"
    (folder / "d").mkdir(parents=True)
    (folder / "f").write_text("")
    (folder / "d/one").write_text("")
    (folder / "d/nowhere").symlink_to("gone")
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        return [item.path for item in copying.choose(RootTree(fd), Copy(0, written, "/", wildcard=True, follow=True))]
    finally:
        os.close(fd)


def test_a_wildcard_goes_into_directories_only(tmp_path: Path) -> None:
    """`f` is a file, and nothing is said of what would be in it."""
    assert chosen(tmp_path, "/?/o*") == [b"d/one"]
    (tmp_path / "again").mkdir()
    assert chosen(tmp_path / "again", "/?/one") == [b"d/one"]


def test_a_wildcard_that_finds_a_symlink_to_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match='"/d/gone": not found'):
        chosen(tmp_path, "/d/*")
