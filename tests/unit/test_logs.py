import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.linux.inotify import Watcher
from wherry.model.logging_options import LogLimits
from wherry.model.logs import MESSAGE, STDERR, STDOUT, Assembler, LogEntry, LogOptions, TailFinder
from wherry.storage.logs import read_log, remove_logs, rotate

START = 1_800_000_000

Record = tuple[int, bool, bytes]  # stream, ends a line, data
RECORDS = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.booleans(), st.binary(max_size=5)), max_size=40).map(
    lambda records: [(stream, full, data.replace(b"\n", b" ") or b"." * (not full)) for stream, full, data in records]
)


def line(number: int, record: Record) -> bytes:
    stream, full, data = record
    name = b"stdout" if stream == STDOUT else b"stderr"
    return b"2027-01-15T08:%02d:%02d.%09d+00:00 %s %s %s\n" % (
        number // 60 % 60,
        number % 60,
        number,
        name,
        b"F" if full else b"P",
        data,
    )


def text(records: list[Record]) -> bytes:
    return b"".join(line(number, record) for number, record in enumerate(records))


def shown(records: list[Record], *, over: bool = True) -> list[LogEntry]:
    assembler = Assembler()
    entries: list[LogEntry] = []
    for number, (stream, full, data) in enumerate(records):
        time_ns = (START + number) * 10**9 + number
        entries += assembler.add(stream, time_ns, data, ends_line=full)
    return entries + (list(assembler.finish()) if over else [])


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    watcher = Watcher()
    yield watcher
    watcher.close()


async def collect(
    path: Path, options: LogOptions, watcher: Watcher, *, over: bool = True, want: int | None = None
) -> list[LogEntry]:
    ended = asyncio.Event()
    if over:
        ended.set()
    entries: list[LogEntry] = []
    async with aclosing(read_log(path, options, ended=ended, watcher=watcher)) as log:
        async for entry in log:
            entries.append(entry)
            if want is not None and len(entries) == want:
                break
    return entries


# --- lines of pieces ---


@given(st.lists(st.tuples(st.binary(max_size=40000), st.booleans()), max_size=6))
def test_pieces_come_back_as_they_were_written(pieces: list[tuple[bytes, bool]]) -> None:
    pieces = [(data.replace(b"\n", b""), full) for data, full in pieces]
    entries = shown([(STDOUT, full, data) for data, full in pieces])
    assert b"".join(entry.data for entry in entries) == b"".join(data + b"\n" * full for data, full in pieces)
    assert all(0 < len(entry.data) <= MESSAGE for entry in entries)


@pytest.mark.parametrize(
    ("length", "pieces"),
    [(MESSAGE - 1, [MESSAGE]), (MESSAGE, [MESSAGE, 1]), (80007, [MESSAGE] * 4 + [80008 - 4 * MESSAGE])],
)
def test_long_lines_are_cut_where_docker_cuts_them(length: int, pieces: list[int]) -> None:
    data = b"x" * length
    records = [(STDOUT, False, data[at : at + 8192]) for at in range(0, length, 8192)] + [(STDOUT, True, b"")]
    entries = shown(records)
    assert [len(entry.data) for entry in entries] == pieces
    if len(pieces) > 1:
        assert len({entry.time_ns for entry in entries}) == 1


