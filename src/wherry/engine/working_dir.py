"""The directory a container's process begins in: made if its image does not have it."""

from __future__ import annotations

import os

from wherry.errors import SystemFailure
from wherry.linux import safepath
from wherry.model.idmaps import IdMap
from wherry.model.mounts import clean


def make_working_dir(root_fd: int, asked: str, ids: IdMap | None = None) -> None:
    """Make the directory inside the root filesystem that a descriptor names; blocking.

    Raises SystemFailure in Docker's words where that cannot be.
    """
    path = clean(asked)  # an image may say anything
    try:
        os.close(safepath.open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY))
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        raise SystemFailure(f"Cannot mkdir: {path} is not a directory") from None
    except OSError as error:
        raise SystemFailure(f"Cannot mkdir: {path}: {error.strerror}") from None
    else:
        return
    try:
        uid, gid = ids.root if ids else (0, 0)
        os.close(safepath.make_dirs_in_root(root_fd, path, uid=uid, gid=gid))
    except OSError as error:
        raise SystemFailure(f"Cannot mkdir: {path}: {error.strerror}") from None
