"""The host's ports that containers have: each is held by a socket, so that a conflict is seen from both sides.

The firewall translates what comes by IPv4 before it reaches the socket; what does reach it is carried by a proxy.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from wherry.engine.networks.port_proxy import Proxy, TcpProxy, UdpProxy
from wherry.model import ports
from wherry.model.container import PublishedPort
from wherry.model.ports import Wanted

BACKLOG = 4096
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


class PortUnavailable(Exception):
    """The message is Docker's, without the sentence around it."""


@dataclass
class _Held:
    port: PublishedPort
    socket: socket.socket
    proxy: Proxy | None = None


class HostPorts:
    """Which sandbox has which ports. On the event loop's thread; binding does not block.

    held = ports.hold(sandbox_id, wanted)         # all or nothing
    ports.serve(sandbox_id, "172.17.0.2")         # from now on what reaches the sockets is carried there
    ports.release(sandbox_id)
    """

    def __init__(self, *, ipv6: bool, ephemeral: Callable[[], range]) -> None:
        self._ipv6 = ipv6
        self._ephemeral = ephemeral
        self._next = 0
        self._held: dict[str, list[_Held]] = {}
        self._taken: set[tuple[str, str, int]] = set()  # protocol, address, port

    def hold(self, owner: str, wanted: Iterable[Wanted]) -> list[PublishedPort]:
        """Bind everything that is wanted. Raises PortUnavailable, and then holds nothing of it."""
        held = self._held.setdefault(owner, [])
        try:
            for one in wanted:
                held += self._hold_one(one)
        except BaseException:
            self.release(owner)
            raise
        return [entry.port for entry in held]

    def retake(self, owner: str, published: Iterable[PublishedPort]) -> list[str]:
        """Hold again what a container had before the engine stopped; one sentence for each that someone else has now.

        The container keeps such a port as far as the firewall goes.
        """
        problems: list[str] = []
        held = self._held.setdefault(owner, [])
        for port in published:
            try:
                held.append(self._bind(port))
            except (OSError, PortUnavailable) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                place = f"{ports.join(port.host_ip, port.host_port)}/{port.protocol}"
                problems.append(f"the published port {place} could not be taken again: {reason}")
        return problems

    def serve(self, owner: str, address: str) -> None:
        """Carry what reaches the sockets to this address, from now on; connections to another end."""
        for entry in self._held.get(owner, ()):
            if entry.proxy:
                entry.proxy.close()
            make = TcpProxy if entry.port.protocol == "tcp" else UdpProxy
            entry.proxy = make(entry.socket, (address, entry.port.container_port))

    def release(self, owner: str) -> None:
        """Let go of everything the owner has; connections that are being carried end. Idempotent."""
        for entry in self._held.pop(owner, ()):
            if entry.proxy:
                entry.proxy.close()
            entry.socket.close()
            self._taken.discard(_key(entry.port))

    def close(self) -> None:
        for owner in list(self._held):
            self.release(owner)

    def _hold_one(self, wanted: Wanted) -> list[_Held]:
        """One binding: the same port at all of its addresses."""
        addresses = [address for address in wanted.addresses if self._ipv6 or not wanted.implied or ":" not in address]
        ephemeral = self._ephemeral() if wanted.first == 0 else range(0)
        failure = PortUnavailable("all ports are allocated")
        single = wanted.first == wanted.last != 0
        for number in ports.candidates(wanted, ephemeral, self._next):
            clash = next((ip for ip in addresses if (wanted.protocol, ip, number) in self._taken), None)
            if clash:
                if single:
                    raise PortUnavailable(ports.already_allocated(clash, number))
                continue
            try:
                bound = self._bind_all(wanted, addresses, number)
            except PortUnavailable as error:
                failure = error
                if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EADDRINUSE:
                    break
                continue
            if wanted.first == 0:
                self._next = number + 1
            return bound
        raise failure

    def _bind_all(self, wanted: Wanted, addresses: Iterable[str], number: int) -> list[_Held]:
        bound: list[_Held] = []
        try:
            for address in addresses:
                port = PublishedPort(
                    protocol=wanted.protocol,
                    container_port=wanted.container_port,
                    host_ip=address,
                    host_port=number,
                )
                try:
                    bound.append(self._bind(port))
                except OSError as error:
                    if bound and wanted.implied and error.errno in _NO_SUCH_ADDRESS:
                        continue  # no IPv6 here after all
                    reason = os.strerror(error.errno) if error.errno else str(error)
                    message = ports.cannot_listen(wanted.protocol, address, number, reason)
                    raise PortUnavailable(message) from error
        except BaseException:
            for entry in bound:
                entry.socket.close()
                self._taken.discard(_key(entry.port))
            raise
        return bound

    def _bind(self, port: PublishedPort) -> _Held:
        """Raises OSError, or PortUnavailable where the engine itself has the port."""
        if _key(port) in self._taken:
            raise PortUnavailable(ports.already_allocated(port.host_ip, port.host_port))
        family = socket.AF_INET6 if ":" in port.host_ip else socket.AF_INET
        held = socket.socket(family, _KINDS[port.protocol] | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if family == socket.AF_INET6:
                held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if port.protocol == "tcp":  # over connections of the last holder that are in TIME_WAIT; not for UDP, which
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # it would let two sockets share
            held.bind((port.host_ip, port.host_port))
            if port.protocol == "tcp":
                held.listen(BACKLOG)
        except BaseException:
            held.close()
            raise
        self._taken.add(_key(port))
        return _Held(port, held)


def _key(port: PublishedPort) -> tuple[str, str, int]:
    return port.protocol, port.host_ip, port.host_port
