"""Forgetting translated UDP flows of an address that goes away (nf_conntrack_netlink, <linux/netfilter/*ctnetlink*>).

A UDP flow is remembered for as long as its sender goes on: after a restart of the container its packets would still be
sent to the old address. TCP needs nothing: such a connection is over.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address

from wherry.linux.netlink import Request, Socket, attribute, attributes, is_missing, nested, number

_NETLINK_NETFILTER = 12
_GET, _DELETE = (1 << 8) | 1, (1 << 8) | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET and _DELETE
_FAMILY = struct.pack("=BBH", socket.AF_INET, 0, 0)  # struct nfgenmsg
_TUPLE_ORIG, _TUPLE_REPLY, _ZONE, _FILTER = 1, 2, 18, 25
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP_SRC, _PROTO_NUM = 1, 1
_FILTER_ORIG, _FILTER_REPLY = 1, 2
_FILTER_IP_SRC = 1 << 0


def forget_udp(addresses: Iterable[IPv4Address]) -> int:
    """Delete the UDP flows that are answered from these addresses; how many there were. Blocking. Raises OSError."""
    forgotten = 0
    with Socket(_NETLINK_NETFILTER) as netlink:
        for address in addresses:
            for entry in list(netlink.dump(Request(_GET, 0, _FAMILY + _answered_from(address)))):
                fields = attributes(entry[len(_FAMILY) :])
                if not _is_udp_of(fields[_TUPLE_REPLY], address):
                    continue
                identity = attribute(_TUPLE_ORIG | 0x8000, fields[_TUPLE_ORIG])
                if _ZONE in fields:
                    identity += attribute(_ZONE, fields[_ZONE])
                try:
                    netlink.run(Request(_DELETE, 0, _FAMILY + identity))
                    forgotten += 1
                except OSError as error:
                    if not is_missing(error):
                        raise
    return forgotten


def _answered_from(address: IPv4Address) -> bytes:
    """Have the kernel list only these (Linux 5.8; an older one lists all, so what comes is looked at again)."""
    reply = nested(_TUPLE_REPLY, nested(_TUPLE_IP, attribute(_IP_SRC, address.packed)))
    return reply + nested(_FILTER, number(_FILTER_ORIG, 0), number(_FILTER_REPLY, _FILTER_IP_SRC))


def _is_udp_of(reply: bytes, address: IPv4Address) -> bool:
    sides = attributes(reply)
    protocol = attributes(sides[_TUPLE_PROTO]).get(_PROTO_NUM)
    return protocol == bytes([socket.IPPROTO_UDP]) and attributes(sides[_TUPLE_IP]).get(_IP_SRC) == address.packed
