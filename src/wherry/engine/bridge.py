"""The default bridge on this host: the interface, its veths, its firewall table. Blocking: one thread does all of it.

What other programs must leave to the engine is named after the bridge: the table `ip wherry0`, the accepts for
`wherry0` in chains of other firewalls, and the interfaces in the bridge whose names begin with `wv`.
"""

from __future__ import annotations

import errno
import logging
import os
import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from wherry.linux import conntrack, netlink, netns, sysctl
from wherry.linux.nftables import Nftables, NftablesError
from wherry.model import firewall, ipam
from wherry.model.failpoints import failpoint
from wherry.model.firewall import Guard, Place, Redirection

log = logging.getLogger(__name__)

VETH_PREFIX = "wv"
CONTAINER_INTERFACE = "eth0"
CONTAINER_INDEX = 64  # of eth0: above the tunnels that a new namespace may be born with
_INDICES = range(1 << 20, 1 << 30)  # of the host's ends: far from those that the kernel gives out
_FORWARD = "net/ipv4/ip_forward"
_BRIDGED_IS_FILTERED = "net/bridge/bridge-nf-call-iptables"


@dataclass(frozen=True)
class Plug:
    """One container's place at the bridge."""

    interface: str  # the host's end
    address: IPv4Interface
    mac: str
    published: Sequence[Redirection]


