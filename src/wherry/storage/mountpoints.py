"""What every container's root has although its image does not bring it: the places of the engine's own mounts.

They are a layer of their own between the image and what the container writes, so that they are neither the container's
changes nor part of an image made from it. The names are the ones that programs look for in Docker's containers.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from wherry.errors import SystemFailure
from wherry.storage.overlay import Merged
from wherry.storage.trees import copy_attributes

_DIRECTORIES = ("dev/pts", "dev/shm", "proc", "sys")
_FILES = (".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf")
_LINKS = (("etc/mtab", "/proc/mounts"),)


def make_mount_points(target: Path, below: Merged) -> None:
    """Fill the empty directory `target`; directories that the layers below have keep what those say. Blocking."""
    make_places(target, below, _DIRECTORIES, _FILES, _LINKS)


def make_places(
    target: Path,
    below: Merged,
    directories: Sequence[str],
    files: Sequence[str],
    links: Sequence[tuple[str, str]] = (),
) -> None:
    """The same with other places: paths relative to the root, without symlinks on their way. Blocking."""
    kept: dict[Path, bytes] = {}
    for path in directories:
        _directory(target, path, below, kept)
    for path in files:
        _directory(target, os.path.dirname(path), below, kept)
        os.close(os.open(target / path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o755))
        os.chmod(target / path, 0o755)
    for path, link in links:
        _directory(target, os.path.dirname(path), below, kept)
        os.symlink(link, target / path)
    for directory, source in kept.items():  # last: filling a directory changes its time
        copy_attributes(os.fsdecode(source), str(directory))


def _directory(target: Path, path: str, below: Merged, kept: dict[Path, bytes]) -> None:
    place = target
    for part in path.split("/") if path else ():
        place /= part
        name = os.fsencode(part)
        found = below.look(name)
        below = below.below(name)
        if place.exists():
            continue
        place.mkdir()
        place.chmod(0o755)
        if found is not None and stat.S_ISDIR(found[0].st_mode):
            kept[place] = found[1]


def missing_places(below: Merged, wanted: Sequence[tuple[str, bool]]) -> tuple[list[str], list[str]]:
    """Which of the places, each with whether it is a directory, are not there, as `make_places` takes them.

    Symlinks on the way are followed inside the root. Raises SystemFailure where they go in a circle or a file is on it.
    """
    missing: tuple[list[str], list[str]] = ([], [])
    for path, directory in wanted:
        real = _real(below, path)
        if below.find(os.fsencode(real)) is None and real not in missing[0] + missing[1]:
            missing[0 if directory else 1].append(real)
    return missing


_LINKS_FOLLOWED = 40  # path_resolution(7)


def _real(below: Merged, path: str) -> str:
    pending = path.split("/")[::-1]
    done: list[str] = []
    followed = 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            done = done[:-1]
            continue
        found = below.find(os.fsencode("/".join([*done, part])))
        if found is None or not stat.S_ISLNK(found[0].st_mode):
            done.append(part)
            if found is not None and any(pending) and not stat.S_ISDIR(found[0].st_mode):
                raise SystemFailure(f"{path}: /{'/'.join(done)} is not a directory")
            continue
        followed += 1
        if followed > _LINKS_FOLLOWED:
            raise SystemFailure(f"{path}: too many levels of symbolic links")
        link = os.fsdecode(os.readlink(found[1]))
        if link.startswith("/"):
            done = []
        pending.extend(link.split("/")[::-1])
    return "/".join(done)
