"""Paths inside a directory that somebody else filled: resolved by the kernel, so that none of them leaves it.

openat2(2) with RESOLVE_IN_ROOT treats the given directory as `/`: absolute symlinks and `..` stay inside, whatever
races with the lookup. Nothing here ever resolves such a path in user space.
"""

from __future__ import annotations

import ctypes
import errno
import os
import posixpath

from wherry.errors import InvalidParameter, NotFound, SystemFailure

SYS_OPENAT2 = 437  # the same on every architecture (syscalls since 5.x share numbers)

# linux/openat2.h
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_AGAIN_LIMIT = 128  # the kernel answers EAGAIN when a rename raced with ".."; a storm of them is an attack


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t)


def openat2(dir_fd: int, path: str | bytes, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2). Returns a descriptor (close-on-exec always). Raises OSError with the path as its filename."""
    name = os.fsencode(path)
    if b"\0" in name:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(_AGAIN_LIMIT):
        fd: int = _syscall(SYS_OPENAT2, dir_fd, name, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        error = ctypes.get_errno()
        if error not in (errno.EAGAIN, errno.EINTR):
            break
    if error == errno.ENOSYS:
        raise SystemFailure("the kernel lacks openat2 (Linux 5.6): upgrade it, paths inside images need it")
    raise OSError(error, os.strerror(error), path)


def open_in_root(root_fd: int, path: str | bytes, flags: int, *, mode: int = 0) -> int:
    """Open `path` as a process whose root is `root_fd` would, symlinks followed inside. Raises OSError."""
    return openat2(root_fd, path, flags, mode=mode, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def make_dirs_in_root(
    root_fd: int, path: str, *, mode: int = 0o755, uid: int = 0, gid: int = 0, time_ns: int | None = None
) -> int:
    """`mkdir -p` inside the root, symlinks followed inside; returns an O_PATH descriptor of the directory.

    Only directories made here get the mode, owner and time. Raises OSError (ENOTDIR where a component is none).
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise OSError(errno.EINVAL, "'..' in a path to create", path)
    flags = os.O_PATH | os.O_DIRECTORY
    current = open_in_root(root_fd, ".", flags)
    for depth, part in enumerate(parts, start=1):
        prefix = "/".join(parts[:depth])
        try:
            following = open_in_root(root_fd, prefix, flags)
        except FileNotFoundError:
            try:
                _make_dir(current, part, mode, uid, gid, time_ns)
                following = open_in_root(root_fd, prefix, flags)
            except BaseException:
                os.close(current)
                raise
        except BaseException:
            os.close(current)
            raise
        os.close(current)
        current = following
    return current


def _make_dir(parent: int, name: str, mode: int, uid: int, gid: int, time_ns: int | None) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return  # somebody was faster, or it is a dangling symlink: the caller's open decides
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.fchown(fd, uid, gid)
        os.fchmod(fd, mode)
        if time_ns is not None:
            os.utime(fd, ns=(time_ns, time_ns))
    finally:
        os.close(fd)


def open_subpath(base: str, subpath: str) -> int:
    """An O_PATH descriptor of what lies at a relative path in a directory that others may be changing.

    Symlinks are followed as long as they stay beneath the directory. Raises InvalidParameter (it leaves the
    directory), NotFound, SystemFailure in Docker's words.
    """
    base_fd = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return openat2(base_fd, subpath, os.O_PATH, resolve=RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.ELOOP):
            raise InvalidParameter(
                f"path concatenation escapes the base directory, base: {base}, subpath: {subpath}"
            ) from None
        missing = _first_missing(base_fd, subpath) if error.errno == errno.ENOENT else subpath
        reason = (error.strerror or "").lower()
        kind = NotFound if error.errno == errno.ENOENT else SystemFailure
        raise kind(
            f"cannot access path {base}/{posixpath.normpath(subpath)}: lstat {base}/{missing}: {reason}"
        ) from None
    finally:
        os.close(base_fd)


def _first_missing(base_fd: int, path: str) -> str:
    parts = posixpath.normpath(path).split("/")
    for depth in range(1, len(parts)):
        prefix = "/".join(parts[:depth])
        try:
            os.close(openat2(base_fd, prefix, os.O_PATH, resolve=RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS))
        except OSError:
            return prefix
    return "/".join(parts)
