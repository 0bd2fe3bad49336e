"""Copying a directory tree with all that makes it what it is, and deleting one."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from pathlib import Path


def copy_tree(source: Path, target: Path) -> None:
    """Copy a tree to a new directory: owners, modes, times, xattrs, symlinks, hard links, devices, holes.

    A symlink as the source itself is followed. Nobody may change the source meanwhile. Blocking. Raises OSError.
    """
    links: dict[tuple[int, int], str] = {}
    _copy_directory(f"{source}/.", str(target), links)


def remove_tree(path: Path) -> None:
    """Delete a tree; what is gone, or goes meanwhile, is fine. Blocking.

    What can be deleted is, also beside what cannot; then raises the first OSError, with the whole path.
    """
    failures: list[OSError] = []

    def note(_: object, name: str, failure: BaseException | tuple[object, BaseException, object]) -> None:
        error = failure[1] if isinstance(failure, tuple) else failure
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            failures.append(OSError(error.errno, error.strerror, name))

    if sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=note)
    else:
        shutil.rmtree(path, onerror=note)
    if failures:
        raise failures[0]


def _copy_directory(source: str, target: str, links: dict[tuple[int, int], str]) -> None:
    os.mkdir(target, 0o700)
    with os.scandir(source) as entries:
        for entry in entries:
            inside = os.path.join(target, entry.name)
            if entry.is_dir(follow_symlinks=False):
                _copy_directory(entry.path, inside, links)
            else:
                _copy_other(entry.path, inside, links)
    copy_attributes(source, target)


def _copy_other(source: str, target: str, links: dict[tuple[int, int], str]) -> None:
    found = os.lstat(source)
    if found.st_nlink > 1:
        first = links.setdefault((found.st_dev, found.st_ino), target)
        if first != target:
            os.link(first, target, follow_symlinks=False)
            return
    if stat.S_ISREG(found.st_mode):
        _copy_content(source, target, found.st_size)
    elif stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISSOCK(found.st_mode):
        return  # a socket without its process is nothing
    else:
        os.mknod(target, found.st_mode & 0o170600, found.st_rdev)
    copy_attributes(source, target)


def _copy_content(source: str, target: str, size: int) -> None:
    with open(source, "rb", buffering=0) as reading, open(target, "xb", buffering=0) as writing:
        os.fchmod(writing.fileno(), 0o600)
        copy_content(reading.fileno(), writing.fileno(), size)


def copy_content(reading: int, writing: int, size: int) -> None:
    """The bytes of one file into an empty one, holes left as holes (lseek(2), SEEK_DATA). Blocking. Raises OSError."""
    position = 0
    while position < size:
        try:
            start = os.lseek(reading, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break  # only a hole is left
            raise
        end = os.lseek(reading, start, os.SEEK_HOLE)
        os.lseek(writing, start, os.SEEK_SET)
        while start < end:
            sent = os.sendfile(writing, reading, start, end - start)
            if not sent:
                break
            start += sent
        position = end
    if position != os.lseek(writing, 0, os.SEEK_CUR) or position < size:
        os.ftruncate(writing, size)


def copy_attributes(source: str, target: str) -> None:
    """Owner, mode, xattrs and times of one file or directory, not of what a symlink points at. Raises OSError."""
    found = os.lstat(source)
    os.chown(target, found.st_uid, found.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode):
        os.chmod(target, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        if name.startswith("trusted.overlay."):
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns), follow_symlinks=False)
