"""The store of contents, used by several at once."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wherry.errors import NotFound
from wherry.storage import content
from wherry.storage.content import Contents
from wherry.storage.moving import Home, Moving


def test_folders_are_left_while_others_begin_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "FOLDER", 3)
    contents = Contents(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda number: contents.put(b"%d" % number), range(300)))
    assert contents.missing(digests) == set()
    contents.collect(())
    assert list((tmp_path / "tmp").iterdir()) == []
    assert contents.missing(digests) == set(digests)


def test_a_content_moves_and_is_found_where_it_is(tmp_path: Path) -> None:
    contents = Contents(tmp_path / "store")
    digests = [contents.put(data) for data in (b"one", b"two")]
    upper, layer = tmp_path / "upper", tmp_path / "layer"
    (upper / "a").mkdir(parents=True)
    for path in ("a/first", "a/second", "other"):
        (upper / path).touch()
    with Moving(contents, str(upper)) as moving:
        moving.put(digests[0], 3, b"a/first")
        moving.put(digests[1], 3, b"other")
        moving.put(digests[0], 3, b"a/second")  # a copy of the one that has moved
        upper.rename(layer)
        assert read(contents, digests[0]) == b"one"
        moving.arrived(str(layer))
    assert [(layer / path).read_bytes() for path in ("a/first", "a/second", "other")] == [b"one", b"one", b"two"]
    assert moving.moved == {b"a/first": digests[0], b"other": digests[1]}
    assert contents.missing(digests) == set() and read(contents, digests[1]) == b"two"
    again = Contents(tmp_path / "store", lambda: [(str(layer), moving.moved)])
    assert again.missing(digests) == set() and read(again, digests[1]) == b"two"
    shutil.rmtree(layer)
    assert contents.missing(digests) == again.missing(digests) == set(digests)
    contents.put(b"one")
    assert read(contents, digests[0]) == b"one"


def test_what_did_not_arrive_comes_back(tmp_path: Path) -> None:
    contents = Contents(tmp_path / "store")
    digest = contents.put(b"content")
    upper = tmp_path / "upper"
    upper.mkdir()
    (upper / "file").touch()
    with contextlib.suppress(ValueError), Moving(contents, str(upper)) as moving:
        moving.put(digest, 7, b"file")
        assert read(contents, digest, 7) == b"content"
        raise ValueError
    assert contents.missing([digest]) == set() and read(contents, digest, 7) == b"content"
    assert list(upper.iterdir()) == []


def test_between_file_systems_a_content_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = Contents(tmp_path / "store")
    digest = contents.put(b"abc")
    (tmp_path / "file").touch()

    def rename(*arguments: object, **places: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "rename", rename)
    with Moving(contents, str(tmp_path)) as moving:
        moving.put(digest, 3, b"file")
        moving.arrived(str(tmp_path))
    assert (tmp_path / "file").read_bytes() == b"abc" == read(contents, digest)
    assert moving.moved == {}


def test_a_content_that_is_damaged_is_not_moved(tmp_path: Path) -> None:
    contents = Contents(tmp_path / "store")
    digest = contents.put(b"content")
    Path(contents.path(digest)).write_bytes(b"cut")
    (tmp_path / "upper").mkdir()
    (tmp_path / "upper" / "file").touch()
    with pytest.raises(NotFound, match="damaged"), Moving(contents, str(tmp_path / "upper")) as moving:
        moving.put(digest, 7, b"file")


def read(contents: Contents, digest: bytes, size: int = 3) -> bytes:
    with open(contents.open(digest, size), "rb") as file:
        return file.read()


def test_who_looks_where_contents_were_finds_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the file of the same path in the working directory."""
    home = Home(str(tmp_path), os.open(tmp_path, os.O_PATH))
    (tmp_path / "file").write_bytes(b"another")
    home.stay("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        home.open(b"file")
    assert not home.exists()