class Bridge:
    """bridge = Bridge("wherry0"); bridge.set_up(gateway); bridge.lay(...); fd = bridge.plug(...); bridge.close()

    Made and used in one thread, in the host's network namespace.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._home = netns.current()
        self._route = netlink.Socket()
        self._nft = Nftables()
        self._index = 0
        self._gateway = IPv4Interface("0.0.0.0/0")

    def close(self) -> None:
        self._nft.close()
        self._route.close()
        os.close(self._home)

    # --- the bridge itself ---

    def set_up(self, gateway: IPv4Interface) -> None:
        """Make the bridge, or repair it: up, with this address and no other. Raises OSError."""
        self._gateway = gateway
        found = next((link for link in self._route.links() if link.name == self.name), None)
        if found is None:
            self._route.run(netlink.add_bridge(self.name, ipam.mac_of(gateway.ip)))
            failpoint("networks.open.bridge-made")
            found = next(link for link in self._route.links() if link.name == self.name)
        if found.kind != "bridge":
            raise OSError(errno.EEXIST, f"the host has an interface {self.name} that is not a bridge")
        self._index = found.index
        others = [address for address in self._route.addresses(self._index) if address != gateway]
        self._route.run(
            *(netlink.delete_address(self._index, address) for address in others),
            netlink.add_address(self._index, gateway),
            netlink.link_up(self._index),
        )
        failpoint("networks.open.bridge-up")

    def is_free(self, name: str) -> bool:
        """No interface has this name, or it is a bridge with nothing in it."""
        links = self._route.links()
        found = next((link for link in links if link.name == name), None)
        return found is None or (found.kind == "bridge" and not any(link.master == found.index for link in links))

    def existing(self, names: Collection[str]) -> list[str]:
        """Which of these names a bridge has."""
        return [link.name for link in self._route.links() if link.kind == "bridge" and link.name in names]

    def networks_in_use(self) -> list[IPv4Network]:
        """Where the host's routes lead, but for those of this bridge."""
        own = {link.index for link in self._route.links() if link.name == self.name}
        return [network for network, index in self._route.routes() if index not in own]

    def exists(self) -> bool:
        return any(link.name == self.name for link in self._route.links())

    def other_bridges(self) -> list[str]:
        return [link.name for link in self._route.links() if link.kind == "bridge" and link.name != self.name]

    def sweep(self, keep: Collection[str]) -> list[str]:
        """Delete veths of ours that nobody owns; put those that are owned back if the bridge was made anew."""
        links = {link.name: link for link in self._route.links()}
        for name in keep:
            if name in links and links[name].master != self._index:
                self._route.run(netlink.set_master(links[name].index, self._index), netlink.link_up(links[name].index))
        orphans = [
            link.name
            for link in links.values()
            if link.master == self._index
            and link.kind == "veth"
            and link.name.startswith(VETH_PREFIX)
            and link.name not in keep
        ]
        self.unplug(orphans)
        return orphans

    # --- containers ---

    def plug(self, plug: Plug) -> int:
        """A new namespace with lo and eth0, joined to the bridge, its ports published: its descriptor is the caller's.

        Raises OSError and NftablesError; then nothing is left but what goes with the namespace.
        """
        hairpin = bool(plug.published) and sysctl.read(_BRIDGED_IS_FILTERED) == "1"
        with netns.fresh(self._home) as fd:
            self._add_veth(plug, fd, hairpin)
            failpoint("networks.activate.veth-made")
            sysctl.ensure(f"net/ipv6/conf/{CONTAINER_INTERFACE}/disable_ipv6", "1")
            with netlink.Socket() as inner:
                inner.run(
                    netlink.link_up(netlink.LOOPBACK_INDEX),
                    netlink.link_up(CONTAINER_INDEX),
                    netlink.add_address(CONTAINER_INDEX, plug.address),
                    netlink.default_route(CONTAINER_INDEX, self._gateway.ip),
                )
            failpoint("networks.activate.address-given")
            if plug.published:
                self._nft.run(firewall.add_elements(self.name, plug.published))
            failpoint("networks.activate.ports-published")
        return fd

    def unpublish(self, published: Sequence[Redirection]) -> None:
        """Raises NftablesError if any is not there; then none is removed."""
        if published:
            self._nft.run(firewall.delete_elements(self.name, published))
            failpoint("networks.deactivate.ports-unpublished")

    def leave(self, interfaces: Iterable[str], with_udp: Iterable[IPv4Address]) -> None:
        """What is left to do some time after containers ended. Off the path."""
        self.unplug(interfaces)
        conntrack.forget_udp(with_udp)

    def unplug(self, interfaces: Iterable[str]) -> None:
        """Delete veths that did not go with their namespace. Slow (some 14 ms each): off the path."""
        there = {link.name for link in self._route.links()}
        for name in interfaces:
            if name in there:
                try:
                    self._route.run(netlink.delete_link(name))
                except OSError as error:
                    if not netlink.is_missing(error):
                        raise

    def _add_veth(self, plug: Plug, fd: int, hairpin: bool) -> None:
        for attempt in range(4):
            index = random.choice(_INDICES)
            pair = netlink.add_veth(
                plug.interface, index, self._index, CONTAINER_INTERFACE, CONTAINER_INDEX, plug.mac, fd
            )
            try:
                self._route.run(pair, *([netlink.set_hairpin(index)] if hairpin else []))
                return
            except OSError as error:
                if error.errno != errno.EBUSY or attempt == 3:  # EBUSY: the index is taken
                    raise

    # --- the firewall ---

    def lay(self, published: Sequence[Redirection], guard: Guard | None) -> list[str]:
        """Put our table in place of what there is, and our accepts beside others; sentences about what is in the way.

        Raises NftablesError, OSError.
        """
        self._nft.run(firewall.whole_table(self.name, self._gateway.network, published, guard))
        failpoint("networks.recover.table-laid")
        sysctl.ensure(f"net/ipv4/conf/{self.name}/route_localnet", "1")
        sysctl.ensure(_FORWARD, "1")
        failpoint("networks.recover.forwarding-on")
        return self.stand_beside_others()

    def forwards(self) -> bool:
        return sysctl.read(_FORWARD) == "1"

    def intact(self) -> bool:
        """Our table is still there."""
        return any(entry["chain"]["table"] == self.name for entry in self._nft.objects("list chains ip"))

    def stand_beside_others(self) -> list[str]:
        """Have our accepts where another firewall would drop; sentences about those in which we may not write."""
        chains = [entry["chain"] for entry in self._nft.objects("list chains")]
        reached: list[Place] = []
        problems = list(_legacy())
        for place in firewall.places(chains):
            missing = [direction for direction in firewall.DIRECTIONS if not self._accepts(place, direction)]
            try:
                if missing:
                    self._nft.run(firewall.add_accepts(place, self.name, missing))
                    failpoint("networks.recover.accepts-added")
                reached.append(place)
            except NftablesError as error:
                problems.append(f"the firewall's chain {place} takes no rule for {self.name}: {error}".splitlines()[0])
        problems += [
            f"the nftables chain {where} drops what it does not know: have it accept iifname and oifname {self.name}, "
            "or containers reach nothing"
            for where in firewall.droppers(chains, self.name, reached)
        ]
        return problems

    def remove(self, *, besides: Collection[str] = ()) -> None:
        """Take everything off the host again: forwarding too, if it was on because of us and nobody seems to need it.

        `besides` are bridges that do not count as somebody who needs it.
        """
        guarded = bool(self._nft.objects(f"list chain ip {self.name} {firewall.GUARD}"))
        chains = [entry["chain"] for entry in self._nft.objects("list chains")]
        for place in firewall.PLACES:
            if any((chain["family"], chain["table"], chain["name"]) == place.key for chain in chains):
                handles = [handle for way in firewall.DIRECTIONS for handle in self._accepts(place, way)]
                if handles:
                    self._nft.run(firewall.delete_rules(place, handles))
                    failpoint("networks.close.accepts-removed")
        if guarded and not set(self.other_bridges()).difference(besides):
            sysctl.ensure(_FORWARD, "0")
        self._nft.run(firewall.delete_table(self.name))
        failpoint("networks.close.table-removed")
        self.unplug([self.name])

    def _accepts(self, place: Place, direction: str) -> list[int]:
        """Handles of our accepts there."""
        rules = [entry["rule"] for entry in self._nft.objects(f"list chain {place}") if "rule" in entry]
        return [rule["handle"] for rule in rules if firewall.is_accept(rule, direction, self.name)]


def _legacy() -> Iterable[str]:
    """iptables-legacy keeps its rules where nftables does not see them (xtables-legacy(8))."""
    try:
        tables = Path("/proc/net/ip_tables_names").read_text().split()
    except OSError:
        return
    if "filter" in tables:
        yield (
            "iptables-legacy has a filter table, which nftables does not see: if its FORWARD chain drops, containers "
            "on the bridge reach nothing; accept the bridge there, or move those rules to iptables-nft"
        )
