"""POST /wherry/build: builds with all that the classic endpoint cannot carry. The protocol is in docs/api.md.

The engine asks for what it needs: a list of a directory's files, then the contents that it lacks; secrets; connections
to an SSH agent. The end of the connection is the end of the build.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import Any

import msgspec

from wherry.api.app import Call, Route
from wherry.api.build_contents import take_contents
from wherry.api.build_wire import Inward, Wire
from wherry.api.errors import message_of
from wherry.api.rawstream import ClientGone
from wherry.api.server import Answer
from wherry.engine.builds.layouts import Directory
from wherry.engine.builds.orders import Delivery, carry_out
from wherry.engine.builds.service import Builds
from wherry.engine.builds.trees import Connect, ProcessFailed
from wherry.errors import InvalidParameter, WherryError
from wherry.model import file_list
from wherry.model.build_session import LARGEST, UPGRADE, BuildOrder
from wherry.model.file_list import FileList

Json = dict[str, Any]
_LIST_MAX = 1 << 30
_HEAD = f"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: {UPGRADE}\r\n\r\n"


def routes(builds: Builds) -> list[Route]:
    """The routes of this file."""

    async def session(call: Call) -> Answer:
        if (call.headers.get("upgrade") or "").lower() != UPGRADE:
            raise InvalidParameter(f"a build session needs the header Upgrade: {UPGRADE}")
        raw = await call.take_over(_HEAD.encode())
        wire = Wire(raw)
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


async def _serve(builds: Builds, wire: Wire) -> None:
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


class _SessionClient(Delivery):
    """The client at the other end, as a build sees it."""

    def __init__(self, builds: Builds, wire: Wire, order: BuildOrder) -> None:
        self._builds = builds
        self._wire = wire
        self._order = order

    async def files(self, name: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> FileList:
        listed = await self._wire.asked(
            {"list": {"context": name, "include": list(include), "exclude": list(exclude)}}, _collected
        )
        files = await asyncio.to_thread(file_list.decode, listed)
        sizes = files.contents()
        contents = self._builds.contents
        lacking = await asyncio.to_thread(contents.missing, sizes)
        for batch in _batches([digest for digest in sizes if digest in lacking]):
            await self._wire.asked_directly(
                {"send": {"context": name, "contents": [digest.hex() for digest in batch]}},
                partial(take_contents, digests=batch, contents=contents),
            )
        self._builds.contexts.remember(files, f"{self._order.identity} {name}")
        return files

    async def archive(self) -> FileList:
        """The tar that the client has for the main context."""
        return await self._wire.asked({"archive": {}}, self._builds.contexts.uploaded)

    async def secret(self, id: str) -> bytes | None:
        if id not in self._order.secrets:
            return None
        return await self._wire.asked({"secret": {"id": id}}, _collected)

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
        return bool(await self._wire.asked({"cache_has": {"directory": number, "path": path}}, _collected))

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


async def _collected(inward: Inward) -> bytes:
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
