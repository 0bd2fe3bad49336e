"""Leaving some of the disk to others: what arrives from outside may be larger than anybody said."""

from __future__ import annotations

import os
from pathlib import Path

from wherry.errors import SystemFailure
from wherry.storage.tar import Source

_STEP = 16 << 20  # bytes between two looks
_RESERVE = 256 << 20  # bytes that stay free, or a twentieth of a small disk


class Room:
    """`take` before writing. Containers, logs and records live on the same disk and must be able to go on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unseen = 0

    def take(self, size: int) -> None:
        """Raises SystemFailure when what is free comes to an end."""
        self._unseen += size
        if self._unseen < _STEP:
            return
        self._unseen = 0
        disk = os.statvfs(self._path)
        reserve = min(_RESERVE, disk.f_blocks * disk.f_frsize // 20)
        if disk.f_bavail * disk.f_frsize < reserve + _STEP:
            raise SystemFailure(
                f"no space left on device: {self._path} has less than the {reserve >> 20} MB that are left for what"
                " runs; remove images, containers or volumes (system prune)"
            )


class Guarded:
    """A source whose bytes go to a disk that must not become full."""

    def __init__(self, source: Source, room: Room) -> None:
        self._source = source
        self._room = room

    def read(self, size: int, /) -> bytes:
        piece = self._source.read(size)
        self._room.take(len(piece))
        return piece
