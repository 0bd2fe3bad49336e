"""rtnetlink, as much as a bridge with veths needs: several requests in one send, one wait for all of them.

Written out instead of taken from pyroute2, which costs 24 MB and 0.2 s to import and 0.3 ms to encode a veth; see
docs/decisions/netlink.md. Sources: netlink(7), rtnetlink(7), <linux/netlink.h>, <linux/if_link.h>, <linux/rtnetlink.h>.
A socket belongs to the network namespace in which its thread was when it was made (network_namespaces(7)).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from types import TracebackType

NETLINK_ROUTE = 0
SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_ACK_TLVS = 0x200
NLMSGERR_ATTR_MSG = 1

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_PROTINFO, IFLA_LINKINFO, IFLA_NET_NS_FD = 1, 3, 4, 10, 12, 18, 28
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFLA_BRPORT_MODE = 4  # hairpin
IFLA_BRPORT_ISOLATED = 33
VETH_INFO_PEER = 1
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST = 1, 2, 4
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_TABLE = 1, 4, 5, 15
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

IFF_UP = 0x1
RT_TABLE_MAIN, RT_TABLE_LOCAL = 254, 255
RTPROT_BOOT = 3
RT_SCOPE_UNIVERSE = 0
RTN_UNICAST = 1
LOOPBACK_INDEX = 1  # the first device of every namespace

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, mask of flags
_IFADDR = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, lengths of dst and src, tos, table, protocol, scope, type, flags


class NetlinkError(OSError):
    """The kernel's answer: errno, and its own sentence where it gave one."""


@dataclass(frozen=True)
class Request:
    """One message without its sequence number."""

    type: int
    flags: int
    body: bytes


@dataclass(frozen=True)
class Link:
    """A network interface, as listed. `kind` is "" for hardware and loopback."""

    index: int
    name: str
    kind: str
    master: int
    up: bool
    mac: str


class Socket:
    """A netlink socket of the calling thread's network namespace. Not for use by two threads at once.

    with Socket() as route:
        route.run(add_bridge("br0", "02:42:ac:11:00:01"), ...)
    """

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            self._socket.bind((0, 0))
        except BaseException:
            self._socket.close()
            raise
        self._sequence = 0

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def run(self, *requests: Request) -> None:
        """Have the kernel do all of them, in order, with one send. Raises NetlinkError for the first that failed.

        The kernel does the later ones even if an earlier failed.
        """
        first = self._sequence + 1
        last = first + len(requests) - 1
        self._sequence = last
        packed = [
            _message(request, sequence, NLM_F_REQUEST | (NLM_F_ACK if sequence == last else 0))
            for sequence, request in enumerate(requests, first)
        ]
        self._socket.send(b"".join(packed))
        failure: NetlinkError | None = None
        while True:
            for type, flags, sequence, body in self._receive():
                if type != NLMSG_ERROR or not first <= sequence <= last:
                    continue  # of an earlier conversation that was given up
                failure = failure or _failure(flags, body)
                if sequence == last:
                    if failure:
                        raise failure
                    return

    def dump(self, request: Request) -> Iterator[bytes]:
        """The bodies of everything the kernel lists for it. Raises NetlinkError."""
        self._sequence += 1
        self._socket.send(_message(request, self._sequence, NLM_F_REQUEST | NLM_F_DUMP))
        while True:
            for type, flags, sequence, body in self._receive():
                if sequence != self._sequence:
                    continue
                if type == NLMSG_DONE:
                    return
                if type == NLMSG_ERROR:
                    if failure := _failure(flags, body):
                        raise failure
                    return
                yield body

    def links(self) -> list[Link]:
        """All interfaces of the namespace."""
        return [_link(body) for body in self.dump(Request(RTM_GETLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0)))]

    def addresses(self, index: int) -> list[IPv4Interface]:
        """The IPv4 addresses of one interface."""
        request = Request(RTM_GETADDR, 0, _IFADDR.pack(socket.AF_INET, 0, 0, 0, 0))
        found = []
        for body in self.dump(request):
            _, prefix, _, _, owner = _IFADDR.unpack_from(body)
            local = attributes(body[_IFADDR.size :]).get(IFA_LOCAL)
            if owner == index and local:
                found.append(IPv4Interface((IPv4Address(local), prefix)))
        return found

    def routes(self) -> list[tuple[IPv4Network, int]]:
        """IPv4 routes of all tables but local: destination and the interface's index (0 if it has none)."""
        found = []
        for body in self.dump(Request(RTM_GETROUTE, 0, _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0))):
            _, length, _, _, table, *_ = _ROUTE.unpack_from(body)
            if table == RT_TABLE_LOCAL:
                continue
            fields = attributes(body[_ROUTE.size :])
            destination = IPv4Network((fields.get(RTA_DST, b"\0\0\0\0"), length), strict=False)
            (index,) = struct.unpack("=I", fields[RTA_OIF]) if RTA_OIF in fields else (0,)
            found.append((destination, index))
        return found

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """The messages of one datagram: type, flags, sequence and body."""
        data = self._socket.recv(1 << 16)
        at = 0
        while at + _HEADER.size <= len(data):
            length, type, flags, sequence, _ = _HEADER.unpack_from(data, at)
            yield type, flags, sequence, data[at + _HEADER.size : at + length]
            at += _padded(length)


