"""Reading the log files that conmon writes, and keeping them small.

    async with aclosing(read_log(path, LogOptions(tail=10, follow=True), ended=ended, watcher=watcher)) as entries:
        async for entry in entries:
            ...

`ended` is set when the container's monitor has ended, so that nothing more is written; until then the unfinished last
line of each stream is held back, as the real engine does. A log is one file whose beginning may have been given back to
the disk (`trim`). It is read in threads; the loop is never blocked.
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
from wherry.linux.libc import punch_hole
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
class _Reader:
    """The blocking half: opens, reads and parses. Used by one thread at a time."""

    path: Path
    options: LogOptions
    fd: int = -1  # -1 while there is no file: nothing was ever started
    offset: int = 0  # where the next record begins
    rest: bytes = b""  # of a record that is not fully there
    stop: int | None = None  # without `follow`: the size when reading began
    skip: dict[int, int] = field(default_factory=dict)  # by stream: the offset where it begins
    assembler: Assembler = field(default_factory=Assembler)
    finished: bool = False

    @classmethod
    def open(cls, path: Path, options: LogOptions, over: bool) -> _Reader:
        reader = cls(path, options)
        try:
            if reader._opened() and not options.follow:
                reader.stop = os.fstat(reader.fd).st_size
            if reader.fd >= 0 and options.tail is not None:
                reader._seek_tail(options.tail, over)
        except BaseException:
            reader.close()
            raise
        return reader

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def read(self, over: bool) -> _Block | None:
        """The next block, None at the end of what is there. `over`: nothing will be written any more."""
        if self.finished:
            return None
        if self._opened() and (records := self._next_records()):
            return self._parse(records)
        if not over:
            return None
        self.finished = True
        return self._checked(list(self.assembler.finish()))

    def _opened(self) -> bool:
        if self.fd < 0:
            with suppress(FileNotFoundError):
                self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
                self.offset = _begin(self.fd)
        return self.fd >= 0

    def _next_records(self) -> list[tuple[int, bytes]]:
        """Whole records from where the reader stands, each with its offset."""
        if self.offset < (begin := _begin(self.fd)):  # trimmed away before it was read
            self.offset, self.rest = begin, b""
        while True:
            start = self.offset + len(self.rest)
            size = _BLOCK if self.stop is None else min(_BLOCK, self.stop - start)
            data = os.pread(self.fd, size, start) if size > 0 else b""
            if not data:
                return []
            *lines, self.rest = (self.rest + data).split(b"\n")
            records = []
            for line in lines:
                records.append((self.offset, line))
                self.offset += len(line) + 1
            if records:
                return records

    def _parse(self, records: list[tuple[int, bytes]]) -> _Block:
        entries: list[LogEntry] = []
        add = self.assembler.add
        for offset, line in records:
            record = _split(line)
            if record is None:
                continue  # torn by a crash of the host
            time_text, stream, ends_line, data = record
            if self.skip and offset < self.skip[stream]:
                continue
            entries.extend(add(stream, _time_ns(time_text), data, ends_line=ends_line))
        return self._checked(entries)

    def _checked(self, entries: list[LogEntry]) -> _Block:
        until = self.options.until_ns
        if until is None or all(entry.time_ns <= until for entry in entries):
            return _Block(entries)
        first = next(index for index, entry in enumerate(entries) if entry.time_ns > until)
        return _Block(entries[:first], past_until=True)

    def _seek_tail(self, count: int, over: bool) -> None:
        """Stand where the last `count` lines begin, and skip what belongs to lines before them."""
        end = _end_of_records(self.fd)
        finder = TailFinder(count, end=end, over=over)
        reach = 0
        for offset, lines in _blocks_backwards(self.fd, end):
            for at, line in _offsets_backwards(offset, lines):
                if (record := _split(line)) is not None:
                    finder.add(at, record[1], ends_line=record[2])
            reach = reach + _BLOCK if finder.left == 0 else 0
            if finder.known or reach >= (_REACH if finder.lines_open else _REACH_OTHER):
                break
        self.skip = finder.begins
        self.offset = min(finder.begins.values())


def _begin(fd: int) -> int:
    """Where the file's data begin: after what `trim` has given back."""
    try:
        return os.lseek(fd, 0, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # no data at all
            return 0
        raise


def _end_of_records(fd: int) -> int:
    """Where the last whole record ends."""
    end = os.fstat(fd).st_size
    while end > 0:
        start = max(0, end - _BLOCK)
        if (at := os.pread(fd, end - start, start).rfind(b"\n")) >= 0:
            return start + at + 1
        end = start
    return 0


def _blocks_backwards(fd: int, end: int) -> Iterator[tuple[int, list[bytes]]]:
    """Whole records, from the last block of them to the first, with the offset of each block's first record."""
    begin = _begin(fd)
    size = _BLOCK
    while end > begin:
        start = max(begin, end - size)
        data = os.pread(fd, end - start, start)
        cut = 0 if start == begin else data.find(b"\n") + 1
        if start > begin and cut in (0, len(data)):
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
    if line[:1] == b"\0":
        line = line.lstrip(b"\0")  # the first record after what was given back to the disk
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


def trim(path: Path, limits: LogLimits) -> bool:
    """Keep the newest `max_size` times `max_files` bytes of a log and give the rest back to the disk; true if it did.

    conmon goes on writing and readers go on reading meanwhile: the file stays the same one and keeps its length, its
    beginning becomes a hole, always up to the beginning of a record. Nothing is moved, so that there is nothing to
    repair after a crash. Blocking. Raises OSError where the file system has no holes (those that overlayfs can stand
    on have them: ext4, xfs, btrfs, tmpfs).
    """
    if not limits.max_size:
        return False
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        surplus = os.fstat(fd).st_size - limits.max_size * limits.max_files
        if surplus <= _begin(fd):
            return False
        cut = _next_record(fd, surplus)
        punch_hole(fd, 0, cut)
        return True
    finally:
        os.close(fd)


def _next_record(fd: int, offset: int) -> int:
    """Where the first record at or after `offset` begins."""
    at = offset - 1
    while data := os.pread(fd, _BLOCK, at):
        if (found := data.find(b"\n")) >= 0:
            return at + found + 1
        at += len(data)
    return offset
