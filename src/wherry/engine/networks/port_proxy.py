"""What answers on a published port when the firewall does not: connections by IPv6, since containers have only IPv4.

Each proxy reads from a socket that is held anyway, so that nobody else takes the port. Buffers are bounded, and an end
of file travels on by itself, so that a client may finish sending and still read the answer (half-close, tcp(7)).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import OrderedDict
from typing import Any

CHUNK = 65_536
CONNECTIONS = 512  # at once on one port; the rest wait in the listening socket's queue
CONNECT_TIMEOUT = 10.0  # seconds
FLOWS = 1024  # UDP senders remembered for one port; the one that was silent longest goes first
FLOW_IDLE = 90.0  # seconds without a packet either way; Docker's UDPConnTrackTimeout
DATAGRAMS = 32  # handled before the loop gets its turn
DATAGRAM = 65_535
_ANCILLARY = socket.CMSG_SPACE(20)  # in6_pktinfo, the larger of the two

IP_PKTINFO = 8
IPV6_RECVPKTINFO, IPV6_PKTINFO = 49, 50


class TcpProxy:
    """Serves a listening, non-blocking socket for as long as it is open. `close` ends its connections too."""

    def __init__(self, listener: socket.socket, target: tuple[str, int]) -> None:
        self._listener = listener
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening = False
        self._closed = False
        self._listen()

    def close(self) -> None:
        self._closed = True
        self._pause()
        for task in self._tasks:
            task.cancel()

    def _listen(self) -> None:
        if not self._listening:
            self._listening = True
            self._loop.add_reader(self._listener, self._accept)

    def _pause(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._listener)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:  # out of descriptors: try again a little later instead of spinning
            self._pause()
            self._loop.call_later(0.1, self._resume)
            return
        client.setblocking(False)
        task = self._loop.create_task(_carry(client, self._target))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        if len(self._tasks) >= CONNECTIONS:
            self._pause()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._resume()

    def _resume(self) -> None:
        if not self._closed and self._listener.fileno() >= 0 and len(self._tasks) < CONNECTIONS:
            self._listen()


async def _carry(client: socket.socket, target: tuple[str, int]) -> None:
    """One connection, to its end in both directions. A container that does not answer resets the client."""
    with contextlib.suppress(OSError), client, socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.setblocking(False)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.sock_connect(server, target), CONNECT_TIMEOUT)
        except (TimeoutError, OSError):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return
        async with asyncio.TaskGroup() as both:
            both.create_task(_pump(client, server))
            both.create_task(_pump(server, client))


async def _pump(source: socket.socket, sink: socket.socket) -> None:
    """One direction. A broken one breaks both: the TaskGroup cancels the other."""
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(source, CHUNK):
            await loop.sock_sendall(sink, data)
        sink.shutdown(socket.SHUT_WR)
    except OSError as error:
        raise asyncio.CancelledError from error


class UdpProxy:
    """Serves a bound, non-blocking UDP socket. Every sender gets a socket of its own towards the container.

    Answers leave from the address that was asked, which matters where the host has several. Packets that cannot be sent
    at once are dropped, as any router would.
    """

    def __init__(self, held: socket.socket, target: tuple[str, int]) -> None:
        self._held = held
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._flows: OrderedDict[Any, _Flow] = OrderedDict()  # the one that was silent longest first
        self._timer: asyncio.TimerHandle | None = None
        if held.family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        else:
            held.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        self._loop.add_reader(held, self._arrived)

    def close(self) -> None:
        self._loop.remove_reader(self._held)
        if self._timer:
            self._timer.cancel()
        while self._flows:
            self._drop(next(iter(self._flows)))

    def _arrived(self) -> None:
        for _ in range(DATAGRAMS):
            try:
                data, ancillary, _, sender = self._held.recvmsg(DATAGRAM, _ANCILLARY)
            except OSError:  # nothing more, or the ICMP error of an earlier answer
                return
            flow = self._flows.get(sender) or self._new_flow(sender, ancillary)
            if flow:
                self._touch(sender, flow)
                with contextlib.suppress(OSError):
                    flow.server.send(data)

    def _new_flow(self, sender: Any, ancillary: list[tuple[int, int, bytes]]) -> _Flow | None:
        if len(self._flows) >= FLOWS:
            self._drop(next(iter(self._flows)))
        try:
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError:
            return None
        try:
            server.connect(self._target)
        except OSError:
            server.close()
            return None
        flow = _Flow(server, [_without_interface(entry) for entry in ancillary])
        self._flows[sender] = flow
        self._loop.add_reader(server, self._answered, sender, flow)
        if self._timer is None:
            self._timer = self._loop.call_later(FLOW_IDLE / 3, self._expire)
        return flow

    def _answered(self, sender: Any, flow: _Flow) -> None:
        for _ in range(DATAGRAMS):
            try:
                data = flow.server.recv(DATAGRAM)
            except OSError:
                return
            self._touch(sender, flow)
            with contextlib.suppress(OSError):
                self._held.sendmsg([data], flow.ancillary, 0, sender)

    def _touch(self, sender: Any, flow: _Flow) -> None:
        flow.last = self._loop.time()
        self._flows.move_to_end(sender)

    def _expire(self) -> None:
        oldest = self._loop.time() - FLOW_IDLE
        while self._flows and next(iter(self._flows.values())).last < oldest:
            self._drop(next(iter(self._flows)))
        self._timer = self._loop.call_later(FLOW_IDLE / 3, self._expire) if self._flows else None

    def _drop(self, sender: Any) -> None:
        flow = self._flows.pop(sender)
        self._loop.remove_reader(flow.server)
        flow.server.close()


class _Flow:
    """One sender's way to the container; `ancillary` makes answers leave from the address it wrote to."""

    __slots__ = ("ancillary", "last", "server")

    def __init__(self, server: socket.socket, ancillary: list[tuple[int, int, bytes]]) -> None:
        self.server = server
        self.ancillary = ancillary
        self.last = 0.0


def _without_interface(entry: tuple[int, int, bytes]) -> tuple[int, int, bytes]:
    """Keep the address and let the routes choose the interface: in_pktinfo of ip(7), in6_pktinfo of ipv6(7)."""
    level, kind, data = entry
    if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
        return level, kind, bytes(4) + data[8:12] + bytes(4)  # the address that was written to becomes the source
    if (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO):
        keep = data[:2] == b"\xfe\x80"  # a link-local address means nothing without its interface
        return level, kind, data if keep else data[:16] + bytes(4)
    return entry


Proxy = TcpProxy | UdpProxy
