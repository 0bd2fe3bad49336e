"""Progress as Docker's clients draw it: one line a layer, a message for each change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Protocol

from wherry.engine.transfers.downloads import Download, Phase
from wherry.engine.transfers.unpacking import Layer
from wherry.model.progress import progress_bar

Message = dict[str, Any]
INTERVAL = 0.1  # seconds


class Line(Protocol):
    def changes(self) -> Iterator[Message]:
        """What there is to say since the last call."""


def said(status: str, id: str = "") -> Message:
    """A message of words alone."""
    return {"status": status, "id": id} if id else {"status": status}


def step(status: str, id: str) -> Message:
    """A layer's line without a bar."""
    return {"status": status, "progressDetail": {}, "id": id}


def bar(status: str, id: str, current: int, total: int) -> Message:
    return {
        "status": status,
        "progressDetail": {"current": current, "total": total},
        "progress": progress_bar(current, total),
        "id": id,
    }


class PullLine:
    """A layer on its way in."""

    def __init__(self, id: str, download: Download) -> None:
        self._id = id
        self._download = download
        self._told = Phase.WAITING
        self._current = 0
        self._read = 0
        self._waiting = False
        self._complete = False
        self.layer: Layer | None = None  # while it is unpacked, and after

    def changes(self) -> Iterator[Message]:
        phase, layer = self._download.phase, self.layer
        if phase is Phase.WAITING:
            if not self._waiting:
                self._waiting = True
                yield step("Waiting", self._id)
            return
        if phase < self._told:  # other bytes came, and it begins anew
            self._told, self._current = phase, 0
        if self._told < Phase.VERIFYING:
            current = self._download.current
            if current > self._current or (phase >= Phase.VERIFYING and current):
                self._current = current
                yield bar("Downloading", self._id, current, self._download.total)
        if self._told < Phase.VERIFYING <= phase:
            self._told = Phase.VERIFYING
            yield step("Verifying Checksum", self._id)
        if self._told < Phase.COMPLETE <= phase:
            self._told = Phase.COMPLETE
            yield step("Download complete", self._id)
        if self._told is Phase.COMPLETE and layer is not None and not self._complete:
            if layer.current > self._read:
                self._read = layer.current
                yield bar("Extracting", self._id, self._read, self._download.total)
            if layer.kept is not None:
                self._complete = True
                yield step("Pull complete", self._id)


async def follow(lines: Iterable[Line], work: asyncio.Task[Any]) -> AsyncIterator[Message]:
    """The lines' messages until the work has ended; it is not waited for when the reader goes away."""
    while not work.done():
        for line in lines:
            for message in line.changes():
                yield message
        await asyncio.wait((work,), timeout=INTERVAL)
    for line in lines:
        for message in line.changes():
            yield message
