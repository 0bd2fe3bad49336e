"""User namespaces, and mounts that show files as their users see them (user_namespaces(7), mount_setattr(2))."""

from __future__ import annotations

import functools
import grp
import os
import pwd
import subprocess
from pathlib import Path

from wherry.errors import InvalidParameter, Unavailable
from wherry.linux import libc
from wherry.model.idmaps import IdMap, kernel_text, parse_remap, ranges

DEFAULT_USER = "dockremap"  # what --userns-remap=default means, as in Docker
_FILES = Path(os.environ.get("WHERRY_SUBIDS", "/etc"))  # tests have their own
SUBUID, SUBGID = _FILES / "subuid", _FILES / "subgid"


def configured(value: str) -> IdMap:
    """The map that `--userns-remap` asks for. Raises InvalidParameter, with the remedy."""
    user, group = parse_remap(DEFAULT_USER if value == "default" else value)
    return IdMap(
        ranges(_text(SUBUID), _names(user, groups=False), file=str(SUBUID)),
        ranges(_text(SUBGID), _names(group, groups=True), file=str(SUBGID)),
    )


def _names(written: str, *, groups: bool) -> list[str]:
    """Name and number, as subuid(5) may have either."""
    kind = "group" if groups else "user"
    try:
        if groups:
            group = grp.getgrgid(int(written)) if written.isdigit() else grp.getgrnam(written)
            return [group.gr_name, str(group.gr_gid)]
        user = pwd.getpwuid(int(written)) if written.isdigit() else pwd.getpwnam(written)
        return [user.pw_name, str(user.pw_uid)]
    except KeyError:
        raise InvalidParameter(
            f"there is no {kind} {written}: make it (useradd --system --no-create-home {written}), "
            f"and give it subordinate IDs in {SUBUID} and {SUBGID}"
        ) from None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def make(ids: IdMap, *, network: bool) -> tuple[int, int]:
    """A new user namespace with this map, and a network namespace that belongs to it (-1 without `network`).

    Descriptors for the caller to close. A namespace is a process's: util-linux's unshare(1) is there until we have
    them; it ends by itself should we. Blocking. Raises Unavailable.
    """
    command = ["unshare", "--user", *(["--net"] if network else []), "sh", "-c", "echo; read end"]
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as helper:
            assert helper.stdout is not None
            if not helper.stdout.readline():
                raise Unavailable("the kernel makes no user namespace: see /proc/sys/user/max_user_namespaces")
            process = Path(f"/proc/{helper.pid}")
            (process / "uid_map").write_text(kernel_text(ids.uids))
            (process / "gid_map").write_text(kernel_text(ids.gids))
            user = os.open(process / "ns/user", os.O_RDONLY | os.O_CLOEXEC)
            try:
                return user, os.open(process / "ns/net", os.O_RDONLY | os.O_CLOEXEC) if network else -1
            except OSError:
                os.close(user)
                raise
    except FileNotFoundError:
        raise Unavailable("user namespaces need unshare (apt install util-linux)") from None
    except OSError as error:
        raise Unavailable(f"user namespace: {error}") from error


@functools.cache
def for_mounts(ids: IdMap) -> int:
    """A descriptor of a user namespace of this map, kept for as long as the process lives."""
    return make(ids, network=False)[0]


def make_files_as_root_of(ids: IdMap) -> None:
    """What the calling thread makes belongs to the container's root from the start. It is good for nothing else then.

    Where owners are mapped nobody else can make files (EOVERFLOW).
    """
    libc.make_files_as(*ids.root)


def shown(path: str, ids: IdMap, *, recursive: bool = False) -> int:
    """A detached copy of the mount at `path` in which the owner 0 is the map's root, and so on: a descriptor.

    Raises OSError: EINVAL where the file system cannot do it, EPERM where it is mapped already.
    """
    copy = libc.open_tree(path, libc.OPEN_TREE_CLONE | (libc.AT_RECURSIVE if recursive else 0))
    try:
        libc.mount_setattr(copy, libc.MOUNT_ATTR_IDMAP, for_mounts(ids), recursive=recursive)
    except OSError:
        os.close(copy)
        raise
    return copy