# --- requests ---


def add_bridge(name: str, mac: str) -> Request:
    """A bridge, not yet up."""
    info = nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "bridge"))
    return _new_link(NLM_F_CREATE | NLM_F_EXCL, text(IFLA_IFNAME, name), attribute(IFLA_ADDRESS, _mac(mac)), info)


def add_veth(
    name: str, index: int, bridge: int, peer: str, peer_index: int, peer_mac: str, peer_netns: int, mtu: int = 0
) -> Request:
    """A pair: one end up and in the bridge, the other with its name, index and address in another namespace (a fd).

    `mtu` in bytes is that of both; 0 leaves the kernel's.

    Both indices are ours to choose, so that later requests of the same send can name them; the kernel takes the peer's
    only if the other is given too (drivers/net/veth.c). It answers EBUSY or EEXIST if one is taken.
    """
    other = _IFINFO.pack(0, 0, peer_index, 0, 0)
    other += text(IFLA_IFNAME, peer) + attribute(IFLA_ADDRESS, _mac(peer_mac)) + number(IFLA_NET_NS_FD, peer_netns)
    size = number(IFLA_MTU, mtu) if mtu else b""
    other += size
    info = nested(
        IFLA_LINKINFO,
        text(IFLA_INFO_KIND, "veth"),
        nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER | NLA_F_NESTED, other)),
    )
    flags = NLM_F_CREATE | NLM_F_EXCL
    return _new_link(flags, text(IFLA_IFNAME, name), number(IFLA_MASTER, bridge), size, info, index=index, up=True)


def set_master(index: int, bridge: int) -> Request:
    return Request(RTM_NEWLINK, 0, _IFINFO.pack(0, 0, index, 0, 0) + number(IFLA_MASTER, bridge))


def set_hairpin(index: int) -> Request:
    """Let a bridge's port send back through itself what came in by it."""
    body = _IFINFO.pack(socket.AF_BRIDGE, 0, index, 0, 0)
    return Request(RTM_SETLINK, 0, body + nested(IFLA_PROTINFO, attribute(IFLA_BRPORT_MODE, b"\1")))


def set_isolated(index: int) -> Request:
    """Let a bridge's port exchange frames with the bridge itself alone, and with no other isolated port."""
    body = _IFINFO.pack(socket.AF_BRIDGE, 0, index, 0, 0)
    return Request(RTM_SETLINK, 0, body + nested(IFLA_PROTINFO, attribute(IFLA_BRPORT_ISOLATED, b"\1")))


