"""Applying a layer's tar to a directory, in the form overlayfs wants (OCI image-spec layer.md).

However hostile the tar, nothing outside the directory is touched: every parent is opened by the kernel with the
directory as its root (linux/safepath.py), and the last component is only ever created, removed or linked relative to
that descriptor, never followed. Whiteouts become character devices 0:0, opaque directories the xattr
trusted.overlay.opaque (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Sequence

from wherry.errors import InvalidParameter, SystemFailure
from wherry.linux.safepath import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, open_in_root, openat2
from wherry.storage import tar
from wherry.storage.tar import Entry, Source, TarReader

_WHITEOUT = b".wh."
_WHITEOUT_META = b".wh..wh."
_OPAQUE = b".wh..wh..opq"
_WHITEOUT_DEVICE = os.makedev(0, 0)
_OPAQUE_XATTR = b"trusted.overlay.opaque"
# overlayfs's own bookkeeping: a layer that could write it would redirect directories or forge whiteouts
_FORBIDDEN_XATTRS = (b"trusted.overlay.", b"user.overlay.")
_MAX_ID = 2**32 - 2  # -1 means "leave it" to chown(2)
_OPEN_DIRS = 256
_DIR = os.O_PATH | os.O_DIRECTORY
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def unpack(source: Source, target: str, *, lowers: Sequence[str] = ()) -> int:
    """Apply an uncompressed layer tar to the empty directory `target`; returns the bytes its files take.

    `lowers` are the unpacked layers below, top first: directories that the tar leaves out but names children of take
    their owner and mode from there. Reads `source` to its very end. Blocking.
    Raises InvalidParameter for a tar that is broken or reaches out of the layer, SystemFailure when the disk fails.
    """
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        layer = _Layer(root, lowers)
        try:
            reader = TarReader(source)
            for entry in reader:
                layer.apply(entry, reader)
            layer.finish()
        finally:
            layer.close()
        return layer.size
    finally:
        os.close(root)


class _Layer:
    def __init__(self, root: int, lowers: Sequence[str]) -> None:
        self.root = root
        self.lowers = lowers
        self.size = 0
        self.dirs: dict[bytes, int] = {}  # open parents
        self.attributes: dict[bytes, Entry | None] = {}  # of directories, set last; None: implied, not in the tar
        self.opaque: set[bytes] = set()
        self.umask = _umask()
        self.uid, self.gid = os.geteuid(), os.getegid()

    def close(self) -> None:
        for fd in self.dirs.values():
            os.close(fd)
        self.dirs.clear()

    def apply(self, entry: Entry, reader: TarReader) -> None:
        try:
            self._apply(entry, reader)
        except OSError as error:
            raise _explained(error, entry) from error

    def _apply(self, entry: Entry, reader: TarReader) -> None:
        parts = _inside(entry.name)
        if not 0 <= entry.uid <= _MAX_ID or not 0 <= entry.gid <= _MAX_ID:
            raise InvalidParameter(f"{_show(entry.name)}: owner {entry.uid}:{entry.gid} is out of range")
        if not parts:
            if entry.kind == tar.DIRECTORY:
                self.attributes[b""] = entry
            return
        name = parts.pop()
        parent_path = b"/".join(parts)
        parent = self.dirs.get(parent_path)
        if parent is None:
            parent = self._open_parent(parent_path, parts)
        if name.startswith(_WHITEOUT):
            self._whiteout(parent, parent_path, name, entry)
            return
        make = _MAKERS.get(entry.kind)
        path = parent_path + b"/" + name if parent_path else name
        if make is None:
            self._directory(parent, name, path, entry)
            return
        try:
            make(self, parent, name, entry, reader)
        except FileExistsError:
            if entry.kind == tar.LINK and path == b"/".join(_inside(entry.link)):
                return  # a link to itself
            self._remove(parent, name)
            make(self, parent, name, entry, reader)

    # parents

    def _forget_dirs(self, parent: int) -> None:
        """Paths may lead elsewhere now; the folder at hand is still that folder."""
        for path, fd in list(self.dirs.items()):
            if fd != parent:
                os.close(fd)
                del self.dirs[path]

    def _open_parent(self, path: bytes, parts: list[bytes]) -> int:
        if len(self.dirs) >= _OPEN_DIRS:
            self.close()
        try:
            fd = open_in_root(self.root, path or b".", _DIR)
        except FileNotFoundError:
            fd = self._make_parents(parts)
        except NotADirectoryError:
            fd = self._make_parents(parts)
        self.dirs[path] = fd
        return fd

    def _make_parents(self, parts: list[bytes]) -> int:
        current = open_in_root(self.root, b".", _DIR)
        for depth, part in enumerate(parts, start=1):
            path = b"/".join(parts[:depth])
            try:
                try:
                    following = open_in_root(self.root, path, _DIR)
                except (FileNotFoundError, NotADirectoryError):
                    self._imply(current, part, path)
                    following = open_in_root(self.root, path, _DIR)
            finally:
                os.close(current)
            current = following
        return current

    def _imply(self, parent: int, name: bytes, path: bytes) -> None:
        """A directory that the tar does not mention (yet). A whiteout there means: a new directory replaces the old."""
        if _is_whiteout(parent, name):
            os.unlink(name, dir_fd=parent)
            self.opaque.add(path)
        os.mkdir(name, 0o700, dir_fd=parent)
        self.attributes.setdefault(path, None)

    # entries

    def _directory(self, parent: int, name: bytes, path: bytes, entry: Entry) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                if stat.S_ISCHR(found.st_mode) and found.st_rdev == _WHITEOUT_DEVICE:
                    self.opaque.add(path)
                self._remove(parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
        self.attributes[path] = entry

    def _file(self, parent: int, name: bytes, entry: Entry, reader: TarReader) -> None:
        mode = entry.mode
        fd = os.open(name, _CREATE, mode & 0o777, dir_fd=parent)
        try:
            if entry.size:
                reader.write_to(fd, entry)
                self.size += entry.size
            if entry.uid != self.uid or entry.gid != self.gid:
                os.fchown(fd, entry.uid, entry.gid)
            if mode & (0o7000 | self.umask):
                os.fchmod(fd, mode)
            for key, value in entry.xattrs.items():
                _set_xattr(fd, key, value)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _symlink(self, parent: int, name: bytes, entry: Entry, reader: TarReader) -> None:
        os.symlink(entry.link, name, dir_fd=parent)
        self.size += len(entry.link)
        self._own(parent, name, entry)

    def _link(self, parent: int, name: bytes, entry: Entry, reader: TarReader) -> None:
        *parts, source = _inside(entry.link) or [b"."]
        try:
            directory = open_in_root(self.root, b"/".join(parts) or b".", _DIR)
        except OSError as error:
            raise _no_target(entry) from error
        try:
            os.link(source, name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            raise _no_target(entry) from error
        finally:
            os.close(directory)

    def _special(self, parent: int, name: bytes, entry: Entry, reader: TarReader) -> None:
        kind = {tar.CHARACTER: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}[entry.kind]
        device = 0 if kind == stat.S_IFIFO else os.makedev(entry.major, entry.minor)
        os.mknod(name, kind | (entry.mode & 0o777), device, dir_fd=parent)
        self._own(parent, name, entry)

    def _own(self, parent: int, name: bytes, entry: Entry) -> None:
        """Owner, mode, xattrs and time of what cannot be opened. Nobody else reaches this folder meanwhile."""
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind != tar.SYMLINK:
            os.chmod(name, entry.mode, dir_fd=parent)
        for key, value in entry.xattrs.items():
            _set_xattr(b"/proc/self/fd/%d/%s" % (parent, name), key, value)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _whiteout(self, parent: int, parent_path: bytes, name: bytes, entry: Entry) -> None:
        if name == _OPAQUE:
            self.opaque.add(parent_path)
            return
        if name.startswith(_WHITEOUT_META):
            return  # aufs's own bookkeeping (.wh..wh.aufs, .wh..wh.plnk, .wh..wh.orph)
        hidden = name[len(_WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise InvalidParameter(f"invalid whiteout in layer: {_show(entry.name)}")
        try:
            os.mknod(hidden, stat.S_IFCHR, _WHITEOUT_DEVICE, dir_fd=parent)
        except FileExistsError:
            # a whiteout hides lower layers only; what this layer itself brings stays
            found = os.stat(hidden, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                self.opaque.add(parent_path + b"/" + hidden if parent_path else hidden)

    def _remove(self, parent: int, name: bytes) -> None:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            shutil.rmtree(name, dir_fd=parent)
            self._forget_dirs(parent)
        else:
            if found.st_nlink == 1 and (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
                self.size -= found.st_size
            os.unlink(name, dir_fd=parent)
            if stat.S_ISLNK(found.st_mode):
                self._forget_dirs(parent)

    # the end

    def finish(self) -> None:
        """Owners, modes, xattrs and times of directories: last, so that filling them does not change them."""
        for path in self.opaque - self.attributes.keys():
            self.attributes[path] = None
        self.attributes.setdefault(b"", None)
        for path, entry in self.attributes.items():
            try:
                fd = openat2(
                    self.root,
                    path or b".",
                    os.O_RDONLY | os.O_DIRECTORY,
                    resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
                )
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    continue  # replaced by something else later in the tar
                raise SystemFailure(f"unpacking {_show(path)}: {error.strerror}") from error
            try:
                if entry is not None:
                    _finish_directory(fd, entry)
                else:
                    self._inherit(fd, path)
                if path in self.opaque:
                    os.setxattr(fd, _OPAQUE_XATTR, b"y")
            except OSError as error:
                raise SystemFailure(f"unpacking {_show(path)}: {error.strerror}") from error
            finally:
                os.close(fd)

    def _inherit(self, fd: int, path: bytes) -> None:
        """Owner and mode for a directory the tar leaves out: those of the layers below, else root's 0755."""
        for lower in self.lowers:
            try:
                found = os.lstat(os.path.join(os.fsencode(lower), path))
            except OSError:
                continue
            if stat.S_ISDIR(found.st_mode):
                os.fchown(fd, found.st_uid, found.st_gid)
                os.fchmod(fd, stat.S_IMODE(found.st_mode))
                return
            break  # a whiteout or a file: what is below is hidden
        os.fchmod(fd, 0o755)


