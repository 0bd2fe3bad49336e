"""Reading the log files that conmon writes, and rotating them.

    async with aclosing(read_log(path, LogOptions(tail=10, follow=True), ended=ended, watcher=watcher)) as entries:
        async for entry in entries:
            ...

`ended` is set when the container's monitor has ended, so that nothing more is written; until then the unfinished last
line of each stream is held back, as the real engine does. A log is `path` and, where it was rotated, `path.1` (newer),
`path.2`, ... Files are read in threads; the loop is never blocked.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from wherry.linux.inotify import Watcher
from wherry.model.failpoints import failpoint
from wherry.model.logging_options import LogLimits
from wherry.model.logs import STDERR, STDOUT, Assembler, LogEntry, LogOptions, TailFinder

_BLOCK = 128 * 1024  # bytes read at once: some 2 ms of parsing in a thread
_REACH = 4 * 1024 * 1024  # how far back `tail` looks for the beginning of its first line
_REACH_OTHER = 64 * 1024  # ... and for an unfinished line of a stream that is silent otherwise
_STREAMS = {b"stdout": STDOUT, b"stderr": STDERR}


async def read_log(
    path: Path, options: LogOptions, *, ended: asyncio.Event, watcher: Watcher
) -> AsyncGenerator[LogEntry, None]:
    """The entries of a log, oldest first; with `follow`, until `ended` is set and everything was told."""
    async with aclosing(read_batches(path, options, ended=ended, watcher=watcher)) as batches:
        async for batch in batches:
            for entry in batch:
                yield entry


async def read_batches(
    path: Path, options: LogOptions, *, ended: asyncio.Event, watcher: Watcher
) -> AsyncGenerator[list[LogEntry], None]:
    """As `read_log`, several entries at a time (never none): what one block of the file holds."""
    reader = await asyncio.to_thread(_Reader.open, path, options, ended.is_set())
    end = asyncio.ensure_future(ended.wait())  # of this run: the event may be cleared for the next one
    try:
        while True:
            over = ended.is_set() or end.done()  # looked at before reading: nothing can come after what is read now
            change = watcher.next_change(path.parent) if options.follow and not over else None
            try:
                while block := await asyncio.to_thread(reader.read, over):
                    if entries := [entry for entry in block.entries if options.wants(entry)]:
                        yield entries
                    if block.past_until:
                        return
                if change is None or not await _either(change, end, options.until_ns):
                    return
            finally:
                if change is not None:
                    change.cancel()
    finally:
        end.cancel()
        reader.close()


async def _either(change: asyncio.Future[Any], end: asyncio.Future[Any], until_ns: int | None) -> bool:
    """Wait until something changed or the monitor ended; False if `until_ns` came first."""
    left = None if until_ns is None else max(0.0, (until_ns - time.time_ns()) / 1e9)
    done, _ = await asyncio.wait({change, end}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    return bool(done)


@dataclass(frozen=True)
class _Block:
    entries: list[LogEntry]
    past_until: bool = False


@dataclass
class _File:
    """One open log file and how far it has been read, always to the end of a record."""

    fd: int
    inode: int
    offset: int = 0
    rest: bytes = b""  # of a record that is not fully there

    @classmethod
    def open(cls, path: Path) -> _File | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        return cls(fd, os.fstat(fd).st_ino)

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@dataclass
class _Reader:
    """The blocking half: opens, reads and parses. Used by one thread at a time."""

    path: Path
    options: LogOptions
    files: list[_File]  # oldest first; the last is the one being written
    current: int = 0
    stop: int | None = None  # without `follow`: bytes of the last file that were there when reading began
    skip: dict[int, tuple[int, int]] = field(default_factory=dict)  # by stream: (index of file, offset) where it begins
    assembler: Assembler = field(default_factory=Assembler)
    finished: bool = False

    @classmethod
    def open(cls, path: Path, options: LogOptions, over: bool) -> _Reader:
        reader = cls(path, options, _open_all(path))
        try:
            if reader.files and not options.follow:
                reader.stop = reader.files[-1].size
            if options.tail is not None and reader.files:
                reader._seek_tail(options.tail, over)
        except BaseException:
            reader.close()
            raise
        return reader

    def close(self) -> None:
        for file in self.files:
            file.close()

    def read(self, over: bool) -> _Block | None:
        """The next block, None at the end of what is there. `over`: nothing will be written any more."""
        while not self.finished:
            if data := self._next_records():
                return self._parse(data)
            if self.options.follow or not self.files:
                if self._find_newer():
                    continue
            if not over:
                return None
            self.finished = True
            return self._checked(list(self.assembler.finish()))
        return None

    def _next_records(self) -> list[tuple[int, bytes]]:
        """Whole records from where the reader stands, each with its offset."""
        while self.current < len(self.files):
            file = self.files[self.current]
            last = self.current == len(self.files) - 1
            start = file.offset + len(file.rest)
            size = _BLOCK if self.stop is None or not last else min(_BLOCK, self.stop - start)
            data = os.pread(file.fd, size, start) if size > 0 else b""
            if data:
                offset = file.offset
                *lines, file.rest = (file.rest + data).split(b"\n")
                records = []
                for line in lines:
                    records.append((offset, line))
                    offset += len(line) + 1
                file.offset = offset
                if records:
                    return records
            elif last:
                return []
            else:
                file.close()
                self.current += 1
        return []

    def _parse(self, records: list[tuple[int, bytes]]) -> _Block:
        entries: list[LogEntry] = []
        add = self.assembler.add
        for offset, line in records:
            record = _split(line)
            if record is None:
                continue  # torn by a crash of the host
            time_text, stream, ends_line, data = record
            if self.skip and (self.current, offset) < self.skip.get(stream, (0, 0)):
                continue
            entries.extend(add(stream, _time_ns(time_text), data, ends_line=ends_line))
        return self._checked(entries)

    def _checked(self, entries: list[LogEntry]) -> _Block:
        until = self.options.until_ns
        if until is None or all(entry.time_ns <= until for entry in entries):
            return _Block(entries)
        first = next(index for index, entry in enumerate(entries) if entry.time_ns > until)
        return _Block(entries[:first], past_until=True)

    def _find_newer(self) -> bool:
        """Where the log was rotated, go on to the next file. conmon writes to one file at a time: once a newer one
        exists, the older one is complete, but may have grown since it was last read."""
        newer = _open_newer(self.path, self.files[-1].inode if self.files else None)
        self.files.extend(newer)
        return bool(newer)

    def _seek_tail(self, count: int, over: bool) -> None:
        """Stand where the last `count` lines begin, and skip what belongs to lines before them."""
        last = len(self.files) - 1
        finder = TailFinder(count, end=(last, _end_of_records(self.files[last])), over=over)
        reach = 0
        for index, file in reversed(list(enumerate(self.files))):
            for offset, lines in _blocks_backwards(file):
                for at, line in _offsets_backwards(offset, lines):
                    if (record := _split(line)) is not None:
                        finder.add((index, at), record[1], ends_line=record[2])
                reach = reach + _BLOCK if finder.left == 0 else 0
                if finder.known or reach >= (_REACH if finder.lines_open else _REACH_OTHER):
                    return self._stand(finder)
        return self._stand(finder)

    def _stand(self, finder: TailFinder) -> None:
        self.skip = finder.begins
        self.current, self.files[self.current].offset = min(finder.begins.values())


def _open_all(path: Path) -> list[_File]:
    """The log's files, oldest first. Opened newest first: a rotation in between shows one twice, never none."""
    files: list[_File] = []
    for candidate in _names(path):
        file = _File.open(candidate)
        if file is None:
            if candidate != path:
                break
        elif any(file.inode == known.inode for known in files):
            file.close()
        else:
            files.append(file)
    return files[::-1]


