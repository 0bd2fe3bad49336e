"""How much of the disk a tree takes, as du(1) counts it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

BLOCK = 512  # bytes; the unit of st_blocks (stat(3type)) whatever the file system's block is


def disk_usage(root: str | Path, *, directories: bool = True) -> int:
    """Allocated bytes of all that is in this directory, which itself is not counted; blocking.

    Without `directories` those below are not counted either, as Docker does it: a container that wrote nothing has
    some, made for its mounts. Holes take nothing, hard links count once, symbolic links are not followed, other file
    systems not entered. What vanishes meanwhile, or never was there, is nothing.
    """
    total = 0
    seen: set[int] = set()
    with suppress(FileNotFoundError, NotADirectoryError):
        for found in _walk(str(root), os.stat(root).st_dev):
            if stat.S_ISDIR(found.st_mode):
                total += found.st_blocks * BLOCK if directories else 0
                continue
            if found.st_nlink > 1:
                if found.st_ino in seen:
                    continue
                seen.add(found.st_ino)
            total += found.st_blocks * BLOCK
    return total


def _walk(root: str, device: int) -> Iterator[os.stat_result]:
    pending = [root]
    while pending:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        if found.st_dev != device:
                            continue
                        pending.append(entry.path)
                    yield found
