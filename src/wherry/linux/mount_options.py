"""Options of mount(8) for mount(2): words that are flags, words of propagation, and the rest, which is data.

The words are those that the engine's local volumes take; numbers are those of linux/mount.h.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from wherry.errors import SystemFailure
from wherry.linux import libc

MS_SYNCHRONOUS = 16
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_UNBINDABLE = 1 << 17
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24

_SET = {
    "ro": libc.MS_RDONLY,
    "nosuid": libc.MS_NOSUID,
    "nodev": libc.MS_NODEV,
    "noexec": libc.MS_NOEXEC,
    "sync": MS_SYNCHRONOUS,
    "dirsync": MS_DIRSYNC,
    "remount": libc.MS_REMOUNT,
    "mand": MS_MANDLOCK,
    "noatime": MS_NOATIME,
    "nodiratime": MS_NODIRATIME,
    "bind": libc.MS_BIND,
    "rbind": libc.MS_BIND | libc.MS_REC,
    "relatime": MS_RELATIME,
    "strictatime": MS_STRICTATIME,
    "private": libc.MS_PRIVATE,
    "rprivate": libc.MS_PRIVATE | libc.MS_REC,
    "shared": MS_SHARED,
    "rshared": MS_SHARED | libc.MS_REC,
    "slave": MS_SLAVE,
    "rslave": MS_SLAVE | libc.MS_REC,
    "unbindable": MS_UNBINDABLE,
    "runbindable": MS_UNBINDABLE | libc.MS_REC,
}
_CLEAR = {
    "rw": libc.MS_RDONLY,
    "suid": libc.MS_NOSUID,
    "dev": libc.MS_NODEV,
    "exec": libc.MS_NOEXEC,
    "async": MS_SYNCHRONOUS,
    "nomand": MS_MANDLOCK,
    "atime": MS_NOATIME,
    "diratime": MS_NODIRATIME,
    "norelatime": MS_RELATIME,
    "nostrictatime": MS_STRICTATIME,
}
_PROPAGATION = libc.MS_PRIVATE | MS_SHARED | MS_SLAVE | MS_UNBINDABLE
_READ_ONLY_BIND = libc.MS_BIND | libc.MS_RDONLY
_NETWORK = ("nfs", "nfs4", "cifs")


@dataclass(frozen=True)
class DeviceMount:
    """One mount(2): `flags` may include a propagation, which is a call of its own."""

    device: str
    fstype: str
    flags: int = 0
    data: str = ""


def parse(device: str, fstype: str, options: str) -> DeviceMount:
    """The mount that `type`, `device` and `o` of a volume describe."""
    flags = 0
    data = []
    for word in options.split(",") if options else ():
        if word in _SET:
            flags |= _SET[word]
        elif word in _CLEAR:
            flags &= ~_CLEAR[word]
        else:
            data.append(word)
    return DeviceMount(device, fstype, flags, ",".join(data))


def mount_device(plan: DeviceMount, target: Path) -> None:
    """Mount it at an existing directory; blocking, on networks perhaps long. Nothing is left mounted if it fails.

    Raises SystemFailure in Docker's words, without the password of the data.
    """
    data = _resolved(plan)
    first = plan.flags & ~_PROPAGATION
    _call("mount", plan.device, target, plan.fstype, first, data)
    try:
        if plan.flags & _PROPAGATION:
            _call("remount", "", target, "", plan.flags & (_PROPAGATION | libc.MS_REC), "")
        if first & _READ_ONLY_BIND == _READ_ONLY_BIND:
            _call("remount-ro", "", target, "", first | libc.MS_REMOUNT, "")
    except SystemFailure:
        with contextlib.suppress(OSError):
            libc.umount(str(target), libc.MNT_DETACH | libc.UMOUNT_NOFOLLOW)
        raise


def _call(what: str, source: str, target: Path, fstype: str, flags: int, data: str) -> None:
    try:
        libc.mount(source, str(target), fstype, flags, data)
    except OSError as error:
        place = f"{source}:{target}" if source else str(target)
        number = f", flags: 0x{flags:x}" if flags else ""
        told = f", data: {_without_password(data)}" if data else ""
        reason = (error.strerror or "").lower()
        raise SystemFailure(f"failed to mount local volume: {what} {place}{number}{told}: {reason}") from None


def _without_password(data: str) -> str:
    return re.sub(r"(^|,)password=[^,]*", r"\1password=********", data)


def _resolved(plan: DeviceMount) -> str:
    """The data with the server's address in place of its name: the kernel does not ask a name server."""
    found = re.search(r"(?:^|,)addr=([^,]+)", plan.data)
    if plan.fstype not in _NETWORK or found is None:
        return plan.data
    name = found[1]
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name)
        return plan.data
    try:
        address = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0]
    except OSError as error:
        raise SystemFailure(f"error resolving passed in network volume address: {name}: {error.strerror}") from None
    return plan.data.replace(f"addr={name}", f"addr={address}", 1)
