import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.linux.inotify import Watcher
from wherry.model.logging_options import LogLimits
from wherry.model.logs import MESSAGE, STDERR, STDOUT, Assembler, LogEntry, LogOptions, TailFinder
from wherry.storage.logs import read_log, trim

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
    finder = TailFinder(count, end=len(records), over=over)
    for index in reversed(range(len(records))):
        stream, full, _ = records[index]
        finder.add(index, stream, ends_line=full)
    chosen = [record for index, record in enumerate(records) if index >= finder.begins[record[0]]]
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
@given(records=RECORDS, tail=st.none() | st.integers(0, 10))
def test_a_log_and_its_tail(tmp_path_factory: pytest.TempPathFactory, records: list[Record], tail: int | None) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(text(records))

    async def read() -> list[LogEntry]:
        watcher = Watcher()
        try:
            return await collect(path, LogOptions(tail=tail), watcher)
        finally:
            watcher.close()

    entries, expected = asyncio.run(read()), shown(records)
    if tail is None:
        assert entries == expected
    else:
        assert len(entries) == min(tail, len(expected)) and set(entries) <= set(expected)


@settings(deadline=None, max_examples=30)
@given(lines=st.integers(0, 3000), size=st.integers(1, 200_000), files=st.integers(1, 3), tail=st.none() | st.just(50))
def test_a_trimmed_log_is_the_end_of_the_whole_one(
    tmp_path_factory: pytest.TempPathFactory, lines: int, size: int, files: int, tail: int | None
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    records = [(STDOUT, True, b"%d " % number + b"x" * 90) for number in range(lines)]
    whole = text(records)
    path.write_bytes(whole)
    bound = LogLimits(max_size=size, max_files=files)
    assert trim(path, bound) is (len(whole) > size * files)
    assert path.stat().st_size == len(whole)
    assert path.stat().st_blocks * 512 <= max(size * files, 4096) + 2 * 4096

    async def read() -> list[LogEntry]:
        watcher = Watcher()
        try:
            return await collect(path, LogOptions(tail=tail), watcher)
        finally:
            watcher.close()

    entries, expected = asyncio.run(read()), shown(records)
    longest = len(whole) // lines + 10 if lines else 0
    kept = max(0, min(len(whole), size * files) - longest) // max(1, longest)
    if tail is not None:
        expected, kept = expected[-tail:], min(kept, tail)
    assert kept <= len(entries) and entries == expected[len(expected) - len(entries) :]


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


async def test_following_goes_on_while_the_log_is_trimmed(tmp_path: Path, watcher: Watcher) -> None:
    path = tmp_path / "log"
    follower = Follower(path, watcher)
    with path.open("ab", buffering=0) as log:
        for number in range(200):
            log.write(text([(STDOUT, True, b"%d " % number + b"x" * 200)]))
            if number % 20 == 19:
                await follower.until(lambda data, wanted=b"\n%d " % number: wanted in data)  # type: ignore[misc]
                assert await asyncio.to_thread(trim, path, LogLimits(max_size=1000))
    follower.ended.set()
    await follower.task
    assert [line.split()[0] for line in follower.data.splitlines()] == [b"%d" % number for number in range(200)]
    assert [entry.data.split()[0] for entry in await collect(path, LogOptions(), watcher)] == [
        b"%d" % number for number in range(196, 200)
    ]


async def test_a_follower_that_is_too_slow_goes_on_where_the_log_still_is(tmp_path: Path, watcher: Watcher) -> None:
    path = tmp_path / "log"
    records = [(STDOUT, True, b"%d " % number + b"x" * 200) for number in range(20_000)]
    path.write_bytes(text(records))
    ended = asyncio.Event()
    ended.set()
    numbers = []
    async with aclosing(read_log(path, LogOptions(follow=True), ended=ended, watcher=watcher)) as log:
        async for entry in log:
            if not numbers:
                await asyncio.to_thread(trim, path, LogLimits(max_size=10_000))
            numbers.append(int(entry.data.split()[0]))
    assert numbers[-1] == 19_999 and numbers == sorted(numbers) and len(numbers) < 2000


async def test_a_follower_that_is_cancelled_leaves_nothing(tmp_path: Path, watcher: Watcher) -> None:
    (tmp_path / "log").write_bytes(b"")
    follower = Follower(tmp_path / "log", watcher)
    await asyncio.sleep(0.01)
    follower.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await follower.task
    await asyncio.sleep(0)
    assert not watcher._waiting
