"""A layer's tar made again from its files is the tar that was."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import SystemFailure
from wherry.storage import overlay
from wherry.storage.digesting import Digesting
from wherry.storage.recipes import RecipeWriter, Retelling
from wherry.storage.streams import Pieces

SIZES = st.one_of(st.integers(0, 3000), st.sampled_from([511, 512, 513, 1 << 18, (1 << 20) - 512, 1 << 20, 3 << 20]))


def told(place: Path, sizes: list[int]) -> bytes:
    """The tar of a tree with files of these sizes, and its recipe in `place`."""
    (place / "fs" / "folder").mkdir(parents=True)
    (place / "fs" / "link").symlink_to("folder")
    for number, size in enumerate(sizes):
        path = place / "fs" / ("folder" if number % 2 else ".") / str(number)
        path.write_bytes(hashlib.shake_128(b"%d" % number).digest(size))
    if sizes:
        os.link(place / "fs" / "0", place / "fs" / "folder" / "again")
    with closing(RecipeWriter(place / "recipe")) as recipe:
        return b"".join(overlay.diff(str(place / "fs"), recipe=recipe))


def again(place: Path, tar: bytes, step: int = 1 << 20) -> bytes:
    diff_id = "sha256:" + hashlib.sha256(tar).hexdigest()
    with Retelling(place / "recipe", place / "fs", diff_id) as file:
        found = b"".join(iter(lambda: file.read(step), b""))
        assert file.tell() == len(found)
        return found


@given(sizes=st.lists(SIZES, max_size=6), step=st.integers(1000, 1 << 21))
def test_the_same_bytes(sizes: list[int], step: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        tar = told(Path(name), sizes)
        assert again(Path(name), tar, step) == tar


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.write_bytes(b"x" * 5000), "its files in .* were changed"),
        (lambda file: file.write_bytes(b"x"), "folder/1 is too short"),
        (lambda file: file.unlink(), "folder/1: No such file"),
        (lambda file: (file.unlink(), file.symlink_to("/etc/passwd")), "folder/1: Too many levels of symbolic links"),
    ],
)
def test_files_that_were_changed_are_found_out(tmp_path: Path, damage: Callable[[Path], object], words: str) -> None:
    tar = told(tmp_path, [10, 5000])
    damage(tmp_path / "fs" / "folder" / "1")
    with pytest.raises(SystemFailure, match=words):
        again(tmp_path, tar)


def test_a_digest_computed_beside() -> None:
    pieces = [bytes([n]) * 70_000 for n in range(40)]
    with closing(Digesting(Pieces(iter(pieces)))) as source:
        while source.read(1 << 20):
            pass
        assert source.finish() == "sha256:" + hashlib.sha256(b"".join(pieces)).hexdigest()
    assert source.size == 40 * 70_000
