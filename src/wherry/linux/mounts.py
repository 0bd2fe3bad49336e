"""Mounting: plans executed, and what of ours is mounted."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from pathlib import Path

from wherry.linux import libc
from wherry.model.mount_plans import OverlayPlan

_OCTAL = re.compile(r"\\([0-7]{3})")

PAGE = 4096  # mount(2) takes at most one page of options


def mount_overlay(plan: OverlayPlan, target: Path) -> None:
    """Mount the plan's overlay at an existing directory.

    More layers than fit on one page of options are named through a directory file descriptor each, which is shorter
    than any path. Raises OSError as mount(2).
    """
    if plan.upper is None and len(plan.lower) == 1:
        libc.mount(plan.lower[0], str(target), None, libc.MS_BIND, None)
        libc.mount("", str(target), None, libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY, None)
    elif len(os.fsencode(_options(plan, plan.lower))) < PAGE:
        libc.mount("overlay", str(target), "overlay", 0, _options(plan, plan.lower))
    else:
        _mount_many(plan, target)


def _options(plan: OverlayPlan, lower: tuple[str, ...]) -> str:
    """The option string (kernel Documentation/filesystems/overlayfs.rst) with the separators in paths escaped."""
    parts = ["lowerdir=" + ":".join(_escape(path) for path in lower)]
    if plan.upper is not None and plan.work is not None:
        parts += [f"upperdir={_escape(plan.upper)}", f"workdir={_escape(plan.work)}"]
    if plan.volatile:
        parts.append("volatile")
    return ",".join([*parts, *plan.options])


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _mount_many(plan: OverlayPlan, target: Path) -> None:
    with contextlib.ExitStack() as stack:
        lower: list[str] = []
        for path in plan.lower:
            descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            lower.append(f"/proc/self/fd/{descriptor}")
        libc.mount("overlay", str(target), "overlay", 0, _options(plan, tuple(lower)))


def mount_tmpfs(target: Path, options: str) -> None:
    """A tmpfs at an existing directory, nosuid, nodev and noexec."""
    libc.mount("shm", str(target), "tmpfs", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC, options)


def bind_descriptor(descriptor: int, target: Path) -> None:
    """Bind what an O_PATH descriptor has open, and all that is mounted below, at a place that is made for it."""
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        target.mkdir(mode=0o700)
    else:
        target.touch(mode=0o600)
    libc.mount(f"/proc/self/fd/{descriptor}", str(target), None, libc.MS_BIND | libc.MS_REC, None)


_KEPT = ((os.ST_RDONLY, "ro"), (os.ST_NOSUID, "nosuid"), (os.ST_NODEV, "nodev"), (os.ST_NOEXEC, "noexec"))


def restrictions(path: str) -> tuple[str, ...]:
    """Words for what the mount that holds a path forbids. A bind of it has to repeat them: crun sets flags anew."""
    flags = os.statvfs(path).f_flag
    return tuple(word for flag, word in _KEPT if flags & flag)


def unmount(target: Path) -> None:
    """Unmount lazily; what is not mounted or not there is fine."""
    try:
        libc.umount(str(target), libc.MNT_DETACH | libc.UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise


def mounted_below(root: Path) -> list[Path]:
    """Mount points at or under `root`, innermost first (proc_pid_mountinfo(5))."""
    prefix = f"{root}/"
    found: list[Path] = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        point = unescape(line.split(" ", 5)[4])
        if point == str(root) or point.startswith(prefix):
            found.append(Path(point))
    return found[::-1]


def unescape(field: str) -> str:
    """A path of mountinfo, which writes space, tab, newline and backslash as three octal digits."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)
