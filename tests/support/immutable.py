"""A file that nobody can delete for a while (ioctl_iflags(2), FS_IMMUTABLE_FL)."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.engine import Engine

GETFLAGS, SETFLAGS = 0x80086601, 0x40086602
IMMUTABLE = 0x10


@contextmanager
def immutable(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _set(descriptor, on=True)
        yield
    finally:
        _set(descriptor, on=False)
        os.close(descriptor)


def _set(descriptor: int, *, on: bool) -> None:
    flags = array.array("l", [0])
    fcntl.ioctl(descriptor, GETFLAGS, flags)
    flags[0] = flags[0] | IMMUTABLE if on else flags[0] & ~IMMUTABLE
    fcntl.ioctl(descriptor, SETFLAGS, flags)


def written(engine: Engine, container: str, path: str) -> Path:
    """Where a file that a running container has written lies on the host, as the engine sees it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(engine.http.path))
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    (pid,) = struct.unpack_from("i", credentials)
    for line in Path(f"/proc/{engine.state(container)['Pid']}/mountinfo").read_text().splitlines():
        if line.split()[4] == "/":
            upper = line.partition("upperdir=")[2].partition(",")[0]
            return Path(f"/proc/{pid}/root{upper}/{path}")
    raise AssertionError("no root filesystem")
