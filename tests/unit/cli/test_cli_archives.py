"""Where `save` and `export` may put their file."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from wherry.cli.commands.archives import check_target, keep
from wherry.cli.errors import Failure


def test_a_file_takes_the_place_of_another_and_of_nothing_else(tmp_path: Path) -> None:
    """Root could replace /dev/null by a file."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("file")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    refused = {
        "folder": "cannot write to a directory",
        "fifo": "cannot write to a named pipe (FIFO)",
        "link": "cannot write to a symbolic link directly",
        "socket": "cannot write to a socket",
        "missing/x": f"invalid output path: stat {tmp_path}/missing: no such file or directory",
        "/dev/null": "cannot write to a character device file",
    }
    for name, why in refused.items():
        with pytest.raises(Failure) as failed:
            check_target(str(tmp_path / name), "failed to save image")
        assert str(failed.value) == f"failed to save image: {why}"
    target = str(tmp_path / "file")
    for content in (b"one", b"two"):
        check_target(target, "failed to save image")
        keep([content], target)
        assert Path(target).read_bytes() == content
