"""Applying a layer's tar to a directory, in the form overlayfs wants (OCI image-spec layer.md).

However hostile the tar, nothing outside the directory is touched: every parent is opened by the kernel with the
directory as its root (linux/safepath.py), and the last component is only ever created, removed or linked relative to
that descriptor, never followed. Whiteouts become character devices 0:0, opaque directories the xattr
trusted.overlay.opaque (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").
"""

from __future__ import annotations

import errno
import os
import pickle
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from wherry.errors import InvalidParameter, SystemFailure
from wherry.linux.safepath import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, open_in_root, openat2
from wherry.storage import tar
from wherry.storage.tar import Entry, Source, TarReader
from wherry.storage.writing import (
    DIRECTORY,
    MAKERS,
    MAX_ID,
    OPEN_DIRS,
    TreeWriter,
    explained,
    finish_directory,
    inside,
    show,
)

_WHITEOUT = b".wh."
_WHITEOUT_META = b".wh..wh."
_OPAQUE = b".wh..wh..opq"
_WHITEOUT_DEVICE = os.makedev(0, 0)
_OPAQUE_XATTR = b"trusted.overlay.opaque"
_MARKS_MAX = 200_000
_RECENT_MAX = 20_000


@dataclass(frozen=True)
class Unpacked:
    """What `unpack` made. `implied`: directories that the tar names children of but leaves out; see `inherit`."""

    size: int  # bytes of the files
    implied: tuple[bytes, ...]


def unpack(source: Source, target: str) -> Unpacked:
    """Apply an uncompressed layer tar to the empty directory `target`. Reads `source` to its very end. Blocking.

    Raises InvalidParameter for a tar that is broken or reaches out of the layer, SystemFailure when the disk fails.
    """
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        layer = _Layer(root)
        try:
            reader = TarReader(source)
            for entry in reader:
                layer.apply(entry, reader)
            layer.finish()
        finally:
            layer.close()
            layer.attributes.close()
        return Unpacked(layer.size, tuple(layer.implied))
    finally:
        os.close(root)


def inherit(target: str, implied: Iterable[bytes], lowers: Sequence[str]) -> None:
    """Owner and mode for directories the tar left out: those of the layers below (top first), else root's 0755.

    Blocking. Raises SystemFailure.
    """
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in implied:
            fd = _open_beneath(root, path)
            if fd is None:
                continue
            try:
                _inherit(fd, path, lowers)
            except OSError as error:
                raise SystemFailure(f"unpacking {show(path)}: {error.strerror}") from error
            finally:
                os.close(fd)
    finally:
        os.close(root)


