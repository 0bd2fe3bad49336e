"""The C library's calls that Python lacks, one thin function each. A failed call raises OSError with its errno."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)

# mount(2)
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8


def _check(result: int, what: str | bytes) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(what))


def mount(source: str, target: str, fstype: str | None, flags: int, data: str | None) -> None:
    """mount(2)."""
    _check(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            fstype.encode() if fstype is not None else None,
            ctypes.c_ulong(flags),
            os.fsencode(data) if data is not None else None,
        ),
        target,
    )


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), flags), target)


FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2


def punch_hole(fd: int, offset: int, length: int) -> None:
    """fallocate(2): give a range of a file back to the disk; it reads as zeros from then on."""
    flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    _check(_libc.fallocate(fd, flags, ctypes.c_int64(offset), ctypes.c_int64(length)), "fallocate")


# new mount API: open_tree(2), move_mount(2), pivot_root(2); numbers are the same on every architecture but pivot_root's
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 4
AT_FDCWD = -100
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_PIVOT_ROOT = {"x86_64": 155}.get(os.uname().machine, 41)  # 41: asm-generic/unistd.h

CLONE_NEWNS = 0x20000

# mount_setattr(2)
MOUNT_ATTR_NODEV = 4
MOUNT_ATTR_IDMAP = 0x100000
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
_SYS_MOUNT_SETATTR = 442


class _MountAttributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns"))


def mount_setattr(fd: int, attributes: int, userns: int = 0, *, clear: int = 0, recursive: bool = False) -> None:
    """mount_setattr(2): set, and clear, attributes of the mount that a descriptor is."""
    given = _MountAttributes(attributes, clear, 0, userns)
    flags = ctypes.c_uint(AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0))
    size = ctypes.c_size_t(ctypes.sizeof(given))
    _check(_libc.syscall(_SYS_MOUNT_SETATTR, fd, b"", flags, ctypes.byref(given), size), "mount_setattr")


def open_tree(path: str, flags: int) -> int:
    """open_tree(2): with OPEN_TREE_CLONE, a detached copy of the mount at `path`, as a descriptor."""
    fd: int = _libc.syscall(_SYS_OPEN_TREE, AT_FDCWD, os.fsencode(path), ctypes.c_uint(flags | OPEN_TREE_CLOEXEC))
    _check(fd, path)
    return fd


def move_mount(fd: int, target: str) -> None:
    """move_mount(2): attach the detached mount `fd` at `target`."""
    flags = ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH)
    _check(_libc.syscall(_SYS_MOVE_MOUNT, fd, b"", AT_FDCWD, os.fsencode(target), flags), target)


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    _check(_libc.syscall(_SYS_PIVOT_ROOT, os.fsencode(new), os.fsencode(old)), new)


def unshare(flags: int) -> None:
    """unshare(2), of the calling thread."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """setns(2), of the calling thread."""
    _check(_libc.setns(fd, kind), "setns")


# By machine: setresuid(2), setresgid(2); the others number them as asm-generic/unistd.h does.
_SYS_SETRESUID, _SYS_SETRESGID = {"x86_64": (117, 119)}.get(os.uname().machine, (147, 149))


def set_real_ids(uid: int, gid: int) -> None:
    """setresuid(2), setresgid(2): the real user and group, of the calling thread alone (the C library's do all)."""
    _check(_libc.syscall(_SYS_SETRESGID, gid, -1, -1), "setresgid")
    _check(_libc.syscall(_SYS_SETRESUID, uid, -1, -1), "setresuid")


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable"))


_CAPABILITY_VERSION = 0x20080522  # linux/capability.h: two words of each set


def make_files_as(uid: int, gid: int) -> None:
    """setfsuid(2), setfsgid(2), of the calling thread alone, which keeps all its capabilities (capset(2))."""
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)  # takes the capabilities that have to do with files away
    header, sets = _CapabilityHeader(_CAPABILITY_VERSION, 0), (_Capabilities * 2)()
    _check(_libc.capget(ctypes.byref(header), sets), "capget")
    for part in sets:
        part.effective = part.permitted
    _check(_libc.capset(ctypes.byref(header), sets), "capset")
