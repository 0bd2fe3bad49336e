"""Trees that files are copied from: a root filesystem that is mounted somewhere, or a list with its contents.

Paths are bytes, relative to the tree's root, without `.` and `..`; no path ever leaves the tree, whatever symlinks say.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from wherry.errors import NotFound, SystemFailure
from wherry.linux.safepath import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from wherry.model.file_list import FileList
from wherry.storage.content import Contents

_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_LINKS = 255  # as the kernel's limit of links followed (path_resolution(7)), generously


class Node(NamedTuple):
    """What a path is; of a file in a list, also the digest of its content."""

    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: bytes = b""
    device: int = 0
    inode: tuple[int, int] | None = None  # of a file that has several names
    digest: bytes = b""

    @property
    def directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


class SourceTree(Protocol):
    """Blocking. Paths given have no symlink in their folders: `resolve` makes such ones."""

    def look(self, path: bytes) -> Node | None:
        """What a path is, without following it; None if there is nothing."""

    def names(self, path: bytes) -> Sequence[bytes]:
        """What is in a directory, in byte order."""

    def open(self, path: bytes, node: Node) -> int:
        """A descriptor of a regular file's content."""

    def xattrs(self, path: bytes, node: Node) -> dict[bytes, bytes]: ...

    def content(self, path: bytes, node: Node) -> bytes:
        """The SHA-256 of a regular file's content."""


class ListedTree:
    """The files of a list, their contents in the store."""

    def __init__(self, files: FileList, contents: Contents) -> None:
        self.files = files
        self._contents = contents

    def look(self, path: bytes) -> Node | None:
        if not path:
            return Node(stat.S_IFDIR | 0o755, 0, 0, 0, 0)
        entry = self.files.by_path.get(path)
        if entry is None:
            return None
        return Node(entry.mode, entry.uid, entry.gid, entry.size, entry.mtime_ns, entry.link, 0, None, entry.digest)

    def names(self, path: bytes) -> Sequence[bytes]:
        return self.files.names.get(path, ())

    def open(self, path: bytes, node: Node) -> int:
        return self._contents.open(node.digest, node.size)

    def xattrs(self, path: bytes, node: Node) -> dict[bytes, bytes]:
        return {}

    def content(self, path: bytes, node: Node) -> bytes:
        return node.digest


class RootTree:
    """A root filesystem, by a descriptor of its root."""

    def __init__(self, root: int) -> None:
        self._root = root

    def look(self, path: bytes) -> Node | None:
        try:
            fd = self._open(path, os.O_PATH | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            found = os.fstat(fd)
            link = os.readlink(b"", dir_fd=fd) if stat.S_ISLNK(found.st_mode) else b""
        finally:
            os.close(fd)
        shared = found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode)
        return Node(
            found.st_mode,
            found.st_uid,
            found.st_gid,
            found.st_size,
            found.st_mtime_ns,
            link,
            found.st_rdev,
            (found.st_dev, found.st_ino) if shared else None,
        )

    def names(self, path: bytes) -> Sequence[bytes]:
        fd = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return sorted(map(os.fsencode, os.listdir(fd)))
        finally:
            os.close(fd)

    def open(self, path: bytes, node: Node) -> int:
        return self._open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)

    def xattrs(self, path: bytes, node: Node) -> dict[bytes, bytes]:
        if stat.S_ISLNK(node.mode):
            return {}
        fd = self._open(path, os.O_PATH | os.O_NOFOLLOW)
        try:
            place = b"/proc/self/fd/%d" % fd
            return {os.fsencode(name): os.getxattr(place, name) for name in sorted(os.listxattr(place))}
        except OSError as error:
            if error.errno in (errno.ENOTSUP, errno.ENODATA):
                return {}
            raise
        finally:
            os.close(fd)

    def content(self, path: bytes, node: Node) -> bytes:
        with open(self.open(path, node), "rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").digest()

    def _open(self, path: bytes, flags: int) -> int:
        return openat2(self._root, path or b".", flags, resolve=_BENEATH)


def resolve(tree: SourceTree, path: bytes, *, follow: bool) -> bytes:
    """The path with every symlink on its way followed inside the tree, the last one too if `follow`.

    What is missing stays as it is written. Raises SystemFailure (too many links), NotFound (a folder is none).
    """
    pending = path.split(b"/")[::-1]
    done: list[bytes] = []
    links = 0
    while pending:
        part = pending.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            done = done[:-1]
            continue
        here = b"/".join([*done, part])
        node = tree.look(here)
        last = not any(rest not in (b"", b".") for rest in pending)
        if node is None or not stat.S_ISLNK(node.mode) or (last and not follow):
            if node is not None and not last and not node.directory:
                raise NotFound(f"{here.decode(errors='backslashreplace')}: not a directory")
            done.append(part)
            continue
        links += 1
        if links > _LINKS:
            raise SystemFailure(f"{path.decode(errors='backslashreplace')}: too many levels of symbolic links")
        if node.link.startswith(b"/"):
            done = []
        pending.extend(reversed(node.link.split(b"/")))
    return b"/".join(done)
