"""POST /wherry/build: builds with all that the classic endpoint cannot carry. The protocol is in docs/api.md.

The engine asks for what it needs: a list of a directory's files, then the contents that it lacks; secrets; connections
to an SSH agent. The end of the connection is the end of the build.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import msgspec

from wherry.api.app import Call, Route
from wherry.api.errors import message_of
from wherry.api.rawstream import ClientGone, RawStream
from wherry.api.server import Answer
from wherry.engine.builds.layouts import Directory
from wherry.engine.builds.orders import Delivery, carry_out
from wherry.engine.builds.progress import Message
from wherry.engine.builds.service import Builds
from wherry.engine.builds.trees import Connect, ProcessFailed
from wherry.errors import InvalidParameter, NotFound, WherryError
from wherry.model import file_list
from wherry.model.build_session import LARGEST, UPGRADE, BuildOrder, Frames, Malformed, frame
from wherry.model.file_list import FileList
from wherry.storage.content import IN_MEMORY, Contents
from wherry.storage.streams import consume
from wherry.storage.tar import Source

Json = dict[str, Any]
T = TypeVar("T")
_HELD = 8 << 20  # bytes of one stream that wait to be read; then the client waits
_MESSAGES = 512  # of progress that wait to be sent; then processes wait
_LIST_MAX = 1 << 30
_HANDS = 2  # threads that keep contents
_HANDFUL = 1 << 19  # bytes of contents that one of them is given at once, at least
_HANDFUL_FILES = 64
_PIECE = 1 << 20  # bytes
_KEEPING = 8  # handfuls that wait for them
_HEAD = f"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: {UPGRADE}\r\n\r\n"


def routes(builds: Builds) -> list[Route]:
    """The routes of this file."""

    async def session(call: Call) -> Answer:
        if (call.headers.get("upgrade") or "").lower() != UPGRADE:
            raise InvalidParameter(f"a build session needs the header Upgrade: {UPGRADE}")
        raw = await call.take_over(_HEAD.encode())
        wire = _Wire(raw)
        serving = asyncio.create_task(_serve(builds, wire))
        reading = asyncio.create_task(wire.read())
        try:
            await call.while_connected(_until_either(serving, reading))
        except ClientGone:
            pass
        finally:
            for task in (serving, reading):
                task.cancel()
            await asyncio.wait({serving, reading})
            if raw.gone.done():
                raw.abort()
            else:
                await raw.finish()
        return None

    return [Route("POST", "/wherry/build", session)]


async def _until_either(serving: asyncio.Task[None], reading: asyncio.Task[None]) -> None:
    await asyncio.wait({serving, reading}, return_when=asyncio.FIRST_COMPLETED)


async def _serve(builds: Builds, wire: _Wire) -> None:
    telling = asyncio.create_task(wire.tell_on())
    last: Json
    try:
        order = _order(await wire.control())
        client = _SessionClient(builds, wire, order)
        last = {"done": await carry_out(builds, order, client, wire)}
    except ProcessFailed as error:
        last = {"error": {"message": str(error), "code": error.exit_code, "lines": list(error.place or ())}}
    except WherryError as error:
        last = {"error": {"message": message_of(error), "lines": list(error.place or ())}}
    except ClientGone:
        raise
    except Exception as error:
        last = {"error": {"message": message_of(error)}}
    finally:
        await wire.told()
        telling.cancel()
    await wire.say(last)


def _order(message: Json) -> BuildOrder:
    try:
        return msgspec.convert(message["build"], BuildOrder)
    except KeyError:
        raise InvalidParameter("the first object of a build session is {build: ...}") from None
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"invalid build: {error}") from None


class _Wire:
    """The connection: streams apart, progress on its way out. Also the listener of the build."""

    def __init__(self, raw: RawStream) -> None:
        self._raw = raw
        self._controls: asyncio.Queue[Json] = asyncio.Queue()
        self._streams: dict[int, _Inward] = {}
        self._numbers = 0
        self._messages: deque[Message] = deque()
        self._news = asyncio.Event()
        self._sent = asyncio.Event()
        self._sent.set()

    async def read(self) -> None:
        """Until the client goes away. Raises Malformed."""
        frames = Frames()
        while data := await self._raw.read():
            for number, payload in frames.feed(data):
                if number == 0:
                    self._controls.put_nowait(_decoded(payload))
                elif (inward := self._streams.get(number)) is not None:
                    await inward.put(payload)

    async def control(self) -> Json:
        """The next object from the client."""
        return await self._controls.get()

    async def say(self, message: Json) -> None:
        data = msgspec.json.encode(message)
        if len(data) > LARGEST:
            raise Malformed("an object of more than a frame")
        await self._raw.write(frame(0, data))

    async def send(self, number: int, data: bytes) -> None:
        """Bytes of a stream, b"" for its end."""
        if not data:
            await self._raw.write(frame(number, b""))
        for place in range(0, len(data), LARGEST):
            await self._raw.write(frame(number, data[place : place + LARGEST]))

    def open(self) -> _Inward:
        self._numbers += 1
        inward = self._streams[self._numbers] = _Inward(self._numbers)
        return inward

    def close(self, inward: _Inward) -> None:
        self._streams.pop(inward.number, None)

    # progress

    def tell(self, message: Message, /) -> None:
        self._messages.append(message)
        self._news.set()

    async def room(self) -> None:
        while len(self._messages) > _MESSAGES:
            self._sent.clear()
            await self._sent.wait()

    async def tell_on(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await self._flush()

    async def told(self) -> None:
        """All that was told is sent."""
        with contextlib.suppress(ClientGone):
            await self._flush()

    async def _flush(self) -> None:
        while self._messages:
            batch = [self._messages.popleft() for _ in range(min(len(self._messages), 16))]
            await self.say({"progress": batch})
            self._sent.set()


class _Inward:
    """What the client sends on one stream. One reader; bounded."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, data: bytes) -> None:
        self._waiting.append(data)
        self._size += len(data)
        self._news.set()
        while self._size > _HELD:
            self._room.clear()
            await self._room.wait()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            while not self._waiting:
                self._news.clear()
                await self._news.wait()
            data = self._waiting.popleft()
            self._size -= len(data)
            self._room.set()
            if not data:
                return
            yield data


