"""The client's side of a cache in a directory: files of a layout and no others, whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.client.cache_directory import CacheDirectory, NotALayout

DATA = b"layer"
PATH = f"blobs/sha256/{hashlib.sha256(DATA).hexdigest()}"


def test_written_and_read(tmp_path: Path) -> None:
    directory = CacheDirectory(str(tmp_path / "new"))
    assert not directory.has(PATH) and list(directory.read(PATH)) == []
    directory.write(PATH, [DATA])
    assert directory.has(PATH) and b"".join(directory.read(PATH)) == DATA


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "blobs/sha256/../../x", "blobs/sha256/" + "A" * 64, "a", ""])
def test_no_other_files(tmp_path: Path, path: str) -> None:
    directory = CacheDirectory(str(tmp_path))
    for work in (directory.has, lambda path: list(directory.read(path)), lambda path: directory.write(path, [b"x"])):
        with pytest.raises(NotALayout):
            work(path)
    assert list(tmp_path.iterdir()) == []


def test_other_bytes_than_the_name_says_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotALayout):
        CacheDirectory(str(tmp_path)).write(PATH, [b"other"])
    assert list((tmp_path / "blobs" / "sha256").iterdir()) == []


def test_an_engine_that_goes_away_leaves_what_was_there(tmp_path: Path) -> None:
    directory = CacheDirectory(str(tmp_path))
    directory.write("index.json", [b"first"])

    def torn() -> Iterator[bytes]:
        yield b"sec"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        directory.write("index.json", torn())
    assert b"".join(directory.read("index.json")) == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["index.json"]