def link_up(index: int) -> Request:
    return Request(RTM_NEWLINK, 0, _IFINFO.pack(0, 0, index, IFF_UP, IFF_UP))


def delete_link(name: str) -> Request:
    return Request(RTM_DELLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, name))


def add_address(index: int, address: IPv4Interface) -> Request:
    """The address with its subnet's broadcast address; fine if it is there already."""
    return Request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, _address(index, address))


def delete_address(index: int, address: IPv4Interface) -> Request:
    return Request(RTM_DELADDR, 0, _address(index, address))


def default_route(index: int, gateway: IPv4Address) -> Request:
    """The way to everywhere else, in place of what was."""
    header = (socket.AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0)
    body = _ROUTE.pack(*header) + attribute(RTA_GATEWAY, gateway.packed) + number(RTA_OIF, index)
    return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)


# --- encoding ---


def attribute(type: int, payload: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, type) + payload + bytes(_padded(length) - length)


def text(type: int, value: str) -> bytes:
    return attribute(type, value.encode() + b"\0")


def number(type: int, value: int) -> bytes:
    return attribute(type, struct.pack("=I", value))


def nested(type: int, *inner: bytes) -> bytes:
    return attribute(type | NLA_F_NESTED, b"".join(inner))


def attributes(data: bytes) -> dict[int, bytes]:
    """What `data` holds, by type; the last one wins."""
    found: dict[int, bytes] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, type = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[type & NLA_TYPE_MASK] = data[at + _ATTRIBUTE.size : at + length]
        at += _padded(length)
    return found


def _new_link(flags: int, *fields: bytes, index: int = 0, up: bool = False) -> Request:
    state = IFF_UP if up else 0
    return Request(RTM_NEWLINK, flags, _IFINFO.pack(0, 0, index, state, state) + b"".join(fields))


def _address(index: int, address: IPv4Interface) -> bytes:
    body = _IFADDR.pack(socket.AF_INET, address.network.prefixlen, 0, RT_SCOPE_UNIVERSE, index)
    body += attribute(IFA_LOCAL, address.ip.packed) + attribute(IFA_ADDRESS, address.ip.packed)
    return body + attribute(IFA_BROADCAST, address.network.broadcast_address.packed)


def _message(request: Request, sequence: int, flags: int) -> bytes:
    length = _HEADER.size + len(request.body)
    header = _HEADER.pack(length, request.type, request.flags | flags, sequence, 0)
    return header + request.body + bytes(_padded(length) - length)


def _failure(flags: int, body: bytes) -> NetlinkError | None:
    """The error in an NLMSG_ERROR, or None if it says that all is well."""
    (code,) = struct.unpack_from("=i", body)
    if code == 0:
        return None
    said = attributes(body[4 + _HEADER.size :]).get(NLMSGERR_ATTR_MSG, b"") if flags & NLM_F_ACK_TLVS else b""
    sentence = said.rstrip(b"\0").decode(errors="replace")
    return NetlinkError(-code, f"{os.strerror(-code)}: {sentence}" if sentence else os.strerror(-code))


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    fields = attributes(body[_IFINFO.size :])
    info = attributes(fields.get(IFLA_LINKINFO, b""))
    master = struct.unpack("=I", fields[IFLA_MASTER])[0] if IFLA_MASTER in fields else 0
    return Link(
        index=index,
        name=_string(fields[IFLA_IFNAME]),
        kind=_string(info.get(IFLA_INFO_KIND, b"")),
        master=master,
        up=bool(flags & IFF_UP),
        mac=":".join(f"{byte:02x}" for byte in fields.get(IFLA_ADDRESS, b"")),
    )


def _string(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _padded(length: int) -> int:
    return (length + 3) & ~3


def is_missing(error: OSError) -> bool:
    """The link that was to go is gone."""
    return error.errno in (errno.ENODEV, errno.ENOENT)
