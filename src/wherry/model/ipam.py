"""Addresses of one network: which are taken, and which may be given out next. Pure: the caller brings the clock.

Docker gives out the lowest free address; so does this. A freed address rests before it is given out again, because the
kernel takes some 20 ms to delete the interface that carried it, and two interfaces with one address answer for each
other.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from wherry.errors import InvalidParameter, SystemFailure

REST = 1.0  # seconds

# The pools of a fresh Docker Engine, in its order ("default-address-pools" of dockerd's documentation).
DEFAULT_POOLS: tuple[tuple[str, int], ...] = (
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
)


class Exhausted(Exception):
    """Every address is taken."""


class Addresses:
    """The addresses of one IPv4 subnet: each is free, resting or taken. Times are seconds of any one clock.

    Those outside of `within` (`--ip-range`) are given only to who asks for them.

    addresses = Addresses(IPv4Network("172.17.0.0/16"), reserved=[IPv4Address("172.17.0.1")])
    mine = addresses.allocate(now)
    addresses.free(mine, now)
    """

    def __init__(
        self,
        subnet: IPv4Network,
        reserved: Iterable[IPv4Address] = (),
        rest: float = REST,
        within: IPv4Network | None = None,
    ) -> None:
        first, last = int(subnet.network_address), int(subnet.broadcast_address)
        self._taken: set[int] = {int(address) for address in reserved}
        if subnet.prefixlen < 31:  # RFC 3021: with 31 bits there is neither a network nor a broadcast address
            self._taken |= {first, last}
            first, last = first + 1, last - 1
        if within is not None:
            first, last = max(first, int(within.network_address)), min(last, int(within.broadcast_address))
        self._first, self._last = first, last  # what is given out unasked
        self._next = first  # every address of those below it is taken, resting, reserved or in `_free`
        self._free: set[int] = set()  # rested, below `_next`
        self._lowest: list[int] = []  # a heap of all in `_free`, and of some that no longer are
        self._resting: dict[int, float] = {}  # until when; the first to end comes first
        self._rest = rest
        self.subnet = subnet

    def allocate(self, now: float) -> IPv4Address:
        """The lowest free address; the one that rested longest if no other is left. Raises Exhausted."""
        while self._resting and (first := next(iter(self._resting.items())))[1] <= now:
            del self._resting[first[0]]
            if self._first <= first[0] < self._next:  # else `_next` will come to it, or nobody asks for it
                self._free.add(first[0])
                heapq.heappush(self._lowest, first[0])
        number = self._lowest_free() or self._never_used() or self._rested_longest()
        if not number:
            raise Exhausted
        self._resting.pop(number, None)
        self._taken.add(number)
        return IPv4Address(number)

    def take(self, address: IPv4Address) -> bool:
        """Claim this one, which someone already uses. False if it was taken, or is not of this subnet."""
        number = int(address)
        if number in self._taken or address not in self.subnet:
            return False
        self._free.discard(number)
        self._resting.pop(number, None)
        self._taken.add(number)
        return True

    def free(self, address: IPv4Address, now: float) -> None:
        """Give it back; it rests first. Harmless for an address that is not taken."""
        number = int(address)
        if number in self._taken and address in self.subnet:
            self._taken.remove(number)
            self._resting[number] = now + self._rest

    def _rested_longest(self) -> int:
        """0 if there is none."""
        return next((number for number in self._resting if self._first <= number <= self._last), 0)

    def _lowest_free(self) -> int:
        """0 if there is none."""
        while self._lowest:
            number = heapq.heappop(self._lowest)
            if number in self._free:
                self._free.remove(number)
                return number
        return 0

    def _never_used(self) -> int:
        """0 if there is none."""
        while self._next <= self._last:
            self._next += 1
            if self._next - 1 not in self._taken and self._next - 1 not in self._resting:
                return self._next - 1
        return 0


def gateway_of(bip: str) -> IPv4Interface:
    """The bridge's own address and subnet from `--bip`. Raises InvalidParameter in Docker's words."""
    try:
        if "/" not in bip:
            raise ValueError(bip)
        address = IPv4Interface(bip)
    except ValueError:
        raise InvalidParameter(f"invalid CIDR address: {bip}") from None
    if address.network.prefixlen > 30 or address.ip in (address.network.network_address, address.network[-1]):
        raise InvalidParameter(f"invalid --bip {bip}: not an address of a host in a subnet with room for containers")
    return address


EXHAUSTED = "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"


def choose_gateway(in_use: Iterable[IPv4Network]) -> IPv4Interface:
    """The first address of the first default pool that overlaps nothing in use. Raises SystemFailure."""
    used = [network for network in in_use if network.prefixlen]  # a default route is no use of a network
    for pool, size in DEFAULT_POOLS:
        for subnet in IPv4Network(pool).subnets(new_prefix=size):
            if not any(subnet.overlaps(network) for network in used):
                return IPv4Interface((subnet[1], size))
    raise SystemFailure(EXHAUSTED)


def mac_of(address: IPv4Address) -> str:
    """Docker's hardware address of a container: 02:42 and the four bytes of its IPv4 address."""
    return ":".join(f"{byte:02x}" for byte in b"\x02\x42" + address.packed)
