"""User namespaces, and mounts that show files as their users see them (user_namespaces(7), mount_setattr(2))."""

from __future__ import annotations

import contextlib
import functools
import grp
import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

from wherry.errors import InvalidParameter, Unavailable
from wherry.linux import libc
from wherry.model.idmaps import IdMap, first_free, kernel_text, parse_remap, ranges

DEFAULT_USER = "dockremap"  # what --userns-remap=default means, as in Docker
DEFAULT_SIZE = 65536  # IDs that it gets
_FILES = Path(os.environ.get("WHERRY_SUBIDS", "/etc"))  # tests have their own
SUBUID, SUBGID = _FILES / "subuid", _FILES / "subgid"


def configured(value: str) -> IdMap:
    """The map that `--userns-remap` asks for; `default` is a user that is made, as by Docker.

    Raises InvalidParameter, Unavailable, with the remedy. Blocking.
    """
    if value == "default":
        _make_default_user()
        value = DEFAULT_USER
    user, group = parse_remap(value)
    return IdMap(
        ranges(_text(SUBUID), _names(user, groups=False), file=str(SUBUID)),
        ranges(_text(SUBGID), _names(group, groups=True), file=str(SUBGID)),
    )


def _make_default_user() -> None:
    """The user, and IDs that nobody has yet, as far as they are not there. Raises Unavailable."""
    try:
        pwd.getpwnam(DEFAULT_USER)
    except KeyError:
        _run("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", DEFAULT_USER)
    for file, option in ((SUBUID, "--add-subuids"), (SUBGID, "--add-subgids")):
        text = _text(file)
        if not any(line.startswith(f"{DEFAULT_USER}:") for line in text.splitlines()):
            start = first_free(text, DEFAULT_SIZE)
            _run("usermod", option, f"{start}-{start + DEFAULT_SIZE - 1}", DEFAULT_USER)


def _run(*command: str) -> None:
    """A program of shadow-utils, which locks the files that it changes. Raises Unavailable."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise Unavailable(f"--userns-remap=default needs {command[0]} (apt install passwd): {error.strerror}") from None
    if done.returncode:
        raise Unavailable(f"--userns-remap=default: {' '.join(command)}: {done.stderr.strip()}")


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
    with _helper("unshare", "--user", *(["--net"] if network else [])) as process:
        (process / "uid_map").write_text(kernel_text(ids.uids))
        (process / "gid_map").write_text(kernel_text(ids.gids))
        user = os.open(process / "ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return user, os.open(process / "ns/net", os.O_RDONLY | os.O_CLOEXEC) if network else -1
        except OSError:
            os.close(user)
            raise


def network_of(users: str) -> int:
    """A new network namespace that belongs to the user namespace at this path: a descriptor.

    Blocking. Raises Unavailable.
    """
    with _helper("nsenter", f"--user={users}", "unshare", "--net") as process:
        return os.open(process / "ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextlib.contextmanager
def _helper(*command: str) -> Iterator[Path]:
    """/proc/PID of a process in the namespaces that this command of util-linux brings it to."""
    try:
        with subprocess.Popen(
            [*command, "sh", "-c", "echo; read end"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as helper:
            assert helper.stdout is not None
            if not helper.stdout.readline():
                raise Unavailable("the kernel makes no user namespace: see /proc/sys/user/max_user_namespaces")
            yield Path(f"/proc/{helper.pid}")
    except FileNotFoundError:
        raise Unavailable(f"user namespaces need {command[0]} (apt install util-linux)") from None
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
