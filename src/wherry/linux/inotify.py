"""Waiting for changes in directories (inotify(7)): one instance for the whole process.

    watcher = Watcher()
    change = watcher.next_change(directory)   # armed from here on
    ...                                       # read what is there
    await change                              # something was written, made or renamed since

Watches fire once and are armed anew by the next call, so that a fast writer wakes nobody who is still busy reading.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from pathlib import Path

IN_MODIFY = 0x002
IN_MOVED_FROM = 0x040
IN_MOVED_TO = 0x080
IN_CREATE = 0x100
IN_ONESHOT = 0x80000000

_MASK = IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_ONESHOT
_HEADER = struct.Struct("iIII")  # struct inotify_event: wd, mask, cookie, len
_POLL = 0.2  # seconds, where a directory cannot be watched: gone, or the user's limit of watches is reached

_libc = ctypes.CDLL(None, use_errno=True)


class Watcher:
    """Turns changes in directories into futures. Belongs to the event loop it is first used on."""

    def __init__(self) -> None:
        self._fd = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[int, set[asyncio.Future[None]]] = {}

    def next_change(self, directory: Path) -> asyncio.Future[None]:
        """A future that is done when something in `directory` changes; cancel it when no longer interested."""
        loop = asyncio.get_running_loop()
        change: asyncio.Future[None] = loop.create_future()
        if self._fd < 0:
            self._open(loop)
        watch = -1 if self._fd < 0 else _libc.inotify_add_watch(self._fd, os.fsencode(directory), _MASK)
        if watch < 0:
            timer = loop.call_later(_POLL, _finish, change)
            change.add_done_callback(lambda _: timer.cancel())
            return change
        self._waiting.setdefault(watch, set()).add(change)
        change.add_done_callback(lambda done: self._forget(watch, done))
        return change

    def close(self) -> None:
        """Give the instance back; whoever still waits is woken."""
        if self._fd < 0 or self._loop is None:
            return
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
        for changes in list(self._waiting.values()):
            for change in list(changes):
                _finish(change)
        self._waiting.clear()

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd >= 0:
            self._loop = loop
            loop.add_reader(self._fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watch, _mask, _cookie, length = _HEADER.unpack_from(data, at)
            at += _HEADER.size + length
            # a watch that fired is gone; the kernel says so with one more event, for which nobody waits
            for change in self._waiting.pop(watch, ()):
                _finish(change)

    def _forget(self, watch: int, change: asyncio.Future[None]) -> None:
        changes = self._waiting.get(watch)
        if changes is None:
            return
        changes.discard(change)
        if not changes:
            del self._waiting[watch]
            if self._fd >= 0:
                _libc.inotify_rm_watch(self._fd, watch)


def _finish(change: asyncio.Future[None]) -> None:
    if not change.done():
        change.set_result(None)
