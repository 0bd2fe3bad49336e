"""Network namespaces that exist as an open file: no name, no mount, gone with the last process and descriptor in them.

See network_namespaces(7), unshare(2), setns(2). Everything here moves only the calling thread.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

from wherry.linux.netlink import LOOPBACK_INDEX, Socket, link_up

CLONE_NEWNET = 0x40000000
_THREAD = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.unshare.argtypes = [ctypes.c_int]
_libc.setns.argtypes = [ctypes.c_int, ctypes.c_int]


def current() -> int:
    """The calling thread's namespace, as a descriptor."""
    return os.open(_THREAD, os.O_RDONLY | os.O_CLOEXEC)


def enter(fd: int) -> None:
    """Move the calling thread there. Raises OSError."""
    if _libc.setns(fd, CLONE_NEWNET):
        _fail()


@contextmanager
def inside(fd: int, home: int) -> Iterator[None]:
    """The calling thread is in `fd`'s namespace for a while, and goes back to that of `home`."""
    enter(fd)
    try:
        yield
    finally:
        enter(home)


@contextmanager
def fresh(home: int, made: int = -1) -> Iterator[int]:
    """Make a namespace and be in it for a while: gives its descriptor, which the caller owns unless this raises.

    `made` is one that somebody has just made.
    """
    if made >= 0:
        enter(made)
    elif _libc.unshare(CLONE_NEWNET):
        _fail()
    fd = -1
    try:
        fd = current()
        yield fd
    except BaseException:
        if fd >= 0:
            os.close(fd)
        raise
    finally:
        enter(home)


def make() -> int:
    """A new and empty namespace: the descriptor is the caller's."""
    home = current()
    try:
        with fresh(home) as fd:
            return fd
    finally:
        os.close(home)


def with_loopback(home: int, made: int = -1) -> int:
    """A namespace, new or `made`, in which lo is up and nothing else is: the descriptor is the caller's."""
    with fresh(home, made) as fd, Socket() as route:
        route.run(link_up(LOOPBACK_INDEX))
    return fd


def _fail() -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))
