"""Making the members of a tar archive in a directory: what unpacking a layer and copying into a container share.

However hostile the archive, nothing outside the root is touched: every parent is opened by the kernel with the
directory as its root (linux/safepath.py), and the last component is only ever created, removed or linked relative to
that descriptor, never followed.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable

from wherry.errors import InvalidParameter, SystemFailure
from wherry.linux.safepath import open_in_root
from wherry.storage import tar
from wherry.storage.tar import Entry, TarReader

# overlayfs's own bookkeeping: a layer that could write it would redirect directories or forge whiteouts
_FORBIDDEN_XATTRS = (b"trusted.overlay.", b"user.overlay.")
MAX_ID = 2**32 - 2  # -1 means "leave it" to chown(2)
OPEN_DIRS = 256
DIRECTORY = os.O_PATH | os.O_DIRECTORY
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeWriter:
    """Makes members below `root`, a descriptor. Subclasses say what happens where something is already."""

    link_base = b""  # where the targets of hard links are named from, below the root

    def __init__(self, root: int) -> None:
        self.root = root
        self.size = 0
        self.dirs: dict[bytes, int] = {}  # open parents
        self.umask = _umask()
        self.uid, self.gid = os.geteuid(), os.getegid()

    def close(self) -> None:
        for fd in self.dirs.values():
            os.close(fd)
        self.dirs.clear()

    def _forget_dirs(self, parent: int) -> None:
        """Paths may lead elsewhere now; the folder at hand is still that folder."""
        for path, fd in list(self.dirs.items()):
            if fd != parent:
                os.close(fd)
                del self.dirs[path]

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
                set_xattr(fd, key, value)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _symlink(self, parent: int, name: bytes, entry: Entry, reader: TarReader) -> None:
        os.symlink(entry.link, name, dir_fd=parent)
        self.size += len(entry.link)
        self._own(parent, name, entry)

    def _link(self, parent: int, name: bytes, entry: Entry, reader: TarReader) -> None:
        *parts, source = inside(entry.link) or [b"."]
        try:
            directory = open_in_root(self.root, os.path.join(self.link_base, *parts) or b".", DIRECTORY)
        except OSError as error:
            raise no_target(entry) from error
        try:
            os.link(source, name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            raise no_target(entry) from error
        finally:
            os.close(directory)

    def _special(self, parent: int, name: bytes, entry: Entry, reader: TarReader) -> None:
        kind = {tar.CHARACTER: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}[entry.kind]
        device = 0 if kind == stat.S_IFIFO else os.makedev(entry.major, entry.minor)
        os.mknod(name, kind | (entry.mode & 0o777), device, dir_fd=parent)
        self._own(parent, name, entry)

    def _own(self, parent: int, name: bytes, entry: Entry) -> None:
        """Owner, mode, xattrs and time of what cannot be opened. Somebody may put a symlink in its place meanwhile."""
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind != tar.SYMLINK:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                os.chmod(f"/proc/self/fd/{fd}", entry.mode)
            finally:
                os.close(fd)
        for key, value in entry.xattrs.items():
            set_xattr(b"/proc/self/fd/%d/%s" % (parent, name), key, value)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)

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


Maker = Callable[[TreeWriter, int, bytes, Entry, TarReader], None]
MAKERS: dict[bytes, Maker] = {
    tar.REGULAR: TreeWriter._file,
    tar.SYMLINK: TreeWriter._symlink,
    tar.LINK: TreeWriter._link,
    tar.CHARACTER: TreeWriter._special,
    tar.BLOCK_DEVICE: TreeWriter._special,
    tar.FIFO: TreeWriter._special,
}


def finish_directory(fd: int, entry: Entry) -> None:
    os.fchown(fd, entry.uid, entry.gid)
    os.fchmod(fd, entry.mode)
    for key, value in entry.xattrs.items():
        set_xattr(fd, key, value)
    os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))


def set_xattr(target: int | bytes, key: bytes, value: bytes, *, follow_symlinks: bool = False) -> None:
    """As other engines: a file system that does not know the attribute does not spoil the image."""
    if key.startswith(_FORBIDDEN_XATTRS):
        return
    try:
        if isinstance(target, int):
            os.setxattr(target, key, value)
        else:
            os.setxattr(target, key, value, follow_symlinks=follow_symlinks)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise


def inside(name: bytes) -> list[bytes]:
    """The components of a name with the layer as root. Raises InvalidParameter where `..` leads out of it."""
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"" or part == b".":
            continue
        if part == b"..":
            if not parts:
                raise InvalidParameter(f"{show(name)!r} is outside of the layer")
            parts.pop()
        else:
            parts.append(part)
    return parts


def _umask() -> int:
    """The process's umask, read without changing it for the other threads (proc(5), Linux 4.7)."""
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o777


def no_target(entry: Entry) -> InvalidParameter:
    return InvalidParameter(
        f"link {show(entry.name)} -> {show(entry.link)}: no such file in the layer, or none that can be linked"
    )


_TAR_FAULTS = (
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENOTDIR,
    errno.EINVAL,
    errno.EEXIST,
    errno.EISDIR,
    errno.E2BIG,
    errno.EFBIG,
    errno.ERANGE,
)


def explained(error: OSError, entry: Entry) -> InvalidParameter | SystemFailure:
    kind = InvalidParameter if error.errno in _TAR_FAULTS else SystemFailure
    return kind(f"unpacking {show(entry.name)}: {(error.strerror or str(error)).lower()}")


def show(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
