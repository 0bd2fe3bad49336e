"""The store of contents, used by several at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wherry.storage import content
from wherry.storage.content import Contents


def test_folders_are_left_while_others_begin_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "FOLDER", 3)
    contents = Contents(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda number: contents.put(b"%d" % number), range(300)))
    assert contents.missing(digests) == set()
    contents.collect(())
    assert list((tmp_path / "tmp").iterdir()) == []
    assert contents.missing(digests) == set(digests)
