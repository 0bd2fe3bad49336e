"""What `cp` copies where: pure rules, and archives on this side."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from wherry.cli.commands.cp import Target, prepare, rebased, split_argument, split_entry
from wherry.cli.errors import Failure
from wherry.cli.tarball import pack, unpack
from wherry.model import paths


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("c:/x", ("c", "/x")),
        ("/a:b", ("", "/a:b")),
        ("./a:b", ("", "./a:b")),
        ("plain", ("", "plain")),
        ("c:", ("c", "")),
    ],
)
def test_arguments(text: str, parts: tuple[str, str]) -> None:
    assert split_argument(text) == parts


@pytest.mark.parametrize(
    ("path", "parts"),
    [("/a/b", ("/a", "b")), ("/a/b/", ("/a", "b")), ("/a/b/.", ("/a/b", ".")), ("/a", ("/", "a")), ("x", (".", "x"))],
)
def test_entries(path: str, parts: tuple[str, str]) -> None:
    assert split_entry(path) == parts


def test_rebased() -> None:
    assert rebased("/x/link", "/y/file") == ("/y/file", "link")
    assert rebased("/x/link/", "/y/link") == ("/y/link/", "")
    assert rebased("/x/link/.", "/y/dir") == ("/y/dir/.", "")


def test_where_to() -> None:
    directory, rename = prepare("a", "", False, Target("/d", True, True))
    assert (directory, rename("a")) == ("/d", "a")
    directory, rename = prepare("a", "", False, Target("/d/new"))
    assert (directory, rename("a")) == ("/d", "new")
    directory, rename = prepare("a", "", True, Target("/d/new/"))
    assert (directory, rename("a/in")) == ("/d", "new/in")
    with pytest.raises(Failure, match="cannot copy directory"):
        prepare("a", "", True, Target("/d/file", True))
    with pytest.raises(Failure, match="no such directory"):
        prepare("a", "", False, Target("/d/new/"))


def test_there_and_back(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub").mkdir(parents=True)
    (source / "file").write_bytes(b"content" * 1000)
    os.link(source / "file", source / "sub" / "again")
    os.symlink("nowhere", source / "link")
    os.chmod(source / "sub", 0o750)
    target.mkdir()
    archive = io.BytesIO(b"".join(pack(str(tmp_path), "source", "source")))
    unpack(archive, str(target), lambda name: name.replace("source", "copy", 1))
    copy = target / "copy"
    assert (copy / "sub" / "again").read_bytes() == b"content" * 1000
    assert (copy / "sub" / "again").stat().st_ino == (copy / "file").stat().st_ino
    assert os.readlink(copy / "link") == "nowhere"
    assert (copy / "sub").stat().st_mode & 0o777 == 0o750


def hostile(*members: tuple[str, str]) -> io.BytesIO:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, link in members:
            info = tarfile.TarInfo(name)
            if link:
                info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info)
    made.seek(0)
    return made


def test_an_archive_stays_where_it_is_unpacked(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    for archive in (hostile(("../out", "")), hostile(("link", str(tmp_path)), ("link/out", ""))):
        with pytest.raises(Failure):
            unpack(archive, str(inside), lambda name: name)
    assert os.listdir(tmp_path) == ["inside"]


@pytest.mark.parametrize(
    ("path", "whole"), [("x", "/x"), ("/x/", "/x/"), ("/x/.", "/x/."), ("/", "/"), ("/../x/..", "/"), ("//x", "/x")]
)
def test_paths_in_containers(path: str, whole: str) -> None:
    assert paths.absolute(path) == whole


def test_modes_as_go_numbers_them() -> None:
    assert paths.go_mode(0o120777) == 134218239
    assert paths.go_mode(0o041777) == (1 << 31) | (1 << 20) | 0o777
