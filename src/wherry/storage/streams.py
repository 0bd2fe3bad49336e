"""Byte streams between the loop and threads, and their compression."""

from __future__ import annotations

import asyncio
import bz2
import contextlib
import io
import lzma
import os
import threading
import zlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterator
from queue import SimpleQueue
from typing import IO, Any, Protocol, TypeVar, cast, runtime_checkable

import zstandard
from isal import igzip, isal_zlib

from wherry.errors import InvalidParameter
from wherry.storage.tar import Copying, Source

T = TypeVar("T")
_HIGH_WATER = 8 << 20  # bytes that wait for the thread before the sender is held back


class Pipe:
    """The loop writes with `pump`, a thread reads with `read`; bounded, so that neither outruns the other.

    Example: `pipe = Pipe(); work = asyncio.create_task(asyncio.to_thread(consume, pipe)); await pipe.pump(body)`.
    The loop never waits for a lock here.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self._waiting = 0  # bytes sent and not yet known to be read; the loop's
        self._room = asyncio.Event()
        self._abandoned = False
        self._piece = memoryview(b"")  # what the thread has not taken of the last piece
        self._taken = 0  # bytes read and not yet told to the loop; the thread's
        self._ended = False

    async def pump(self, stream: AsyncIterable[bytes]) -> None:
        """Feed the whole stream. A failure of the stream is raised here and in the reader."""
        try:
            async for piece in stream:
                if self._abandoned:
                    return
                if not piece:
                    continue
                self._queue.put(piece)
                self._waiting += len(piece)
                while self._waiting >= _HIGH_WATER and not self._abandoned:
                    self._room.clear()
                    await self._room.wait()
        except BaseException as error:
            self._queue.put(error)
            raise
        self._queue.put(None)

    def abandon(self) -> None:
        """The reader wants no more: `pump` returns at its next piece. Called by the thread."""
        self._tell(self._abandon)

    def read(self, size: int, /) -> bytes:
        """Blocking: between 1 and `size` bytes, b"" at the end. Raises InvalidParameter if the sender went away."""
        if not self._piece and not self._ended:
            item = self._queue.get()
            if isinstance(item, BaseException):
                self._ended = True
                raise InvalidParameter("unexpected EOF: the sender went away") from item
            self._ended = item is None
            self._piece = memoryview(item or b"")
            self._taken += len(self._piece)
            if self._taken >= _HIGH_WATER // 4:
                self._tell(self._took, self._taken)
                self._taken = 0
        whole, self._piece = self._piece, self._piece[size:]
        if len(whole) <= size and isinstance(whole.obj, bytes) and len(whole.obj) == len(whole):
            return whole.obj
        return bytes(whole[:size])

    def _tell(self, what: Callable[..., None], *arguments: int) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there to be told
            self._loop.call_soon_threadsafe(what, *arguments)

    def _took(self, size: int) -> None:
        self._waiting -= size
        self._room.set()

    def _abandon(self) -> None:
        self._abandoned = True
        self._room.set()


def in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Do it in a thread of its own: what waits for a client may wait for ever, and the engine's threads are few."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(T, result))

    def run() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = work()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="stream", daemon=True).start()
    return future


class Lent(Source, Protocol):
    """A stream that a thread may read by itself. After `cancel` its `read` raises."""

    def cancel(self) -> None: ...


@runtime_checkable
class Lender(Protocol):
    """A stream that can be read by a thread instead, for a while; None if not now."""

    def lent(self) -> contextlib.AbstractAsyncContextManager[Lent | None]: ...


async def consume(stream: AsyncIterable[bytes], work: Callable[[Source], T]) -> T:
    """Run `work` in a thread on the stream; returns what it returns, and not before it has ended."""
    if isinstance(stream, Lender):
        async with stream.lent() as source:
            if source is not None:
                return await consume_lent(source, work)
    pipe = Pipe()

    def guarded() -> T:
        try:
            return work(pipe)
        finally:
            pipe.abandon()

    done = in_thread(guarded)
    try:
        await pipe.pump(stream)
    finally:
        await asyncio.wait((done,))
        done.exception()  # seen, also where another failure is the one that is raised
    return done.result()


async def consume_lent(source: Lent, work: Callable[[Source], T]) -> T:
    done = in_thread(lambda: work(source))
    try:
        await asyncio.wait((done,))
    except asyncio.CancelledError:
        source.cancel()
        await asyncio.wait((done,))
        done.exception()
        raise
    return done.result()


async def flow(pieces: Generator[bytes, None, None]) -> AsyncGenerator[bytes, None]:
    """A blocking generator's pieces, each made in a thread while the one before is taken.

    Close it (`contextlib.aclosing`): the generator is closed with it, and not before it rests.
    """
    work = asyncio.create_task(asyncio.to_thread(next, pieces, None))
    try:
        while (piece := await asyncio.shield(work)) is not None:
            work = asyncio.create_task(asyncio.to_thread(next, pieces, None))
            if piece:
                yield piece
    finally:
        await asyncio.wait((work,))
        work.exception()
        pieces.close()


class Pieces:
    """A generator of pieces as a source."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            if piece and len(piece) <= size:
                return piece
            self._rest = memoryview(piece)
        piece = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return piece