class _SessionClient(Delivery):
    """The client at the other end, as a build sees it."""

    def __init__(self, builds: Builds, wire: _Wire, order: BuildOrder) -> None:
        self._builds = builds
        self._wire = wire
        self._order = order

    async def files(self, name: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> FileList:
        listed = await self._asked(
            {"list": {"context": name, "include": list(include), "exclude": list(exclude)}}, _collected
        )
        files = await asyncio.to_thread(file_list.decode, listed)
        sizes = files.contents()
        contents = self._builds.contents
        missing = sorted(await asyncio.to_thread(contents.missing, sizes))
        for batch in _batches(missing):
            await self._asked(
                {"send": {"context": name, "contents": [digest.hex() for digest in batch]}},
                partial(_received, batch, contents),
            )
        self._builds.contexts.remember(files, f"{self._order.identity} {name}")
        return files

    async def archive(self) -> FileList:
        """The tar that the client has for the main context."""
        return await self._asked({"archive": {}}, self._builds.contexts.uploaded)

    async def secret(self, id: str) -> bytes | None:
        if id not in self._order.secrets:
            return None
        return await self._asked({"secret": {"id": id}}, _collected)

    async def agent(self, id: str) -> Connect | None:
        if id not in self._order.agents:
            return None

        async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            inward = self._wire.open()
            await self._wire.say({"agent": {"id": id, "stream": inward.number}})
            sending = asyncio.create_task(self._send_on(reader, inward.number))
            try:
                async for data in inward:
                    writer.write(data)
                    await writer.drain()
            finally:
                sending.cancel()
                await asyncio.wait({sending})
                self._wire.close(inward)
                writer.close()

        return connect

    async def _send_on(self, reader: asyncio.StreamReader, number: int) -> None:
        while data := await reader.read(1 << 16):
            await self._wire.send(number, data)
        await self._wire.send(number, b"")

    async def deliver(self, number: int, pieces: AsyncIterator[bytes]) -> None:
        """An output that goes to the client."""
        inward = self._wire.open()
        try:
            await self._wire.say({"output": {"number": number, "stream": inward.number}})
            async for piece in pieces:
                await self._wire.send(inward.number, piece)
            await self._wire.send(inward.number, b"")
        finally:
            self._wire.close(inward)

    def directory(self, number: int) -> Directory:
        return _Files(self, number)

    async def cache_has(self, number: int, path: str) -> bool:
        return bool(await self._asked({"cache_has": {"directory": number, "path": path}}, _collected))

    async def cache_read(self, number: int, path: str) -> AsyncGenerator[bytes, None]:
        inward = self._wire.open()
        try:
            await self._wire.say({"cache_read": {"stream": inward.number, "directory": number, "path": path}})
            async for data in inward:
                yield data
        finally:
            self._wire.close(inward)

    async def cache_write(self, number: int, path: str, pieces: AsyncIterator[bytes]) -> None:
        inward = self._wire.open()
        try:
            await self._wire.say({"cache_write": {"stream": inward.number, "directory": number, "path": path}})
            async for piece in pieces:
                await self._wire.send(inward.number, piece)
            await self._wire.send(inward.number, b"")
        finally:
            self._wire.close(inward)

    async def _asked(self, question: Json, read: Callable[[_Inward], Awaitable[T]]) -> T:
        inward = self._wire.open()
        try:
            ((_, details),) = question.items()
            details["stream"] = inward.number
            await self._wire.say(question)
            return await read(inward)
        finally:
            self._wire.close(inward)


class _Files:
    """A directory of the client's where a cache is; see `wherry.engine.builds.layouts.Directory`."""

    def __init__(self, client: _SessionClient, number: int) -> None:
        self._client = client
        self._number = number

    async def has(self, path: str) -> bool:
        return await self._client.cache_has(self._number, path)

    def read(self, path: str) -> AsyncGenerator[bytes, None]:
        return self._client.cache_read(self._number, path)

    async def write(self, path: str, pieces: AsyncIterator[bytes]) -> None:
        await self._client.cache_write(self._number, path, pieces)


async def _received(digests: list[bytes], contents: Contents, inward: _Inward) -> None:
    await consume(inward, lambda source: _take_contents(source, digests, contents))


async def _collected(inward: _Inward) -> bytes:
    whole = bytearray()
    async for data in inward:
        whole += data
        if len(whole) > _LIST_MAX:
            raise InvalidParameter("more than 1 GB of something that is kept in memory")
    return bytes(whole)


def _batches(digests: list[bytes]) -> list[list[bytes]]:
    """So many that a question fits into a frame."""
    most = LARGEST // 80
    return [digests[place : place + most] for place in range(0, len(digests), most)]


def _take_contents(source: Source, digests: list[bytes], contents: Contents) -> None:
    """Each content behind its size, a 64-bit number, big-endian. Blocking. Raises InvalidParameter, NotFound.

    Small ones are hashed and written by other threads, a bounded number at once.
    """
    stream = _Reader(source)
    keeping: deque[Future[None]] = deque()
    handful: list[tuple[memoryview, bytes]] = []
    held = 0

    def keep(handful: list[tuple[memoryview, bytes]]) -> None:
        for data, digest in handful:
            contents.put(data, digest)

    with ThreadPoolExecutor(_HANDS, "contents") as pool:
        for digest in digests:
            head = stream.exactly(8)
            if head is None:
                raise NotFound("a file is not there any more: build again")
            size = int.from_bytes(head, "big")
            if size <= IN_MEMORY:
                handful.append((stream.expected(size), digest))
                held += size
                if held >= _HANDFUL or len(handful) == _HANDFUL_FILES:
                    keeping.append(pool.submit(keep, handful))
                    handful, held = [], 0
                if len(keeping) > _KEEPING:
                    keeping.popleft().result()
                continue
            with contents.begin() as writing:
                while size:
                    data = stream.expected(min(size, IN_MEMORY))
                    writing.write(data)
                    size -= len(data)
                writing.commit_as(digest)
        keep(handful)
        for kept in keeping:
            kept.result()
    while source.read(_PIECE):
        pass


class _Reader:
    """Reads so many bytes as are asked for; what lies in one piece of the source is not copied."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._rest = memoryview(b"")

    def exactly(self, size: int) -> memoryview | None:
        """None where the source ends before."""
        if len(self._rest) < size:
            pieces: list[bytes | memoryview] = [self._rest]
            held = len(self._rest)
            while held < size:
                piece = self._source.read(_PIECE)
                if not piece:
                    return None
                pieces.append(piece)
                held += len(piece)
            self._rest = memoryview(b"".join(pieces))
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def expected(self, size: int) -> memoryview:
        """Raises NotFound where the source ends before."""
        found = self.exactly(size)
        if found is None:
            raise NotFound("a file became shorter while it was sent: build again")
        return found


def _decoded(payload: bytes) -> Json:
    try:
        value = msgspec.json.decode(payload)
    except msgspec.DecodeError as error:
        raise Malformed(str(error)) from None
    if not isinstance(value, dict):
        raise Malformed("no object")
    return value
