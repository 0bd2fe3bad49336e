"""What every container's root has although its image does not bring it: the places of the engine's own mounts.

They are a layer of their own between the image and what the container writes, so that they are neither the container's
changes nor part of an image made from it. The names are the ones that programs look for in Docker's containers.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from wherry.storage.overlay import Merged
from wherry.storage.trees import copy_attributes

_DIRECTORIES = ("dev/pts", "dev/shm", "proc", "sys")
_FILES = (".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf")
_LINKS = (("etc/mtab", "/proc/mounts"),)


def make_mount_points(target: Path, below: Merged) -> None:
    """Fill the empty directory `target`; directories that the layers below have keep what those say. Blocking."""
    kept: dict[Path, bytes] = {}
    for path in _DIRECTORIES:
        _directory(target, path, below, kept)
    for path in _FILES:
        _directory(target, os.path.dirname(path), below, kept)
        os.close(os.open(target / path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o755))
        os.chmod(target / path, 0o755)
    for path, link in _LINKS:
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
