"""Whether a host path lies on a mount whose changes can be shared (mount_namespaces(7), proc(5) mountinfo)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from wherry.errors import SystemFailure
from wherry.linux.mounts import unescape


def mount_of(path: str, mountinfo: Iterable[str]) -> tuple[str, frozenset[str]]:
    """The mount point that holds `path` and its optional fields' names, such as {"shared"} or {"master"}."""
    best, fields = "", frozenset[str]()
    for line in mountinfo:
        words = line.split()
        point = unescape(words[4])
        holds = point == "/" or path == point or path.startswith(point + "/")
        if holds and len(point) >= len(best):  # a later mount at the same place lies on top
            best = point
            fields = frozenset(word.partition(":")[0] for word in words[6 : words.index("-")])
    return best, fields


def check(source: str, propagation: str) -> None:
    """Raises SystemFailure, in Docker's words, where the mount that holds `source` does not allow the propagation."""
    if propagation.removeprefix("r") not in ("shared", "slave"):
        return
    real = os.path.realpath(source)
    point, fields = mount_of(real, Path("/proc/self/mountinfo").read_text().splitlines())
    if "shared" in fields:
        return
    if propagation.endswith("shared"):
        raise SystemFailure(f"path {source} is mounted on {point} but it is not a shared mount")
    if "master" not in fields:
        raise SystemFailure(f"path {source} is mounted on {point} but it is not a shared or slave mount")
