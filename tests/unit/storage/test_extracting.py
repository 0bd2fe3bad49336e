"""Unpacking into a tree in use: what is large is replaced like everything else, and nothing of it stays open."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from tests.support.images import Entry, tar
from wherry.storage import extracting
from wherry.storage.extracting import extract


def test_large_files_are_replaced_and_their_blocks_freed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extracting, "_LARGE", 4)
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(b"what was there")
    (tmp_path / "link").hardlink_to(tmp_path / "c")
    archive = tar(
        [Entry("a", b"new"), Entry("b", b"larger than it was before"), Entry("c", b""), Entry("a", b"newest")]
    )
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    before = os.listdir("/proc/self/fd")
    try:
        extract(io.BytesIO(archive), root, "/", owner=(os.geteuid(), os.getegid()))
    finally:
        os.close(root)
    contents = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert contents == {"a": b"newest", "b": b"larger than it was before", "c": b"", "link": b"what was there"}
    assert len(os.listdir("/proc/self/fd")) == len(before) - 1
