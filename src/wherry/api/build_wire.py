"""The connection of a build session: frames and streams. The protocol is in docs/api.md."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import msgspec

from wherry.api.rawstream import ClientGone, RawStream
from wherry.engine.builds.progress import Message
from wherry.errors import InvalidParameter
from wherry.model.build_session import LARGEST, Frames, Malformed, frame
from wherry.storage.streams import consume, consume_lent
from wherry.storage.tar import Source

Json = dict[str, Any]
T = TypeVar("T")
_HELD = 8 << 20  # bytes of one stream that wait to be read; then the client waits
_MESSAGES = 512  # of progress that wait to be sent; then processes wait
_PATIENCE = 0.5  # seconds until a thread that waits looks whether it shall go on
_RECEIVED = 256 << 10  # bytes at once; as much as the socket holds


class Wire:
    """The connection: streams apart, progress on its way out. Also the listener of the build."""

    def __init__(self, raw: RawStream) -> None:
        self._raw = raw
        self._controls: asyncio.Queue[Json] = asyncio.Queue()
        self._streams: dict[int, Inward] = {}
        self._numbers = 0
        self._messages: deque[Message] = deque()
        self._news = asyncio.Event()
        self._sent = asyncio.Event()
        self._sent.set()
        self._frames = Frames()
        self._turn = asyncio.Lock()  # whose it is to read: the loop's, or a thread's
        self._lending = asyncio.Lock()  # one at a time

    async def read(self) -> None:
        """Until the client goes away. Raises Malformed."""
        while await self._raw.arrived():
            async with self._turn:
                for number, payload in self._frames.feed(self._raw.taken()):
                    await self._dispatch(number, payload)

    async def _dispatch(self, number: int, payload: bytes) -> None:
        if number == 0:
            self._controls.put_nowait(_decoded(payload))
        elif (inward := self._streams.get(number)) is not None:
            await inward.put(payload)

    async def asked_directly(self, question: Json, work: Callable[[Source], T]) -> T:
        """Ask the client for a stream, and have a thread read it straight off the socket where that can be.

        What comes for others meanwhile reaches them. Raises what `work` raises.
        """
        async with self._lending, self._turn:
            inward = self.open()
            ((_, details),) = question.items()
            details["stream"] = inward.number
            try:
                with self._raw.lent() as connection:
                    if connection is not None:
                        ahead = self._raw.taken()
                        await self.say(question)
                        straight = Straight(connection, self._frames, ahead, inward.number, self._dispatch)
                        return await consume_lent(straight, work)
            finally:
                self.close(inward)
        return await self.asked(question, lambda inward: consume(inward, work))

    async def asked(self, question: Json, read: Callable[[Inward], Awaitable[T]]) -> T:
        """Ask the client for a stream that the loop reads."""
        inward = self.open()
        try:
            ((_, details),) = question.items()
            details["stream"] = inward.number
            await self.say(question)
            return await read(inward)
        finally:
            self.close(inward)

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

    def open(self) -> Inward:
        self._numbers += 1
        inward = self._streams[self._numbers] = Inward(self._numbers)
        return inward

    def close(self, inward: Inward) -> None:
        self._streams.pop(inward.number, None)
        inward.abandon()

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


class Inward:
    """What the client sends on one stream. One reader; bounded."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._abandoned = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, data: bytes) -> None:
        self._waiting.append(data)
        self._size += len(data)
        self._news.set()
        while self._size > _HELD and not self._abandoned:
            self._room.clear()
            await self._room.wait()

    def abandon(self) -> None:
        """Nobody reads it any more, and nobody waits until somebody does."""
        self._abandoned = True
        self._room.set()

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


class Straight:
    """One stream, read by a thread off the socket (`wherry.storage.streams.Lent`). Frames of others go to the loop."""

    def __init__(
        self,
        connection: socket.socket,
        frames: Frames,
        ahead: bytes,
        number: int,
        dispatch: Callable[[int, bytes], Coroutine[Any, Any, None]],
    ) -> None:
        connection.settimeout(_PATIENCE)
        self._connection = connection
        self._frames = frames
        self._ahead = ahead  # what has come already
        self._number = number
        self._dispatch = dispatch
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[bytes] = deque()
        self._ended = False
        self._cancelled = False

    def read(self, size: int, /) -> bytes:
        """A frame's bytes, b"" at the end. Raises InvalidParameter where the stream breaks off."""
        while not self._pieces and not self._ended:
            data, self._ahead = self._ahead or self._receive(), b""
            if not data:
                raise InvalidParameter("unexpected EOF: the sender went away")
            self._feed(data)
        piece = self._pieces.popleft() if self._pieces else b""
        if len(piece) > size:
            self._pieces.appendleft(piece[size:])
        return piece[:size]

    def _receive(self) -> bytes:
        while not self._cancelled:
            try:
                return self._connection.recv(_RECEIVED)
            except TimeoutError:
                continue
            except OSError:
                break
        return b""

    def _feed(self, data: bytes) -> None:
        try:
            found = self._frames.feed(data)
        except Malformed as error:
            raise InvalidParameter(str(error)) from None
        for number, payload in found:
            if number == self._number:
                self._pieces.append(payload)
                self._ended = self._ended or not payload
            else:
                self._pass_on(asyncio.run_coroutine_threadsafe(self._dispatch(number, payload), self._loop))

    def _pass_on(self, passing: Future[None]) -> None:
        """Wait until there is room for it, as the loop does."""
        while not self._cancelled:
            with contextlib.suppress(TimeoutError):
                passing.result(_PATIENCE)
                return

    def cancel(self) -> None:
        """Read no more. What the client still sends is the loop's to pass over."""
        self._cancelled = True


def _decoded(payload: bytes) -> Json:
    try:
        value = msgspec.json.decode(payload)
    except msgspec.DecodeError as error:
        raise Malformed(str(error)) from None
    if not isinstance(value, dict):
        raise Malformed("no object")
    return value
