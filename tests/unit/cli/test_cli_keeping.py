"""Where answers that are archives are written to."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.cli.commands.archives import keep


def broken() -> Iterator[bytes]:
    yield b"a"
    raise OSError("the connection broke")


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out.tar"
    with pytest.raises(OSError, match="broke"):
        keep(broken(), str(target))
    assert list(tmp_path.iterdir()) == []
    target.write_bytes(b"before")
    keep([b"a", b"b"], str(target))
    assert target.read_bytes() == b"ab"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600  # whatever it was, as Docker's client


def test_what_is_no_file_stays_what_it_is(tmp_path: Path) -> None:
    """Such as /dev/null, which root could replace."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "link"
    link.symlink_to(pipe)
    taken: list[bytes] = []
    for target in (pipe, link):
        reading = threading.Thread(target=lambda: taken.append(pipe.read_bytes()))
        reading.start()
        keep([b"a", b"b"], str(target))
        reading.join()
    assert taken == [b"ab", b"ab"] and stat.S_ISFIFO(pipe.stat().st_mode) and link.is_symlink()
