"""Attach and exec: a connection becomes the process's stdin, stdout and stderr.

Source of the protocol: the API description of POST /containers/{id}/attach ("Hijacking", "Stream format").
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, Protocol

from wherry.api.app import Call
from wherry.api.errors import message_of, status_of
from wherry.api.rawstream import ClientGone
from wherry.api.server import Answer
from wherry.api.services import Session
from wherry.errors import InvalidParameter

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
REASONS = {400: "Bad Request", 404: "Not Found", 409: "Conflict", 500: "Internal Server Error"}
DEFAULT_DETACH_KEYS = b"\x10\x11"  # ctrl-p, ctrl-q

_CONTROL = {f"ctrl-{letter}": code for code, letter in enumerate("@abcdefghijklmnopqrstuvwxyz[\\]^_")}
_CONTROL["DEL"] = 127


def frame(stream: int, data: bytes) -> bytes:
    """One frame of the multiplexed format: stream (0 stdin, 1 stdout, 2 stderr), three zeros, length, data."""
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


def detach_keys(written: str) -> bytes:
    """The bytes of a detach sequence such as `ctrl-p,ctrl-q` or `ctrl-x,q`; the default where none is given.

    Raises InvalidParameter in Docker's words.
    """
    if not written:
        return DEFAULT_DETACH_KEYS
    keys = bytearray()
    for key in written.split(","):
        if len(key) == 1 and key.isascii():
            keys += key.encode()
        elif key in _CONTROL:
            keys.append(_CONTROL[key])
        else:
            raise InvalidParameter(f"Invalid detach keys ({written}) provided")
    return bytes(keys)


class DetachWatch:
    """Finds the detach sequence in what a terminal sends; a part of it is held back until it is clear what it is.

    The key that breaks a sequence off begins none, as in Docker: ctrl-p, ctrl-p, ctrl-q is passed on.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on, and whether the sequence is complete (what follows it is dropped)."""
        passed = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    return bytes(passed), True
            else:
                passed += self._keys[: self._matched]
                passed.append(byte)
                self._matched = 0
        return bytes(passed), False


def takeover_head(call: Call, tty: bool, headers: dict[str, str] | None = None) -> bytes:
    """The answer that turns the connection into a stream: 101 where the client asked for an upgrade, 200 otherwise."""
    if call.headers.get("upgrade"):
        multiplexed = not tty and call.version >= (1, 42)
        lines = [
            "HTTP/1.1 101 UPGRADED",
            f"Content-Type: {MULTIPLEXED if multiplexed else RAW}",
            "Connection: Upgrade",
            "Upgrade: tcp",
        ]
    else:
        lines = ["HTTP/1.1 200 OK", f"Content-Type: {RAW}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def refuse(call: Call, error: Exception) -> Answer:
    """An error of attach: as the real engine's, plain text on a connection that is then closed."""
    status = status_of(error)
    head = f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}\r\nContent-Type: {RAW}\r\n\r\n{message_of(error)}\r\n"
    await (await call.take_over(head.encode())).finish()
    return None


async def serve(call: Call, session: Session, keys: bytes, *, headers: dict[str, str] | None = None) -> Answer:
    """Run a session over the caller's connection until the process's output ends, the client is gone or detaches."""
    stream = await call.take_over(takeover_head(call, session.tty, headers))
    return await carry(call, stream, session, keys, multiplexed=not session.tty)


async def serve_new(
    call: Call, start: Awaitable[Session | None], keys: bytes, *, tty: bool, headers: dict[str, str]
) -> Answer:
    """Take the connection over, then start a process and run its session; why it could not start is told on the stream.

    The head is sent first, as by the real engine: clients that buffer what they read of it (docker-py) would lose
    output that came along.
    """
    stream = await call.take_over(takeover_head(call, tty, headers))
    try:
        session = await start
    except Exception as error:
        text = message_of(error).encode() + b"\r\n"
        with suppress(ClientGone):
            await stream.write(text if tty else frame(1, text))
            await stream.finish()
        return None
    assert session is not None
    return await carry(call, stream, session, keys, multiplexed=not session.tty)


async def carry(call: Call, stream: Stream, session: Session, keys: bytes, *, multiplexed: bool) -> Answer:
    """Run a session over a stream; output is multiplexed into frames that name theirs, or plain."""
    try:
        await call.while_connected(
            pump(stream, session, keys, multiplexed=multiplexed)
        )  # a stop of the daemon ends it too
    except ClientGone:
        pass
    finally:
        await session.close()
    return None


class Farewell(Exception):
    """The client said that it leaves, as far as the stream has a word for that."""


class Stream(Protocol):
    """A connection taken over: `wherry.api.rawstream.RawStream`, or what speaks another protocol on one."""

    @property
    def gone(self) -> asyncio.Future[None]: ...
    async def read(self) -> bytes: ...
    async def write(self, data: bytes) -> None: ...
    async def finish(self) -> None: ...
    def abort(self) -> None: ...


async def pump(stream: Stream, session: Session, keys: bytes, *, multiplexed: bool) -> None:
    """Carry bytes both ways. Ends with the output, with the client, or at the detach sequence; closes the stream.

    The end of the client's input closes stdin and cuts nothing.
    """
    outward = asyncio.create_task(_outward(stream, session, multiplexed))
    inward = asyncio.create_task(_inward(stream, session, keys))
    try:
        ends: set[asyncio.Future[Any]] = {outward, inward, stream.gone}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        detached = inward.done() and not inward.cancelled() and inward.exception() is None and inward.result()
        if not detached:
            await asyncio.wait({outward, stream.gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (outward, inward):
            if not task.done():
                task.cancel()
        results = await asyncio.gather(outward, inward, return_exceptions=True)
        if stream.gone.done():
            stream.abort()
        else:
            await stream.finish()
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, ClientGone):
            raise result


async def _outward(stream: Stream, session: Session, multiplexed: bool) -> None:
    async for number, data in session.output():
        await stream.write(frame(number, data) if multiplexed else data)


async def _inward(stream: Stream, session: Session, keys: bytes) -> bool:
    """Feed stdin until the client ends it. True if the client typed the detach sequence, or took its leave."""
    watch = DetachWatch(keys) if session.tty else None
    listening = True
    while True:
        try:
            data = await stream.read()
        except Farewell:
            return True
        if not data:
            break
        detached = False
        if watch is not None:
            data, detached = watch.feed(data)
        if data and listening:
            try:
                await session.write(data)
            except OSError:  # the process closed its stdin: the rest is read only to notice the client's end
                listening = False
        if detached:
            return True
    with suppress(OSError):
        await session.close_stdin()
    return False
