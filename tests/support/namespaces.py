"""A host made of network namespaces: tests of networking run in one, and put containers and a neighbour beside it."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv4Interface
from typing import TypeVar

from wherry.linux import netlink, netns
from wherry.linux.netlink import LOOPBACK_INDEX, Request, Socket

T = TypeVar("T")
HOST = "192.0.2.1"  # the test host's address on its uplink
NEIGHBOUR = "192.0.2.9"  # what is beyond it
UPLINK = "uplink0"


def within(fd: int, work: Callable[[], T]) -> T:
    """Do it in a thread that is in the namespace; sockets made there stay there."""
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            netns.enter(fd)
            result.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def configure(*requests: Request) -> None:
    with Socket() as route:
        route.run(*requests)


def sysctl(name: str, value: str) -> None:
    with open(f"/proc/sys/{name}", "w") as file:
        file.write(value)


@contextmanager
def host() -> Iterator[int]:
    """The calling thread is on a host with an uplink to a neighbour, whose namespace this gives. All goes at the end.

    The neighbour's default route is the host: what the host would forward, it can try.
    """
    home = netns.current()
    with ExitStack() as stack:
        stack.callback(os.close, home)
        here = stack.enter_context(netns.fresh(home))
        stack.callback(os.close, here)
        beyond = within(here, lambda: netns.with_loopback(here))
        stack.callback(os.close, beyond)
        configure(netlink.link_up(LOOPBACK_INDEX), pair(UPLINK, 10, "eth0", beyond))
        configure(netlink.link_up(10), netlink.add_address(10, IPv4Interface(f"{HOST}/24")))
        within(
            beyond,
            lambda: configure(
                netlink.link_up(11),
                netlink.add_address(11, IPv4Interface(f"{NEIGHBOUR}/24")),
                netlink.default_route(11, IPv4Address(HOST)),
            ),
        )
        sysctl("net/ipv4/ip_forward", "0")  # a new namespace takes over what the machine has
        yield beyond


def pair(name: str, index: int, peer: str, namespace: int) -> Request:
    """A veth between here and there, in no bridge; the peer's index is one higher."""
    return netlink.add_veth(name, index, 0, peer, index + 1, f"02:00:00:00:00:{index % 255 + 1:02x}", namespace)


def tcp_server(fd: int, port: int) -> socket.socket:
    def listen() -> socket.socket:
        server = socket.create_server(("0.0.0.0", port))
        server.settimeout(5)
        return server

    return within(fd, listen)


def udp_server(fd: int, port: int) -> socket.socket:
    def bind() -> socket.socket:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("0.0.0.0", port))
        server.settimeout(5)
        return server

    return within(fd, bind)


def client(fd: int, target: tuple[str, int], kind: int = socket.SOCK_STREAM, patience: float = 5) -> socket.socket:
    """A socket of that namespace, connected to the target. Raises OSError."""

    def connect() -> socket.socket:
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        made = socket.socket(family, kind)
        made.settimeout(patience)
        try:
            made.connect(target)
        except BaseException:
            made.close()
            raise
        return made

    return within(fd, connect)


SECOND = "198.51.100.9"


class AnotherNeighbour:
    """One more, on a second uplink of the host: its namespace for as long as this is entered."""

    def __init__(self, here: int) -> None:
        self._beyond = beyond = within(here, lambda: netns.with_loopback(here))
        configure(pair("uplink1", 20, "eth0", beyond))
        configure(netlink.link_up(20), netlink.add_address(20, IPv4Interface("198.51.100.1/24")))
        within(
            beyond,
            lambda: configure(
                netlink.link_up(21),
                netlink.add_address(21, IPv4Interface(f"{SECOND}/24")),
                netlink.default_route(21, IPv4Address("198.51.100.1")),
            ),
        )

    def __enter__(self) -> int:
        return self._beyond

    def __exit__(self, *_: object) -> None:
        os.close(self._beyond)


def delete_local_route(address: IPv4Interface) -> Request:
    """Take an address of lo out of the table local, so that packets for it may leave."""
    header = (socket.AF_INET, address.network.prefixlen, 0, 0, netlink.RT_TABLE_LOCAL, 0, 255, 2, 0)
    route = struct.pack("=BBBBBBBBI", *header) + netlink.attribute(netlink.RTA_DST, address.ip.packed)
    return Request(25, 0, route)  # RTM_DELROUTE, any scope (RT_SCOPE_NOWHERE), RTN_LOCAL
