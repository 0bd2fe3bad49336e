"""Users of an image: its /etc/passwd and /etc/group, read out of a directory that is not to be trusted."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from wherry.errors import SystemFailure
from wherry.linux import safepath
from wherry.model import users
from wherry.model.users import ResolvedUser

LIMIT = 16 * 1024 * 1024  # bytes; beyond it a file is no list of users


def read_in_root(root_fd: int, path: str, limit: int) -> bytes:
    """A regular file below `root_fd`, symlinks followed inside it; b"" where there is none.

    Raises SystemFailure for one that is larger than `limit` bytes or cannot be read. Never blocks on a FIFO or device.
    """
    try:
        descriptor = safepath.open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise SystemFailure(f"cannot read {path} of the image: {error.strerror}") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        what = "is a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise SystemFailure(f"cannot read {path} of the image: {what}")
    with os.fdopen(descriptor, "rb") as file:
        text = file.read(limit + 1)
    if len(text) > limit:
        raise SystemFailure(f"cannot read {path} of the image: larger than {limit} bytes")
    return text


def resolve(root_fd: int, user: str, group_add: Sequence[str] | None) -> ResolvedUser:
    """`wherry.model.users.resolve` by the files of the root filesystem open at `root_fd`. Blocking, briefly."""
    try:
        passwd, group = (
            read_in_root(root_fd, path, LIMIT).decode(errors="surrogateescape")
            for path in ("/etc/passwd", "/etc/group")
        )
    except SystemFailure as error:
        raise SystemFailure(f"unable to find user {user or 0}: {error}") from None
    return users.resolve(user, group_add, passwd, group)
