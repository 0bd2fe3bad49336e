"""Window sizes, through the monitor's control FIFO."""

from __future__ import annotations

import errno
import os
from pathlib import Path

RESIZE = 1  # conmon's message number


def resize_terminal(bundle: Path, height: int, width: int) -> None:
    """Set the size of the terminal that the monitor of a bundle holds; without one nothing happens, as in Docker."""
    try:
        control = os.open(bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):  # it is ending
            return
        raise
    try:
        os.write(control, f"{RESIZE} {height} {width}\n".encode())
    finally:
        os.close(control)
