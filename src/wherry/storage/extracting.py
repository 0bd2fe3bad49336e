"""Unpacking an archive into a tree that somebody may be using, as `cp` into a container does.

Unlike a layer: what is there stays unless the archive brings something else of that name, symlinks on the way are
followed, inside the root, and names that begin with `.wh.` are names.
"""

from __future__ import annotations

import os
import stat
import threading

from wherry.errors import SystemFailure
from wherry.linux.safepath import make_dirs_in_root, open_in_root
from wherry.model.idmaps import IdMap
from wherry.storage import tar
from wherry.storage.tar import BadArchive, Entry, Source, TarReader
from wherry.storage.writing import DIRECTORY, MAKERS, MAX_ID, OPEN_DIRS, TreeWriter, inside, set_xattr, show

_LARGE = 32 << 20  # bytes of a file whose blocks are not freed in passing


def extract(
    source: Source,
    root: int,
    directory: str,
    *,
    keep_kinds: bool = False,
    owner: tuple[int, int] | None = None,
    ids: IdMap | None = None,
) -> None:
    """Unpack the uncompressed tar into `directory`, an absolute path inside the directory that `root` opens.

    With `keep_kinds` a directory is never replaced by something else, nor something else by a directory. `ids`
    says which users of the host owners are. `owner` is
    the UID and GID of everything made, instead of the archive's; `ids` says who they are on the host. Blocking.
    Raises SystemFailure in the real engine's words.
    """
    extraction = _Extraction(root, directory, keep_kinds, owner, ids)
    try:
        reader = TarReader(source)
        for entry in reader:
            extraction.apply(entry, reader)
        extraction.finish()
    except BadArchive as error:
        raise SystemFailure(str(error)) from error
    finally:
        extraction.close()
        extraction.freed()


class _Extraction(TreeWriter):
    def __init__(
        self, root: int, directory: str, keep_kinds: bool, owner: tuple[int, int] | None, ids: IdMap | None
    ) -> None:
        super().__init__(root)
        self.directory = directory
        self.link_base = os.fsencode(directory)
        self.keep_kinds = keep_kinds
        self.owner = owner
        self.ids = ids
        self.freeing: threading.Thread | None = None
        self.times: dict[bytes, tuple[int, int]] = {}  # of directories, by path: descriptor's inode, time in ns

    def apply(self, entry: Entry, reader: TarReader) -> None:
        name = show(entry.name)
        if ".." in os.path.normpath(name.lstrip("/") or ".").split("/")[:1]:
            raise SystemFailure(f'"{os.path.normpath(name)}" is outside of "{self.directory}"')
        if not 0 <= entry.uid <= MAX_ID or not 0 <= entry.gid <= MAX_ID:
            raise SystemFailure(f"{name}: owner {entry.uid}:{entry.gid} is out of range")
        if self.owner is not None:
            entry.uid, entry.gid = self.owner
        if self.ids is not None:
            entry.uid, entry.gid = self.ids.to_host(entry.uid, entry.gid)
        parts = inside(entry.name)
        if not parts:
            return  # the directory itself stays as it is
        try:
            self._apply(entry, parts, reader)
        except OSError as error:
            raise SystemFailure(f"{os.path.join(self.directory, name)}: {(error.strerror or '').lower()}") from error

    def _apply(self, entry: Entry, parts: list[bytes], reader: TarReader) -> None:
        parent = self._parent(b"/".join(parts[:-1]))
        name = parts[-1]
        try:
            there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            there = None
        make = MAKERS.get(entry.kind)
        if there is not None:
            self._check(there, entry, b"/".join(parts))
            if stat.S_ISREG(there.st_mode) and there.st_size >= _LARGE:
                self._unlink_large(parent, name)
            elif make is not None or not stat.S_ISDIR(there.st_mode):
                self._remove(parent, name)
        if make is not None:
            make(self, parent, name, entry, reader)
        else:
            self._directory(parent, name, entry, b"/".join(parts))

    def _unlink_large(self, parent: int, name: bytes) -> None:
        """Its blocks are freed while what replaces it comes: a disk that hears of them (ext4(5), discard) is slow."""
        self.freed()
        last = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.unlink(name, dir_fd=parent)
        finally:
            self.freeing = threading.Thread(target=os.close, args=(last,), name="free blocks")
            self.freeing.start()

    def freed(self) -> None:
        """Wait until nothing that was replaced is held any more."""
        if self.freeing is not None:
            self.freeing.join()
            self.freeing = None

    def _check(self, there: os.stat_result, entry: Entry, path: bytes) -> None:
        old, new = stat.S_ISDIR(there.st_mode), entry.kind == tar.DIRECTORY
        if not self.keep_kinds or old == new:
            return
        kinds = ("directory", "non-directory") if old else ("non-directory", "directory")
        place = os.path.join(self.directory, show(path))
        raise SystemFailure(f'cannot overwrite {kinds[0]} "{place}" with {kinds[1]} "{self.directory}"')

    def _parent(self, path: bytes) -> int:
        fd = self.dirs.get(path)
        if fd is None:
            if len(self.dirs) >= OPEN_DIRS:
                self.close()
            whole = os.path.join(self.link_base, path)
            try:
                fd = open_in_root(self.root, whole, DIRECTORY)
            except FileNotFoundError:
                uid, gid = self.ids.root if self.ids else (0, 0)
                fd = make_dirs_in_root(self.root, os.fsdecode(whole), uid=uid, gid=gid)
            self.dirs[path] = fd
        return fd

    def _directory(self, parent: int, name: bytes, entry: Entry, path: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            pass
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)
            for key, value in entry.xattrs.items():
                set_xattr(fd, key, value)
            self.times[path] = os.fstat(fd).st_ino, entry.mtime_ns
        finally:
            os.close(fd)

    def finish(self) -> None:
        """Times of directories: last, so that filling them does not change them."""
        for path, (inode, time) in self.times.items():
            try:
                fd = open_in_root(self.root, os.path.join(self.link_base, path), os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue  # replaced meanwhile
            try:
                if os.fstat(fd).st_ino == inode:
                    os.utime(fd, ns=(time, time))
            finally:
                os.close(fd)
