"""Writing much into a file that grows."""

from __future__ import annotations

import os

WRITE_MAX = 256 << 10
"""Bytes given to one write(2): Linux 6.18 takes four times as long for a gigabyte in writes of 1 MB to a growing file
of ext4 (docs/decisions/0020)."""


def write_all(fd: int, data: bytes | memoryview) -> None:
    """All of it. Blocking. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:WRITE_MAX]) :]