def _open_newer(path: Path, inode: int | None) -> list[_File]:
    """The files that came after the one with `inode`, oldest first; all of them if it is no longer there."""
    files = _open_all(path)
    at = next((index for index, file in enumerate(files) if file.inode == inode), -1)
    for file in files[: at + 1]:
        file.close()
    return files[at + 1 :]


def _names(path: Path) -> Iterator[Path]:
    yield path
    number = 1
    while True:
        yield _rotated(path, number)
        number += 1


def _rotated(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _end_of_records(file: _File) -> int:
    """Where the last whole record ends."""
    end = file.size
    while end > 0:
        start = max(0, end - _BLOCK)
        if (at := os.pread(file.fd, end - start, start).rfind(b"\n")) >= 0:
            return start + at + 1
        end = start
    return 0


def _blocks_backwards(file: _File) -> Iterator[tuple[int, list[bytes]]]:
    """Whole records, from the last block of them to the first, with the offset of each block's first record."""
    end = _end_of_records(file)
    size = _BLOCK
    while end > 0:
        start = max(0, end - size)
        data = os.pread(file.fd, end - start, start)
        cut = 0 if start == 0 else data.find(b"\n") + 1
        if start and cut in (0, len(data)):
            size *= 2  # one record longer than the block
            continue
        yield start + cut, data[cut:-1].split(b"\n")
        end, size = start + cut, _BLOCK


def _offsets_backwards(offset: int, lines: list[bytes]) -> Iterator[tuple[int, bytes]]:
    end = offset + sum(len(line) + 1 for line in lines)
    for line in reversed(lines):
        end -= len(line) + 1
        yield end, line


def _split(line: bytes) -> tuple[bytes, int, bool, bytes] | None:
    """Time, stream, "ends a line" and data of one record; None for what is none (torn when the host went down)."""
    parts = line.split(b" ", 3)
    if len(parts) != 4 or parts[1] not in _STREAMS:
        return None
    return parts[0], _STREAMS[parts[1]], parts[2].startswith(b"F"), parts[3]


_last_second: tuple[bytes, int] = (b"", 0)


def _time_ns(text: bytes) -> int:
    """`2026-11-24T10:00:00.123456789+00:00`; 0 for what is no time. The second is remembered: most lines share it."""
    global _last_second
    second, fraction, zone = text[:19], text[20:29], text[29:]
    known, seconds = _last_second
    try:
        if known != second + zone:
            seconds = int(datetime.fromisoformat((second + zone).decode()).timestamp())
            _last_second = (second + zone, seconds)
        return seconds * 1_000_000_000 + int(fraction)
    except ValueError:
        return 0


# --- rotation ---


def rotate(path: Path, limits: LogLimits, control: Path) -> bool:
    """Start a new log file if the current one has reached its size. Blocking (renames); true if it was done.

    `control` is the monitor's control FIFO (`ctl` in the bundle directory), through which conmon is asked to open the
    log anew. Call it now and then for every running container with a `max_size`. Killed at any point, the next call
    goes on: as long as `path` is missing conmon still writes to `path.1` and is asked again.
    """
    size = _size(path)
    if size is None:
        return _reopen(control)
    if limits.max_files == 1:
        _rotated(path, 1).unlink(missing_ok=True)  # kept only until conmon had let go of it
    if not limits.max_size or size < limits.max_size:
        return False
    for number in range(max(1, limits.max_files - 1), 1, -1):
        with suppress(FileNotFoundError):
            _rotated(path, number - 1).rename(_rotated(path, number))
    path.rename(_rotated(path, 1))
    failpoint("logs.rotate.renamed")
    return _reopen(control)


def remove_logs(path: Path) -> None:
    """Delete a log with all its rotated files."""
    for name in _names(path):
        try:
            name.unlink()
        except FileNotFoundError:
            if name != path:
                return


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _reopen(control: Path) -> bool:
    """Ask conmon to open its log anew: message 2 of its control FIFO. False if no conmon listens there."""
    try:
        fd = os.open(control, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):
            return False
        raise
    try:
        os.write(fd, b"2 0 0\n")
    finally:
        os.close(fd)
    return True
