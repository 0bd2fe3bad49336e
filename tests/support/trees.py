"""Directory trees as values, to compare."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any


def inventory(root: Path, *, times: bool = True) -> dict[str, dict[str, Any]]:
    """Everything that a tree is, by path. Directories' sizes are left out; hard links are told by their first path."""
    found: dict[str, dict[str, Any]] = {}
    first: dict[tuple[int, int], str] = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        folders.sort()
        for name in [b"", *sorted([*files, *(f for f in folders if os.path.islink(os.path.join(folder, f)))])]:
            path = os.path.join(folder, name) if name else folder
            key = os.fsdecode(os.path.relpath(path, os.fsencode(root)))
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            one: dict[str, Any] = {
                "mode": oct(status.st_mode),
                "owner": (status.st_uid, status.st_gid),
                "xattrs": {
                    n: os.getxattr(path, n, follow_symlinks=False) for n in os.listxattr(path, follow_symlinks=False)
                },
            }
            if times:
                one["mtime"] = status.st_mtime_ns
            if kind == stat.S_IFREG:
                one["content"] = (status.st_size, hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest())
            elif kind == stat.S_IFLNK:
                one["target"] = os.readlink(path)
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                one["device"] = (os.major(status.st_rdev), os.minor(status.st_rdev))
            if kind != stat.S_IFDIR and status.st_nlink > 1:
                one["same as"] = first.setdefault((status.st_dev, status.st_ino), key)
            found[key] = one
    return found


def _xattrs(path: bytes) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