def test_a_line_has_the_time_of_its_end() -> None:
    entries = shown([(STDOUT, False, b"par"), (STDERR, True, b"x"), (STDOUT, True, b"tial")])
    assert [(entry.stream, entry.data, entry.time_ns // 10**9 - START) for entry in entries] == [
        (STDERR, b"x\n", 1),
        (STDOUT, b"partial\n", 2),
    ]


@given(RECORDS, st.integers(0, 10), st.booleans())
def test_the_tail_is_the_last_lines(records: list[Record], count: int, over: bool) -> None:
    finder = TailFinder(count, end=(0, len(records)), over=over)
    for index in reversed(range(len(records))):
        stream, full, _ = records[index]
        finder.add((0, index), stream, ends_line=full)
    chosen = [record for index, record in enumerate(records) if (0, index) >= finder.begins[record[0]]]
    # each record carries its line's number, counted by where lines end: what is chosen are the last whole lines
    line_of: dict[int, int] = {}
    ends = [index for index, (_, full, _) in enumerate(records) if full]
    for index, (stream, _, _) in enumerate(records):
        following = [end for end in ends if end >= index and records[end][0] == stream]
        line_of[index] = following[0] if following else len(records) + stream
    unfinished = sorted({number for number in line_of.values() if number >= len(records)})
    if over:  # they count, as the latest; which of two comes first is decided by where they were last added to
        last_piece = {
            number: max(index for index in line_of if line_of[index] == number) for number in line_of.values()
        }
        numbers = sorted(set(line_of.values()), key=lambda number: last_piece[number])
        wanted = set(numbers[-count:] if count else [])
    else:
        wanted = set(ends[-count:] if count else []) | set(unfinished)
    assert chosen == [record for index, record in enumerate(records) if line_of[index] in wanted]


# --- files ---


@settings(deadline=None, max_examples=40)
@given(records=RECORDS, cuts=st.lists(st.integers(0, 40), max_size=3), tail=st.none() | st.integers(0, 10))
def test_a_rotated_log_reads_as_one(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record], cuts: list[int], tail: int | None
) -> None:
    directory = tmp_path_factory.mktemp("log")
    lines = [line + b"\n" for line in text(records).split(b"\n")[:-1]]
    edges = [0, *sorted(min(cut, len(lines)) for cut in cuts), len(lines)]
    names = [f"log.{number}" if number else "log" for number in reversed(range(len(edges) - 1))]
    for name, start, end in zip(names, edges, edges[1:], strict=False):
        (directory / name).write_bytes(b"".join(lines[start:end]))

    (directory / "whole").write_bytes(text(records))

    async def read(name: str) -> list[LogEntry]:
        watcher = Watcher()
        try:
            return await collect(directory / name, LogOptions(tail=tail), watcher)
        finally:
            watcher.close()

    entries = asyncio.run(read("log"))
    assert entries == asyncio.run(read("whole"))
    if tail is None:
        assert entries == shown(records)
    else:
        assert len(entries) == min(tail, len(shown(records)))


async def test_a_big_file_and_its_tail(tmp_path: Path, watcher: Watcher) -> None:
    records = [(STDOUT, True, b"%d " % number + b"x" * 90) for number in range(20_000)]
    path = tmp_path / "log"
    path.write_bytes(text(records))
    entries = await collect(path, LogOptions(), watcher)
    assert [entry.data.split()[0] for entry in entries] == [b"%d" % number for number in range(20_000)]
    entries = await collect(path, LogOptions(tail=5000), watcher)
    assert [entry.data.split()[0] for entry in entries] == [b"%d" % number for number in range(15_000, 20_000)]


async def test_times_and_streams(tmp_path: Path, watcher: Watcher) -> None:
    records = [(STDOUT, True, b"a"), (STDERR, True, b"b"), (STDOUT, True, b"c"), (STDERR, True, b"d")]
    path = tmp_path / "log"
    path.write_bytes(text(records))
    times = [(START + number) * 10**9 + number for number in range(4)]

    async def data(options: LogOptions) -> bytes:
        return b"".join(entry.data[:1] for entry in await collect(path, options, watcher))

    assert await data(LogOptions()) == b"abcd"
    assert await data(LogOptions(stdout=False)) == b"bd"
    assert await data(LogOptions(stderr=False)) == b"ac"
    assert await data(LogOptions(since_ns=times[1])) == b"bcd"
    assert await data(LogOptions(since_ns=times[1] + 1)) == b"cd"
    assert await data(LogOptions(until_ns=times[2])) == b"abc"
    assert await data(LogOptions(until_ns=times[2] - 1, follow=True)) == b"ab"
    assert await data(LogOptions(tail=3, since_ns=times[2])) == b"cd"
    assert await data(LogOptions(tail=1, stderr=False)) == b""


async def test_torn_and_foreign_lines_are_passed_over(tmp_path: Path, watcher: Watcher) -> None:
    path = tmp_path / "log"
    good = text([(STDOUT, True, b"good")])
    path.write_bytes(good[:30] + b"\n\0\0\0\n" + good + b"2027-01-15T08:00:00.0000000")
    for options in (LogOptions(), LogOptions(tail=1)):
        assert [entry.data for entry in await collect(path, options, watcher)] == [b"good\n"]


async def test_no_file_is_an_empty_log(tmp_path: Path, watcher: Watcher) -> None:
    assert await collect(tmp_path / "log", LogOptions(), watcher) == []
    assert await collect(tmp_path / "log", LogOptions(tail=5), watcher) == []