def _inherit(fd: int, path: bytes, lowers: Sequence[str]) -> None:
    for lower in lowers:
        below = os.open(lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = openat2(below, path or b".", DIRECTORY, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        except FileNotFoundError:
            continue
        except OSError:
            break  # a whiteout, a file or a symlink: what is below is hidden
        finally:
            os.close(below)
        try:
            like = os.fstat(found)
        finally:
            os.close(found)
        os.fchown(fd, like.st_uid, like.st_gid)
        os.fchmod(fd, stat.S_IMODE(like.st_mode))
        return
    os.fchmod(fd, 0o755)


def _open_beneath(root: int, path: bytes) -> int | None:
    """A directory of the layer; None where something else took its place later in the tar."""
    try:
        return openat2(root, path or b".", os.O_RDONLY | os.O_DIRECTORY, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise SystemFailure(f"unpacking {show(path)}: {error.strerror}") from error


class _Layer(TreeWriter):
    def __init__(self, root: int) -> None:
        super().__init__(root)
        self.implied: set[bytes] = set()
        self.attributes = _Postponed(root)
        self.opaque: set[bytes] = set()

    def apply(self, entry: Entry, reader: TarReader) -> None:
        try:
            self._apply(entry, reader)
        except OSError as error:
            raise explained(error, entry) from error

    def _apply(self, entry: Entry, reader: TarReader) -> None:
        parts = inside(entry.name)
        if not 0 <= entry.uid <= MAX_ID or not 0 <= entry.gid <= MAX_ID:
            raise InvalidParameter(f"{show(entry.name)}: owner {entry.uid}:{entry.gid} is out of range")
        if not parts:
            if entry.kind == tar.DIRECTORY:
                self.attributes.put(b"", entry)
            return
        name = parts.pop()
        parent_path = b"/".join(parts)
        parent = self.dirs.get(parent_path)
        if parent is None:
            parent = self._open_parent(parent_path, parts)
        if name.startswith(_WHITEOUT):
            self._whiteout(parent, parent_path, name, entry)
            return
        make = MAKERS.get(entry.kind)
        path = parent_path + b"/" + name if parent_path else name
        if make is None:
            self._directory(parent, name, path, entry)
            return
        try:
            make(self, parent, name, entry, reader)
        except FileExistsError:
            if entry.kind == tar.LINK and path == b"/".join(inside(entry.link)):
                return  # a link to itself
            self._remove(parent, name)
            make(self, parent, name, entry, reader)

    # parents

    def _open_parent(self, path: bytes, parts: list[bytes]) -> int:
        if len(self.dirs) >= OPEN_DIRS:
            self.close()
        try:
            fd = open_in_root(self.root, path or b".", DIRECTORY)
        except FileNotFoundError:
            fd = self._make_parents(parts)
        except NotADirectoryError:
            fd = self._make_parents(parts)
        self.dirs[path] = fd
        return fd

    def _make_parents(self, parts: list[bytes]) -> int:
        current = open_in_root(self.root, b".", DIRECTORY)
        for depth, part in enumerate(parts, start=1):
            path = b"/".join(parts[:depth])
            try:
                try:
                    following = open_in_root(self.root, path, DIRECTORY)
                except (FileNotFoundError, NotADirectoryError):
                    self._imply(current, part, path)
                    following = open_in_root(self.root, path, DIRECTORY)
            finally:
                os.close(current)
            current = following
        return current

    def _imply(self, parent: int, name: bytes, path: bytes) -> None:
        """A directory that the tar does not mention (yet). A whiteout there means: a new directory replaces the old."""
        if _is_whiteout(parent, name):
            os.unlink(name, dir_fd=parent)
            self._mark(self.opaque, path)
        os.mkdir(name, 0o700, dir_fd=parent)
        self.attributes.imply(path)

    # entries

    def _directory(self, parent: int, name: bytes, path: bytes, entry: Entry) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                if stat.S_ISCHR(found.st_mode) and found.st_rdev == _WHITEOUT_DEVICE:
                    self._mark(self.opaque, path)
                self._remove(parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
        self.attributes.put(path, entry)

    def _whiteout(self, parent: int, parent_path: bytes, name: bytes, entry: Entry) -> None:
        if name == _OPAQUE:
            self._mark(self.opaque, parent_path)
            return
        if name.startswith(_WHITEOUT_META):
            return  # aufs's own bookkeeping (.wh..wh.aufs, .wh..wh.plnk, .wh..wh.orph)
        hidden = name[len(_WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise InvalidParameter(f"invalid whiteout in layer: {show(entry.name)}")
        try:
            os.mknod(hidden, stat.S_IFCHR, _WHITEOUT_DEVICE, dir_fd=parent)
        except FileExistsError:
            # a whiteout hides lower layers only; what this layer itself brings stays
            found = os.stat(hidden, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                self._mark(self.opaque, parent_path + b"/" + hidden if parent_path else hidden)

    # the end

    def finish(self) -> None:
        """Owners, modes, xattrs and times of directories: last, so that filling them does not change them."""
        self.attributes.imply(b"")
        for path, entry in self.attributes.all():
            if entry is not None:
                self._settle(path, lambda fd, entry=entry: finish_directory(fd, entry))  # type: ignore[misc]
            else:
                self._mark(self.implied, path)
        for path in self.opaque:
            self._settle(path, lambda fd: os.setxattr(fd, _OPAQUE_XATTR, b"y"))

    def _settle(self, path: bytes, change: Callable[[int], None]) -> None:
        fd = _open_beneath(self.root, path)
        if fd is None:
            return
        try:
            change(fd)
        except OSError as error:
            raise SystemFailure(f"unpacking {show(path)}: {error.strerror}") from error
        finally:
            os.close(fd)

    def _mark(self, marked: set[bytes], path: bytes) -> None:
        """Raises InvalidParameter for more than anybody has, before they fill the memory."""
        marked.add(path)
        if len(marked) > _MARKS_MAX:
            raise InvalidParameter(f"a layer with more than {_MARKS_MAX} directories that are opaque or not in the tar")


class _Postponed:
    """What directories of the layer are to become, by path, in order; None: implied, not in the tar.

    Hostile tars have millions: most of them wait in a file without a name.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._recent: dict[bytes, Entry | None] = {}
        self._rest: IO[bytes] | None = None
        self._seen_root = False

    def put(self, path: bytes, entry: Entry) -> None:
        self._seen_root = self._seen_root or not path
        self._recent[path] = entry
        self._spill()

    def imply(self, path: bytes) -> None:
        """Unless the tar said something of it."""
        if path or not self._seen_root:
            self._recent.setdefault(path, None)
            self._spill()

    def all(self) -> Iterator[tuple[bytes, Entry | None]]:
        if self._rest is not None:
            self._rest.seek(0)
            with suppress(EOFError):
                while True:
                    yield from pickle.load(self._rest)
        yield from self._recent.items()

    def close(self) -> None:
        if self._rest is not None:
            self._rest.close()

    def _spill(self) -> None:
        if len(self._recent) < _RECENT_MAX:
            return
        if self._rest is None:
            self._rest = tempfile.TemporaryFile(dir=f"/proc/self/fd/{self._root}")
        pickle.dump(list(self._recent.items()), self._rest)
        self._recent.clear()


def _is_whiteout(parent: int, name: bytes) -> bool:
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == _WHITEOUT_DEVICE
