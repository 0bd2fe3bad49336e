"""Container logs as values: what is asked of them, one entry, and how pieces make lines.

conmon writes one record a line, `TIME STREAM TAG DATA\\n` (the Kubernetes CRI logging format): tag F ends a line of the
container's output, P is a piece of one that goes on. What is shown are Docker's messages: whole lines, cut into 16 KiB
where they are longer, an unfinished last line as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

STDOUT, STDERR = 1, 2
MESSAGE = 16 * 1024  # bytes: Docker cuts longer lines


class LogEntry(NamedTuple):
    """One message. `data` has its newline, unless the line goes on in the next entry or the output ended without."""

    stream: int
    time_ns: int
    data: bytes


@dataclass(frozen=True)
class LogOptions:
    """What to read. Times are ns since the epoch, both included, None for no bound; `tail` None for everything.

    As in the real engine `tail` counts lines of the whole log, before any other choice is made.
    """

    stdout: bool = True
    stderr: bool = True
    since_ns: int | None = None
    until_ns: int | None = None
    tail: int | None = None
    follow: bool = False

    def wants(self, entry: LogEntry) -> bool:
        return (self.stdout if entry.stream == STDOUT else self.stderr) and (
            self.since_ns is None or entry.time_ns >= self.since_ns
        )


class Assembler:
    """Makes messages of records. A line's time is that of its end or, if it is cut, of its first cut, as in Docker."""

    def __init__(self) -> None:
        self._pending = {STDOUT: bytearray(), STDERR: bytearray()}
        self._cut_at: dict[int, int] = {}
        self._latest = {STDOUT: 0, STDERR: 0}

    def add(self, stream: int, time_ns: int, data: bytes, *, ends_line: bool) -> Iterator[LogEntry]:
        pending = self._pending[stream]
        if ends_line and not pending and len(data) < MESSAGE and stream not in self._cut_at:
            yield LogEntry(stream, time_ns, data + b"\n")
            return
        pending += data
        self._latest[stream] = time_ns
        if ends_line:
            pending += b"\n"
        while len(pending) > MESSAGE or (len(pending) == MESSAGE and not ends_line):
            time_of_cut = self._cut_at.setdefault(stream, time_ns)
            yield LogEntry(stream, time_of_cut, bytes(pending[:MESSAGE]))
            del pending[:MESSAGE]
        if ends_line:
            yield self._take(stream)

    def finish(self) -> Iterator[LogEntry]:
        """What is left when the output is over: last lines without a newline."""
        for stream in (STDOUT, STDERR):
            if self._pending[stream]:
                yield self._take(stream)

    def _take(self, stream: int) -> LogEntry:
        pending = self._pending[stream]
        entry = LogEntry(stream, self._cut_at.pop(stream, self._latest[stream]), bytes(pending))
        pending.clear()
        return entry


class TailFinder:
    """Walking a log backwards, finds for each stream where its part of the last `count` lines begins.

    `add` takes the records from the last to the first, each with its position; `begins` is right once `known`, and the
    best guess before. A stream of which nothing is selected begins at `end`. An unfinished last line is always
    selected, and counts as a line if `over`: nothing will be added to it.
    """

    def __init__(self, count: int, *, end: int, over: bool) -> None:
        self.begins = {STDOUT: end, STDERR: end}
        self.left = count
        self._over = over
        self._seen: set[int] = set()
        self._complete: set[int] = set()

    @property
    def known(self) -> bool:
        """Nothing that comes before can change `begins`."""
        return len(self._complete) == len(self.begins)

    @property
    def lines_open(self) -> bool:
        """The selection is made, but the beginning of one of its lines is not found yet."""
        return bool(self._seen - self._complete)

    def add(self, position: int, stream: int, *, ends_line: bool) -> None:
        if stream in self._complete:
            return
        if ends_line or (self._over and stream not in self._seen):
            if self.left == 0:
                self._complete.add(stream)
                return
            self.left -= 1
        self._seen.add(stream)
        self.begins[stream] = position