async def test_an_unfinished_line_is_held_back_while_it_may_go_on(tmp_path: Path, watcher: Watcher) -> None:
    path = tmp_path / "log"
    path.write_bytes(text([(STDOUT, True, b"one"), (STDOUT, False, b"two")]))
    assert [entry.data for entry in await collect(path, LogOptions(), watcher, over=False)] == [b"one\n"]
    assert [entry.data for entry in await collect(path, LogOptions(), watcher)] == [b"one\n", b"two"]
    assert [entry.data for entry in await collect(path, LogOptions(tail=1), watcher)] == [b"two"]
    assert [entry.data for entry in await collect(path, LogOptions(tail=1), watcher, over=False)] == [b"one\n"]


class Follower:
    """Follows a log in a task and keeps what it was told."""

    def __init__(self, path: Path, watcher: Watcher, options: LogOptions | None = None) -> None:
        self.ended = asyncio.Event()
        self.data = b""
        options = options or LogOptions(follow=True)
        self.task = asyncio.ensure_future(self._follow(read_log(path, options, ended=self.ended, watcher=watcher)))

    async def _follow(self, log: AsyncIterator[LogEntry]) -> None:
        async for entry in log:
            self.data += entry.data

    async def until(self, reached: Callable[[bytes], bool]) -> None:
        while not reached(self.data):
            assert not self.task.done()
            await asyncio.sleep(0.001)


async def test_following_tells_what_is_added_and_ends_with_the_monitor(tmp_path: Path, watcher: Watcher) -> None:
    path = tmp_path / "log"
    follower = Follower(path, watcher)
    with path.open("ab", buffering=0) as log:
        log.write(text([(STDOUT, True, b"one")]))
        await follower.until(lambda data: data == b"one\n")
        record = text([(STDOUT, True, b"two")])
        log.write(record[:20])
        log.write(record[20:])
        await follower.until(lambda data: data == b"one\ntwo\n")
        log.write(text([(STDERR, False, b"last")]))
        follower.ended.set()
        await follower.task
    assert follower.data == b"one\ntwo\nlast"
    assert not watcher._waiting


async def test_following_ends_with_its_run_though_the_next_one_begins_at_once(tmp_path: Path, watcher: Watcher) -> None:
    path = tmp_path / "log"
    path.write_bytes(text([(STDOUT, True, b"one")]))
    follower = Follower(path, watcher)
    await follower.until(lambda data: data == b"one\n")
    follower.ended.set()
    follower.ended.clear()
    await follower.task


async def test_following_from_the_end_keeps_a_begun_line_whole(tmp_path: Path, watcher: Watcher) -> None:
    path = tmp_path / "log"
    path.write_bytes(text([(STDOUT, True, b"old"), (STDOUT, False, b"par")]))
    follower = Follower(path, watcher, LogOptions(follow=True, tail=0))
    await asyncio.sleep(0.01)
    with path.open("ab") as log:
        log.write(text([(STDOUT, True, b"tial")]))
    await follower.until(lambda data: data == b"partial\n")
    follower.ended.set()
    await follower.task


async def test_following_goes_on_across_rotations(tmp_path: Path, watcher: Watcher) -> None:
    path = tmp_path / "log"
    current = path.open("ab", buffering=0)
    follower = Follower(path, watcher)
    for number in range(50):
        current.write(text([(STDOUT, True, b"%d" % number)]))
        if number % 7 == 0:
            rotate(path, LogLimits(max_size=1, max_files=3), tmp_path / "ctl")
            current.write(text([(STDOUT, True, b"late")]))  # to the renamed file, as conmon does until it reopens
            current.close()
            current = (tmp_path / "log.tmp").open("ab", buffering=0)
            (tmp_path / "log.tmp").rename(path)
            await follower.until(lambda data, wanted=b"%d\nlate\n" % number: data.endswith(wanted))  # type: ignore[misc]
    current.close()
    follower.ended.set()
    await follower.task
    expected = "".join(f"{number}\n" + "late\n" * (number % 7 == 0) for number in range(50))
    assert follower.data.decode() == expected
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1", "log.2"]
    remove_logs(path)
    assert not os.listdir(tmp_path)


async def test_a_follower_that_is_cancelled_leaves_nothing(tmp_path: Path, watcher: Watcher) -> None:
    (tmp_path / "log").write_bytes(b"")
    follower = Follower(tmp_path / "log", watcher)
    await asyncio.sleep(0.01)
    follower.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await follower.task
    await asyncio.sleep(0)
    assert not watcher._waiting
