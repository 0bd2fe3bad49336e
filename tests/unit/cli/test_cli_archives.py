"""Where an archive that comes from the engine is put."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.cli.commands.archives import keep


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionError

    target = tmp_path / "out"
    target.write_bytes(b"before")
    with pytest.raises(ConnectionError):
        keep(broken(), str(target))
    assert target.read_bytes() == b"before" and os.listdir(tmp_path) == ["out"]
    keep([b"a", b"b"], str(target))
    assert target.read_bytes() == b"ab" and os.listdir(tmp_path) == ["out"]


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("out")
    keep([b"a"], str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink() and (tmp_path / "out").read_bytes() == b"a"


def test_what_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    """As root a device would be replaced by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    keep([b"a", b"b"], str(pipe))
    reader.join(10)
    assert read == [b"ab"] and pipe.is_fifo() and os.listdir(tmp_path) == ["pipe"]