class Peekable:
    """A source whose first bytes can be looked at before they are read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._head = b""

    def peek(self, size: int) -> bytes:
        while len(self._head) < size:
            more = self._source.read(size - len(self._head))
            if not more:
                break
            self._head += more
        return self._head

    def read(self, size: int = -1, /) -> bytes:
        if self._head:
            if size < 0:
                size = len(self._head)
            piece, self._head = self._head[:size], self._head[size:]
            return piece
        return self._source.read(size if size >= 0 else 1 << 20)

    def copier(self) -> Callable[[int, int], int] | None:
        """The source's `copy_to`, if it has one (see `wherry.storage.tar.Copying`), what was looked at coming first."""
        source = self._source
        if not isinstance(source, Copying):
            return None

        def copy_to(descriptor: int, limit: int) -> int:
            if self._head:
                return os.write(descriptor, self.read(limit))  # a few bytes: all or an error
            return source.copy_to(descriptor, limit)

        return copy_to


_DAMAGE: tuple[type[Exception], ...] = (
    EOFError,
    zlib.error,
    cast(type[Exception], isal_zlib.error),
    lzma.LZMAError,
    zstandard.ZstdError,
    igzip.BadGzipFile,
)

_MAGIC = (
    ("gzip", b"\x1f\x8b\x08"),
    ("zstd", b"\x28\xb5\x2f\xfd"),
    ("bzip2", b"BZh"),
    ("xz", b"\xfd7zXZ\0"),
)


_SKIPPABLE = b"\x2a\x4d\x18"  # the end of a skippable frame's magic
_RUN_LENGTH = 1  # a block of one byte repeated
_ZSTD_WINDOW_MAX = 1 << 27  # bytes of memory, as the zstd command takes without being asked
_XZ_MEMORY_MAX = 1 << 28


def compression_of(head: bytes) -> str:
    """gzip, zstd, bzip2, xz, or "" for none of them, by the first six bytes."""
    for name, magic in _MAGIC:
        if head.startswith(magic):
            return name
    if len(head) >= 4 and 0x50 <= head[0] <= 0x5F and head[1:4] == _SKIPPABLE:
        return "zstd"  # a skippable frame comes first (RFC 8878, 3.1.2)
    return ""


