"""Attached clients of one container or exec: one connection to its monitor, any number of sessions.

conmon blocks when a client that is attached to it does not read, and with it the container. So exactly one reader, the
`Hub`, drains the monitor always and at once; each `Session` has a queue of its own that grows into an unlinked
file when its client is slow.

The monitor's protocol (conmon's ctr_stdio.c and conn_sock.c): packets from it begin with a byte, 2 for standard output
and 3 for standard error; bytes sent to it are standard input; shutting down our side ends that input.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

STDOUT, STDERR = 1, 2

PACKET = 64 * 1024  # larger than any packet of conmon's
INPUT_PIECE = 16 * 1024  # conmon reads 32 KB a time and a packet must not be cut
IN_MEMORY = 1024 * 1024  # of one session's backlog


class Backlog:
    """A queue of (stream, bytes) that never blocks its writer: 1 MB in memory, the rest in an unlinked file."""

    def __init__(self, folder: Path, *, in_memory: int = IN_MEMORY) -> None:
        self._folder = folder
        self._limit = in_memory
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._in_memory = 0
        self._file: BinaryIO | None = None
        self._spilled: deque[tuple[int, int]] = deque()  # (stream, length) in the file, oldest first
        self._read_at = 0
        self._write_at = 0

    def put(self, stream: int, data: bytes) -> None:
        if self._spilled or self._in_memory + len(data) > self._limit:
            self._spill(stream, data)
        else:
            self._pieces.append((stream, data))
            self._in_memory += len(data)

    def get(self) -> tuple[int, bytes] | None:
        """The oldest piece, None if there is none."""
        if self._pieces:
            stream, data = self._pieces.popleft()
            self._in_memory -= len(data)
            return stream, data
        if not self._spilled or self._file is None:
            return None
        stream, length = self._spilled.popleft()
        data = os.pread(self._file.fileno(), length, self._read_at)
        self._read_at += length
        if not self._spilled:
            self._file.truncate(0)
            self._read_at = self._write_at = 0
        return stream, data

    def _spill(self, stream: int, data: bytes) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)
        os.pwrite(self._file.fileno(), data, self._write_at)
        self._write_at += len(data)
        self._spilled.append((stream, len(data)))

    def close(self) -> None:
        self._pieces.clear()
        self._spilled.clear()
        if self._file is not None:
            self._file.close()
            self._file = None


class Session:
    """One attached client's view of the streams. Made by `Hub.session`."""

    def __init__(self, hub: Hub, *, stdin: bool, stdout: bool, stderr: bool) -> None:
        self.tty = hub.tty
        self._hub = hub
        self._stdin = stdin
        self._wanted = {number for number, wanted in ((STDOUT, stdout), (STDERR, stderr)) if wanted}
        self._backlog = Backlog(hub.folder)
        self._changed = asyncio.Event()
        self._ended = False

    def feed(self, stream: int, data: bytes) -> None:
        if stream in self._wanted:
            self._backlog.put(stream, data)
            self._changed.set()

    def end(self) -> None:
        """No more output will come."""
        self._ended = True
        self._changed.set()

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Pieces as (1 or 2, bytes) until the process has ended or the session is closed."""
        while True:
            self._changed.clear()
            while (piece := self._backlog.get()) is not None:
                yield piece
            if self._ended:
                return
            await self._changed.wait()

    async def write(self, data: bytes) -> None:
        """Standard input; waits while the process does not read. Raises ConnectionError when it has ended."""
        if self._stdin:
            await self._hub.write(data)

    async def close_stdin(self) -> None:
        """The client has no more input: the process sees its end where standard input was opened for one client."""
        if self._stdin:
            self._hub.close_stdin()

    async def close(self) -> None:
        """The client is gone or has detached."""
        self._hub.leave(self)
        self._backlog.close()
        self.end()


class Hub:
    """The meeting point of a monitor and its sessions; lives from the first attach on, across restarts.

    Sessions may be opened before the process runs: they get its output from the first byte.
    """

    def __init__(self, folder: Path, *, tty: bool, stdin_once: bool) -> None:
        self.folder = folder
        self.tty = tty
        self._stdin_once = stdin_once
        self._sessions: set[Session] = set()
        self._connection: socket.socket | None = None
        self._connected = asyncio.Event()
        self._input_ended = False
        self._drained = asyncio.Event()
        self._drained.set()

    @property
    def wanted(self) -> bool:
        """Whether a connection to the monitor is due: somebody watches, or the end of input must be passed on."""
        return bool(self._sessions) or self._stdin_once

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def session(self, *, stdin: bool, stdout: bool, stderr: bool) -> Session:
        session = Session(self, stdin=stdin, stdout=stdout, stderr=stderr)
        self._sessions.add(session)
        return session

    def connect(self, path: Path) -> None:
        """Connect to the monitor's attach socket. Raises OSError."""
        if self._connection is not None:
            return
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            with contextlib.closing(_Directory(path.parent)) as directory:  # a path of over 107 bytes fits no address
                connection.connect(f"/proc/self/fd/{directory.fd}/{path.name}")
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._drained.clear()
        self._connected.set()
        asyncio.get_running_loop().add_reader(connection.fileno(), self._receive, connection)
        if self._input_ended:
            self.close_stdin()

    def _receive(self, connection: socket.socket) -> None:
        try:
            packet = connection.recv(PACKET)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:  # sessions end when the process's end is known to everybody: see `end`
            self._disconnect()
            return
        stream, data = packet[0] - 1, packet[1:]
        for session in self._sessions:
            session.feed(stream, data)

    async def write(self, data: bytes) -> None:
        await self._connected.wait()
        loop = asyncio.get_running_loop()
        for start in range(0, len(data), INPUT_PIECE):
            connection = self._connection
            if connection is None:
                raise ConnectionResetError("the process has ended")
            await loop.sock_sendall(connection, data[start : start + INPUT_PIECE])

    def close_stdin(self) -> None:
        if not self._stdin_once:
            return
        self._input_ended = True
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_WR)

    def leave(self, session: Session) -> None:
        self._sessions.discard(session)
        if not self.wanted:
            self._disconnect()

    def end(self) -> None:
        """The process has ended or never came: sessions end after what they have, new ones wait for the next start."""
        self._disconnect()
        self._input_ended = False
        for session in self._sessions:
            session.end()
        self._sessions.clear()

    async def drained(self) -> None:
        """Return when the monitor has closed its side, so that everything it had has reached the sessions."""
        await self._drained.wait()

    def _disconnect(self) -> None:
        if self._connection is not None:
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            self._connection.close()
            self._connection = None
            self._connected.clear()
        self._drained.set()


class _Directory:
    """A directory held open by an O_PATH descriptor."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.fd)
