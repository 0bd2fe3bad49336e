"""Contents that have moved from their store into a layer, which then is where they are found."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

from wherry.linux.safepath import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from wherry.model.failpoints import failpoint
from wherry.storage.trees import copy_content

if TYPE_CHECKING:
    from wherry.storage.content import Contents

_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS


class Home:
    """A directory with contents: by a descriptor as long as it may be renamed, by its path from then on."""

    def __init__(self, path: str, fd: int = -1) -> None:
        self._path = path
        self._fd = fd
        self._lock = threading.Lock()

    def open(self, path: bytes) -> int:
        """A descriptor for reading. Raises OSError."""
        with self._lock:
            if self._fd >= 0:
                return openat2(self._fd, path, os.O_RDONLY, resolve=_BENEATH)
        if not self._path:
            raise FileNotFoundError(errno.ENOENT, "the contents have gone back", path)
        return os.open(os.path.join(os.fsencode(self._path), path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def stay(self, path: str) -> None:
        """It will not be renamed any more; "" if nothing is in it any more."""
        with self._lock:
            self._path = path
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def exists(self) -> bool:
        return self._fd >= 0 or os.path.exists(self._path)


class Moving:
    """Contents on their way into one directory; leaving the block without `arrived` brings them back.

        with Moving(contents, upper) as moving:
            moving.put(digest, size, b"folder/name")      # an empty file, which becomes one with that content
            ...
            moving.arrived(layer)

    Blocking, and not from several threads. Whoever reads one of the contents meanwhile finds it all along.
    """

    def __init__(self, contents: Contents, directory: str) -> None:
        self._contents = contents
        self._root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._home = Home(directory, os.dup(self._root))
        self._folder = b""
        self._folder_fd = os.dup(self._root)
        self._arrived = False
        self.moved: dict[bytes, bytes] = {}  # digests by path

    def put(self, digest: bytes, size: int, path: bytes) -> tuple[int, bytes]:
        """Returns the folder's descriptor, good until the next call, and the name in it. The file's owner and mode are
        as the store has them. Raises NotFound (content), OSError."""
        folder, _, name = path.rpartition(b"/")
        if folder != self._folder:
            opened = openat2(self._root, folder or b".", os.O_PATH | os.O_DIRECTORY, resolve=_BENEATH)
            os.close(self._folder_fd)
            self._folder, self._folder_fd = folder, opened
        if self._contents.move(digest, size, self._folder_fd, name, self._home, path):
            self.moved[path] = digest
            failpoint("contents.move.moved")
        else:
            self._copy(digest, size, name)
        return self._folder_fd, name

    def _copy(self, digest: bytes, size: int, name: bytes) -> None:
        reading = self._contents.open(digest, size)
        try:
            writing = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder_fd)
            try:
                copy_content(reading, writing, size)
            finally:
                os.close(writing)
        finally:
            os.close(reading)

    def arrived(self, directory: str) -> None:
        """The directory, or one with the same files, is now there for good."""
        self._home.stay(directory)
        self._arrived = True

    def __enter__(self) -> Moving:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if not self._arrived:
                for path, digest in self.moved.items():
                    self._contents.move_back(digest, self._root, path)
                self._home.stay("")
        finally:
            os.close(self._folder_fd)
            os.close(self._root)


def elsewhere(error: OSError) -> bool:
    """A rename failed because the file has gone, or because the directories are on different file systems."""
    return error.errno in (errno.ENOENT, errno.EXDEV)
