"""Listening sockets: made, or inherited from a service manager."""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from pathlib import Path

from wherry.errors import InvalidParameter, SystemFailure

BACKLOG = 4096


def bind_unix(path: Path, group: int | None) -> socket.socket:
    """A listening socket at `path`, mode 0660, owned by `group` (an ID; None leaves the process's own).

    A socket file that nobody listens on is replaced. Raises SystemFailure where somebody does or the path is not a
    socket.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _make_room(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        listening.bind(str(path))
        if group is not None:
            os.chown(path, -1, group)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise SystemFailure(f"cannot listen on unix://{path}: {error.strerror}") from None
    finally:
        os.umask(before)
    return listening


def bind_tcp(host: str, port: int) -> socket.socket:
    """A listening socket at the first address of `host`, the IPv4 one where it has both. Raises SystemFailure."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SystemFailure(f"cannot listen on tcp://{host}:{port}: {error.strerror}") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for option, value in ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 15), (socket.TCP_NODELAY, 1)):
            listening.setsockopt(socket.IPPROTO_TCP, option, value)  # accepted sockets inherit them
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise SystemFailure(f"cannot listen on tcp://{host}:{port}: {error.strerror}") from None
    return listening


def _make_room(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SystemFailure(f"cannot listen on unix://{path}: the path exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(str(path))
    if result == errno.ECONNREFUSED:
        path.unlink(missing_ok=True)
    elif result != errno.ENOENT:
        raise SystemFailure(f"cannot listen on unix://{path}: another process listens there")


def group_id(name: str) -> int:
    """The ID of a group given by name or number. Raises InvalidParameter."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        if name.isdigit():
            return int(name)
        raise InvalidParameter(
            f"group {name} not found: create it (groupadd --system {name}) or choose another --group"
        ) from None


def inherited(environment: dict[str, str], which: str = "") -> list[socket.socket]:
    """Listening sockets that a service manager passed (sd_listen_fds(3)): all, or the one of that name or number.

    Raises InvalidParameter if there is none.
    """
    count = 0
    if environment.get("LISTEN_PID") == str(os.getpid()):
        count = int(environment.get("LISTEN_FDS", "0"))
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    found = []
    for number in range(3, 3 + count):
        name = names[number - 3] if number - 3 < len(names) else ""
        if which in ("", str(number), name):
            os.set_inheritable(number, False)
            listening = socket.socket(fileno=number)
            listening.setblocking(False)
            found.append(listening)
    if not found:
        raise InvalidParameter(f"fd://{which}: no such socket was passed by a service manager (LISTEN_FDS)")
    return found
