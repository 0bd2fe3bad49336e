"""Kernel settings under /proc/sys/net, of the network namespace in which the calling thread is (proc_sys_net(5))."""

from __future__ import annotations

import os
from pathlib import Path

_ROOT = "/proc/sys/"


def read(name: str) -> str | None:
    """The value of `net/ipv4/ip_forward` and the like; None if this kernel has no such setting."""
    try:
        return Path(_ROOT + name).read_text().strip()
    except FileNotFoundError:
        return None


def write(name: str, value: str) -> None:
    """Set it. Raises OSError."""
    fd = os.open(_ROOT + name, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def ensure(name: str, value: str) -> bool:
    """Set it unless it is so already; whether it had to be set. A setting that does not exist is left alone.

    Raises OSError.
    """
    found = read(name)
    if found is None or found == value:
        return False
    write(name, value)
    return True


def ephemeral_ports() -> range:
    """The ports that the kernel gives out by itself, which are also those published without a number."""
    first, last = (read("net/ipv4/ip_local_port_range") or "32768 60999").split()
    return range(int(first), int(last) + 1)