_MAKERS = {
    tar.REGULAR: _Layer._file,
    tar.SYMLINK: _Layer._symlink,
    tar.LINK: _Layer._link,
    tar.CHARACTER: _Layer._special,
    tar.BLOCK_DEVICE: _Layer._special,
    tar.FIFO: _Layer._special,
}


def _finish_directory(fd: int, entry: Entry) -> None:
    os.fchown(fd, entry.uid, entry.gid)
    os.fchmod(fd, entry.mode)
    for key, value in entry.xattrs.items():
        _set_xattr(fd, key, value)
    os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))


def _set_xattr(target: int | bytes, key: bytes, value: bytes) -> None:
    """As other engines: a file system that does not know the attribute does not spoil the image."""
    if key.startswith(_FORBIDDEN_XATTRS):
        return
    try:
        if isinstance(target, int):
            os.setxattr(target, key, value)
        else:
            os.setxattr(target, key, value, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise


def _inside(name: bytes) -> list[bytes]:
    """The components of a name with the layer as root. Raises InvalidParameter where `..` leads out of it."""
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"" or part == b".":
            continue
        if part == b"..":
            if not parts:
                raise InvalidParameter(f"{_show(name)!r} is outside of the layer")
            parts.pop()
        else:
            parts.append(part)
    return parts


def _is_whiteout(parent: int, name: bytes) -> bool:
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == _WHITEOUT_DEVICE


def _umask() -> int:
    """The process's umask, read without changing it for the other threads (proc(5), Linux 4.7)."""
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o777


def _no_target(entry: Entry) -> InvalidParameter:
    return InvalidParameter(
        f"link {_show(entry.name)} -> {_show(entry.link)}: no such file in the layer, or none that can be linked"
    )


_TAR_FAULTS = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EINVAL, errno.EEXIST, errno.EISDIR, errno.E2BIG)


def _explained(error: OSError, entry: Entry) -> InvalidParameter | SystemFailure:
    kind = InvalidParameter if error.errno in _TAR_FAULTS else SystemFailure
    return kind(f"unpacking {_show(entry.name)}: {(error.strerror or str(error)).lower()}")


def _show(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
