"""A connection that was taken over from HTTP: bytes both ways, and who is at its other end."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

HELD = 64 << 10  # bytes read ahead of whoever takes them
PATIENCE = 1_000_000.0  # seconds a thread waits for more; without a bound a socket cannot be shared


class ClientGone(ConnectionError):
    """Nobody is there to answer, or the daemon is stopping."""


class RawStream(asyncio.Protocol):
    """A connection taken over: bytes both ways, each direction with a bounded buffer, half-close kept.

        while data := await stream.read():   # b"" once the client has closed its sending half
            await stream.write(data)         # returns when there is room for more
        await stream.finish()

    `read` and `write` raise ClientGone once the client has closed altogether.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        ahead: bytes,
        ended: bool,
        lost: Callable[[Exception | None], None],
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._held = [ahead] if ahead else []
        self._size = len(ahead)
        self._ended = ended
        self._lost = lost
        self._closed = transport.is_closing()
        self._paused_reading = False
        self._lent = False  # somebody else reads what comes
        self._room = asyncio.Event()
        self._room.set()
        self._news = asyncio.Event()
        self._hang_up: HangUp | None = None
        self.gone = loop.create_future()
        transport.set_protocol(self)
        if ended:
            self._watch()
        else:
            transport.resume_reading()

    def _watch(self) -> None:
        if hung_up(self._transport):
            self._transport.abort()
        elif not self._closed:
            self._hang_up = HangUp(self._transport, self._loop, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._held.append(data)
        self._size += len(data)
        if self._size >= HELD and not self._paused_reading:
            self._paused_reading = True
            self._transport.pause_reading()
        self._news.set()

    def eof_received(self) -> bool:
        if not self._ended:
            self._ended = True
            self._watch()
            self._news.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if self._hang_up is not None:
            self._hang_up.close()
        self._news.set()
        self._room.set()
        if not self.gone.done():
            self.gone.set_result(None)
        self._lost(exc)

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    async def read(self) -> bytes:
        """What the client sent, at least one byte; b"" after its half-close. Raises ClientGone."""
        while await self.arrived():
            if data := self.taken():
                return data
        return b""

    async def arrived(self) -> bool:
        """Waits for something to take; False after the client's half-close. Raises ClientGone."""
        while not self._held:
            if self._closed:
                raise ClientGone
            if self._ended:
                return False
            self._news.clear()
            await self._news.wait()
        return True

    def taken(self) -> bytes:
        """What has come and was not read, b"" if nothing."""
        data = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held.clear()
        self._size = 0
        self._read_on()
        return data

    def _read_on(self) -> None:
        if self._paused_reading and not self._closed and not self._lent:
            self._paused_reading = False
            self._transport.resume_reading()

    @contextmanager
    def lent(self) -> Iterator[socket.socket | None]:
        """The socket, for a thread to read what comes after what was `taken`; None where that cannot be."""
        encrypted = self._transport.get_extra_info("ssl_object") is not None
        if encrypted or self._closed or self._ended or self._transport.is_closing():
            yield None
            return
        self._lent = True
        if not self._paused_reading:
            self._paused_reading = True
            self._transport.pause_reading()
        with duplicate(self._transport) as connection:
            try:
                yield connection
            finally:
                self._lent = False
                self._read_on()

    async def write(self, data: bytes) -> None:
        """Send; returns once the buffer has room again. Raises ClientGone."""
        if self._closed or self._transport.is_closing():
            raise ClientGone
        self._transport.write(data)
        await self._room.wait()
        if self._closed:
            raise ClientGone

    async def finish(self, linger: float = 1.0) -> None:
        """All was written: say so, and close when the client has closed too, after `linger` seconds at the latest.

        Closing at once would turn input that is still under way into a connection reset for the client.
        """
        if not self._closed:
            with suppress(OSError):
                self._transport.write_eof()
        deadline = self._loop.time() + linger
        with suppress(ClientGone, TimeoutError):
            async with asyncio.timeout_at(deadline):
                while await self.read():
                    pass
        self._transport.close()

    def abort(self) -> None:
        """Close without sending what is still buffered."""
        self._transport.abort()


class HangUp:
    """Calls back once when a client that had closed one half has closed the other.

    A transport stops watching its socket at the first half-close. An epoll with no events asked reports exactly
    EPOLLHUP and EPOLLERR (epoll_ctl(2)), and can itself be watched.
    """

    def __init__(
        self, transport: asyncio.BaseTransport, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._callback = callback
        self._epoll: select.epoll | None = select.epoll(1)
        self._epoll.register(transport.get_extra_info("socket").fileno(), 0)
        loop.add_reader(self._epoll.fileno(), self._fire)

    def _fire(self) -> None:
        self.close()
        self._callback()

    def close(self) -> None:
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None


def duplicate(transport: asyncio.BaseTransport) -> socket.socket:
    """Another descriptor of the connection's socket, for a thread to wait on and to close."""
    shared: socket.socket = transport.get_extra_info("socket")
    other = socket.socket(fileno=os.dup(shared.fileno()))
    other.settimeout(PATIENCE)
    return other


def hung_up(transport: asyncio.BaseTransport) -> bool:
    """The peer closed both halves (POLLHUP; on unix sockets that tells a close from a half-close)."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))
