"""Device nodes of the host, as values."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from wherry.errors import SystemFailure
from wherry.model.devices import Device

# Below /dev, but each container's own.
_OWN = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"})


def _device(path: str, seen_as: str) -> Device | None:
    found = os.lstat(path)
    if stat.S_ISCHR(found.st_mode):
        kind = "c"
    elif stat.S_ISBLK(found.st_mode):
        kind = "b"
    else:
        return None
    return Device(
        seen_as,
        kind,
        os.major(found.st_rdev),
        os.minor(found.st_rdev),
        stat.S_IMODE(found.st_mode),
        found.st_uid,
        found.st_gid,
    )


def _below(directory: str, seen_as: str) -> Iterator[Device]:
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _OWN:
                yield from _below(entry.path, f"{seen_as}/{entry.name}")
        elif entry.name != "console" and (device := _device(entry.path, f"{seen_as}/{entry.name}")):
            yield device


def named(path: str, seen_as: str) -> list[Device]:
    """`--device HOST:CONTAINER`: one node, or every node below a directory, symlinks followed to it.

    Raises SystemFailure in Docker's words for what is not there or not a device.
    """
    prefix = f'error gathering device information while adding custom device "{path}": '
    if not path.startswith("/"):
        raise SystemFailure(f"{prefix}no such file or directory")
    try:
        real = os.path.realpath(path, strict=True)
        device = _device(real, seen_as or path)
        if device:
            return [device]
        devices = list(_below(real, seen_as or path)) if os.path.isdir(real) else []
    except OSError as error:
        raise SystemFailure(f"{prefix}{(error.strerror or str(error)).lower()}") from None
    if not devices:
        raise SystemFailure(f"{prefix}not a device node")
    return devices


def every() -> list[Device]:
    """All of the host's nodes, for a privileged container."""
    return list(_below("/dev", "/dev"))


def block_number(path: str) -> tuple[int, int]:
    """Major and minor of a block device that a limit names. Raises SystemFailure where there is none."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise SystemFailure(f"stat {path}: {(error.strerror or str(error)).lower()}") from None
    return os.major(found.st_rdev), os.minor(found.st_rdev)
