"""Sealed copies of programs: files in memory that nobody can change (memfd_create(2), fcntl(2) F_ADD_SEALS).

A runtime guards itself against being overwritten from inside a container (CVE-2019-5736) by copying itself into such a
file and executing that, at each call. Executed from a sealed copy in the first place it has nothing to do.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

F_ADD_SEALS = 1033
SEALS = 0x1 | 0x2 | 0x4 | 0x8  # against further seals, shrinking, growing, writing


def sealed_copy(program: Path) -> int:
    """A descriptor of a sealed copy of a program (close-on-exec). Others run it as /proc/PID/fd/N while it is open.

    Raises OSError.
    """
    descriptor = os.memfd_create(program.name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(program, "rb") as source, open(descriptor, "wb", closefd=False) as copy:
            shutil.copyfileobj(source, copy)
        fcntl.fcntl(descriptor, F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
