"""Where a file system puts what is made in a directory."""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

# linux/fs.h, x86-64 and all other architectures with the generic ioctl encoding
FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_TOPDIR_FL = 0x00020000


def spread(directory: Path) -> None:
    """Tell the file system that the directories made in this one have nothing to do with each other (chattr(1), `T`).

    ext4 then begins each of them in a part of the disk of its own that has room, instead of next to its siblings, where
    every new file searches past those that are there or were just deleted. File systems without such a choice do not
    mind being told.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            (flags,) = struct.unpack("l", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8)))
            if not flags & FS_TOPDIR_FL:
                fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("l", flags | FS_TOPDIR_FL))
    finally:
        os.close(fd)
