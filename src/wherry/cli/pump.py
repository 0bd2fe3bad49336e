"""Bytes between this process and a container's streams, one loop, no threads.

Standard input is read only while nothing waits to be sent, so neither a container that does not read nor one that
floods its output can lock the two up. Signals wake the loop and are handed to the caller.
"""

from __future__ import annotations

import _socket
import os
import select
import signal
import sys

from wherry.cli.detach import Watcher
from wherry.client.frames import STDERR, SYSTEM, Demultiplexer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class StreamFailed(Exception):
    """The engine reported an error inside the stream."""


class Detached(Exception):
    """The user typed the detach keys."""


def write(fd: int, data: bytes) -> None:
    """All of `data`, also to a pipe that someone made non-blocking."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            waiter = select.poll()
            waiter.register(fd, select.POLLOUT)
            waiter.poll()


# Not ours to pass on: job control of this process's own children, and what the runtime uses.
_KEPT = (signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH, signal.SIGKILL, signal.SIGSTOP)


class Signals:
    """Signals as events of a poll loop: `fd` becomes readable, `take` says which came."""

    def __init__(self, wanted: set[int]) -> None:
        self._came: list[int] = []
        self.fd, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._old_wake = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._old = {}
        for number in wanted:
            try:
                self._old[number] = signal.signal(number, lambda number, frame: self._came.append(number))
            except (OSError, ValueError):
                continue

    def take(self) -> list[int]:
        try:
            while os.read(self.fd, 512):
                pass
        except BlockingIOError:
            pass
        came, self._came = self._came, []
        return came

    def close(self) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wake)
        os.close(self.fd)
        os.close(self._wake)


def all_signals() -> set[int]:
    """What a container's client passes on."""
    return {int(number) for number in signal.valid_signals()} - {int(number) for number in _KEPT}


class Pump:
    """One taken-over connection. `run` returns when the container's side ends; raises Detached, StreamFailed."""

    def __init__(self, connection: _socket.socket, ahead: bytes, *, tty: bool, stdin: bool, keys: bytes) -> None:
        self._socket = connection
        self._ahead = ahead
        self._frames = None if tty else Demultiplexer()
        self._stdin = stdin
        self._watcher = Watcher(keys) if tty and stdin and os.isatty(0) else None
        self._pending = b""
        self._closing = False
        self._failure = b""

    def run(self, signals: Signals | None = None, on_signal: Callable[[int], None] | None = None) -> None:
        sys.stdout.flush()
        if self._ahead:
            self._show(self._ahead)
        poll = select.poll()
        reading = self._stdin
        while True:
            events = select.POLLIN | (select.POLLOUT if self._pending else 0)
            poll.register(self._socket, events)
            if reading and not self._pending:
                poll.register(0, select.POLLIN)
            elif self._stdin:
                _unregister(poll, 0)
            if signals is not None:
                poll.register(signals.fd, select.POLLIN)
            ready = dict(poll.poll())
            if signals is not None and signals.fd in ready and on_signal is not None:
                for number in signals.take():
                    on_signal(number)
            happened = ready.get(self._socket.fileno(), 0)
            if happened & ~select.POLLOUT and not self._receive():
                break
            if happened & select.POLLOUT:
                self._send()
            if reading and ready.get(0):
                reading = self._read_stdin()
        if self._failure:
            raise StreamFailed(self._failure.decode("utf-8", "replace"))

    def _receive(self) -> bool:
        try:
            data = self._socket.recv(1 << 18)
        except ConnectionResetError:
            return False
        if data:
            self._show(data)
        return bool(data)

    def _show(self, data: bytes) -> None:
        if self._frames is None:
            write(1, data)
            return
        for stream, piece in self._frames.feed(data):
            if stream == SYSTEM:
                self._failure += piece
            else:
                write(2 if stream == STDERR else 1, piece)

    def _read_stdin(self) -> bool:
        try:
            data = os.read(0, 1 << 16)
        except OSError:
            data = b""  # a terminal that is gone, or no standard input at all
        if not data:
            self._closing = True
        elif self._watcher is not None:
            data, detached = self._watcher.feed(data)
            if detached:
                self._pending += data
                self._send()
                raise Detached
        self._pending += data
        self._send()
        return not self._closing

    def _send(self) -> None:
        try:
            sent = self._socket.send(self._pending, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL) if self._pending else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._pending, sent = b"", 0  # nobody reads any more; the output still counts
        self._pending = self._pending[sent:]
        if self._closing and not self._pending:
            try:
                self._socket.shutdown(_socket.SHUT_WR)
            except OSError:
                pass
            self._closing = False


def _unregister(poll: select.poll, fd: int) -> None:
    try:
        poll.unregister(fd)
    except KeyError:
        pass
