"""Mounting: plans executed, and what of ours is mounted."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
from pathlib import Path

from wherry.linux import libc, user_namespaces
from wherry.model.idmaps import IdMap
from wherry.model.mount_plans import OverlayPlan

_OCTAL = re.compile(r"\\([0-7]{3})")

PAGE = 4096  # mount(2) takes at most one page of options


def mount_overlay(plan: OverlayPlan, target: Path) -> None:
    """Mount the plan's overlay at an existing directory.

    More layers than fit on one page of options are named through a directory file descriptor each, which is shorter
    than any path. Raises OSError as mount(2).
    """
    if plan.ids is not None:
        _mount_mapped(plan, plan.ids, target)
    elif plan.upper is None and len(plan.lower) == 1:
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


def _mount_mapped(plan: OverlayPlan, ids: IdMap, target: Path) -> None:
    """With the layers as mounts of their own, which show other owners than the files have."""
    with contextlib.ExitStack() as stack:
        layers: list[int] = []
        for path in plan.lower:
            layers.append(user_namespaces.shown(path, ids))
            stack.callback(os.close, layers[-1])
        if plan.upper is None and len(layers) == 1:
            libc.move_mount(layers[0], str(target))
            libc.mount("", str(target), None, libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY, None)
            return
        lower = tuple(f"/proc/self/fd/{layer}" for layer in layers)
        libc.mount("overlay", str(target), "overlay", 0, _options(plan, lower))


def check_mapped_overlay(ids: IdMap, scratch: Path) -> None:
    """Raises OSError where this kernel cannot stack layers whose owners are mapped."""
    with contextlib.ExitStack() as undo:
        top = scratch / "mapped"
        undo.callback(shutil.rmtree, top, ignore_errors=True)
        places = [top / name for name in ("a", "b", "upper", "work", "root")]
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
        a, b, upper, work, root = map(str, places)
        unmount(Path(root))  # one that died between the next lines
        mount_overlay(OverlayPlan((a, b), upper, work, ids=ids), Path(root))
        unmount(Path(root))


def bind_shown(source: str, target: Path, ids: IdMap) -> None:
    """Bind what is there, and what is mounted below, at a place made for it; files as the map's users own them.

    Raises OSError.
    """
    mapped = user_namespaces.shown(source, ids, recursive=True)
    try:
        if stat.S_ISDIR(os.fstat(mapped).st_mode):
            target.mkdir(mode=0o700)
        else:
            target.touch(mode=0o600)
        libc.move_mount(mapped, str(target))
    finally:
        os.close(mapped)


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