class Decompressed:
    """The plain bytes of a source compressed in any known way. Raises InvalidParameter where it is damaged."""

    def __init__(self, source: Source) -> None:
        peekable = Peekable(source)
        self.compression = compression_of(peekable.peek(6))
        self._stream = _decoder(self.compression, peekable)
        if not self.compression and (copier := peekable.copier()) is not None:
            self.copy_to = copier

    def read(self, size: int, /) -> bytes:
        try:
            return self._stream.read(size)
        except _DAMAGE as error:
            raise InvalidParameter(f"the {self.compression} stream is damaged or truncated: {error}") from error
        except OSError as error:
            if error.errno is None:  # bz2 and gzip report bad data so
                raise InvalidParameter(f"the {self.compression} stream is damaged: {error}") from error
            raise


def _decoder(compression: str, source: Peekable) -> Source:
    if compression == "gzip":
        return cast(Source, cast(Any, igzip.IGzipFile)(fileobj=_AsFile(source), mode="rb"))
    if compression == "zstd":
        decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_MAX)
        whole = cast(IO[bytes], _AsFile(WholeFrames(source)))
        return cast(Source, decoder.stream_reader(whole, read_size=1 << 18, read_across_frames=True))
    if compression == "bzip2":
        return _Streams(source, bz2.BZ2Decompressor)
    if compression == "xz":
        return _Streams(source, lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY_MAX))
    return source


class _AsFile(io.RawIOBase):
    """A source as the file object that the gzip reader expects."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        return self._source.read(size)

    def readinto(self, buffer: Any, /) -> int:
        piece = self._source.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


class _Decompressor(Protocol):
    """What bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Streams:
    """Streams of xz or bzip2 one after another, with a bound on memory, which the library's readers lack."""

    def __init__(self, source: Source, make: Callable[[], _Decompressor]) -> None:
        self._source = source
        self._make = make
        self._decoder: _Decompressor | None = None
        self._input = b""

    def read(self, size: int, /) -> bytes:
        while True:
            if not self._input and (self._decoder is None or self._decoder.needs_input):
                self._input = self._source.read(1 << 18)
                if not self._input:
                    if self._decoder is not None:
                        raise EOFError("the last stream is incomplete")
                    return b""
            if self._decoder is None:
                self._input = self._input.lstrip(b"\0")  # xz pads its streams
                if not self._input:
                    continue
                self._decoder = self._make()
            piece = self._decoder.decompress(self._input, size)
            self._input = b""
            if self._decoder.eof:
                self._input, self._decoder = self._decoder.unused_data, None
            if piece:
                return piece


class WholeFrames:
    """A source of zstd frames that raises EOFError where it ends inside one; the library's own reader does not.

    It follows the frames' structure alone (RFC 8878, 3.1); what is wrong otherwise the decoder finds.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._between = True
        self._structure = self._frames()
        self._wanted, self._skip = next(self._structure)  # bytes to look at, after so many that are of no interest
        self._have = b""

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        if not data and not (self._between and not self._skip and not self._have):
            raise EOFError("the last frame is incomplete")
        position = 0
        while position < len(data):
            if self._skip:
                step = min(self._skip, len(data) - position)
                self._skip -= step
            else:
                step = min(self._wanted - len(self._have), len(data) - position)
                self._have += data[position : position + step]
                if len(self._have) == self._wanted:
                    self._wanted, self._skip = self._structure.send(self._have)
                    self._have = b""
            position += step
        return data

    def _frames(self) -> Generator[tuple[int, int], bytes, None]:
        skip = 0
        while True:
            self._between = True
            magic = yield 4, skip
            self._between = False
            if 0x50 <= magic[0] <= 0x5F and magic[1:] == _SKIPPABLE:
                skip = int.from_bytes((yield 4, 0), "little")
                continue
            (descriptor,) = yield 1, 0
            single_segment = descriptor & 0x20
            content_size = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
            skip = (0 if single_segment else 1) + (0, 1, 2, 4)[descriptor & 3] + content_size
            last = 0
            while not last:
                block = int.from_bytes((yield 3, skip), "little")
                last = block & 1
                skip = 1 if block >> 1 & 3 == _RUN_LENGTH else block >> 3
            skip += 4 if descriptor & 4 else 0  # checksum
