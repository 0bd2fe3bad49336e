"""Bridges on this host: the interface, its veths, its firewall table. Blocking: one thread does all of it.

What other programs must leave to the engine is named after the bridge: for the default one the table `ip wherry0`, for
another the table `ip wherry0_NAME`; the accepts for the bridge in chains of other firewalls; and the interfaces in the
bridge whose names begin with `wv`.
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
from wherry.model.firewall import Guard, Place, Redirection, Segment

log = logging.getLogger(__name__)

VETH_PREFIX = "wv"
FIRST_INDEX = 64  # of a container's interfaces: above the tunnels that a new namespace may be born with
_INDICES = range(1 << 20, 1 << 30)  # of the host's ends: far from those that the kernel gives out
FORWARD = "net/ipv4/ip_forward"
_BRIDGED_IS_FILTERED = "net/bridge/bridge-nf-call-iptables"


@dataclass(frozen=True)
class Plug:
    """One container's place at a bridge."""

    interface: str  # the host's end
    inner: str  # the container's: eth0
    index: int  # of the container's
    address: IPv4Interface
    mac: str
    hairpin: bool = False  # it may reach its own published ports through the bridge


@dataclass(frozen=True)
class Way:
    """Where a container's packets to everywhere else go."""

    index: int  # of the container's interface
    gateway: IPv4Address


class Kernel:
    """What talks to the kernel about the host's network namespace; made and used in one thread."""

    def __init__(self) -> None:
        self.home = netns.current()
        self.route = netlink.Socket()
        self.nft = Nftables()

    def close(self) -> None:
        self.nft.close()
        self.route.close()
        os.close(self.home)

    def bridges(self) -> list[str]:
        return [link.name for link in self.route.links() if link.kind == "bridge"]

    def is_free(self, name: str) -> bool:
        """No interface has this name, or it is a bridge with nothing in it."""
        links = self.route.links()
        found = next((link for link in links if link.name == name), None)
        return found is None or (found.kind == "bridge" and not any(link.master == found.index for link in links))

    def exists(self, name: str) -> bool:
        return any(link.name == name for link in self.route.links())

    def bridged(self, network: IPv4Network, besides: Collection[str] = ()) -> tuple[str, IPv4Network] | None:
        """A bridge of the host, but for these, to whose network a part of this one belongs."""
        names = {link.index: link.name for link in self.route.links() if link.kind == "bridge"}
        for other, index in self.route.routes():
            if names.get(index, "") not in ("", *besides) and other.prefixlen and other.overlaps(network):
                return names[index], other
        return None

    def networks_in_use(self, besides: Collection[str] = ()) -> list[IPv4Network]:
        """Where the host's routes lead, but for those of these interfaces."""
        own = {link.index for link in self.route.links() if link.name in besides}
        return [network for network, index in self.route.routes() if index not in own]

    def tables(self) -> set[str]:
        """Names of the tables for IPv4."""
        return {entry["table"]["name"] for entry in self.nft.objects("list tables ip")}

    def unplug(self, interfaces: Iterable[str]) -> None:
        """Delete interfaces that did not go with their namespace. Slow (some 14 ms each): off the path."""
        there = {link.name for link in self.route.links()}
        for name in interfaces:
            if name in there:
                try:
                    self.route.run(netlink.delete_link(name))
                except OSError as error:
                    if not netlink.is_missing(error):
                        raise

    def leave(self, interfaces: Iterable[str], with_udp: Iterable[IPv4Address]) -> None:
        """What is left to do some time after containers ended. Off the path."""
        self.unplug(interfaces)
        conntrack.forget_udp(with_udp)

    def forwards(self) -> bool:
        return sysctl.read(FORWARD) == "1"

    # --- containers ---

    def wire(self, plugs: Sequence[tuple[Bridge, Plug]], way: Way | None, made: int = -1) -> int:
        """A new namespace, or `made`, with lo and these interfaces in it: its descriptor is the caller's.

        Raises OSError; then nothing is left but what goes with the namespace.
        """
        with netns.fresh(self.home, made) as fd:
            for bridge, plug in plugs:
                self._add_veth(bridge, plug, fd)
            failpoint("networks.activate.veth-made")
            with netlink.Socket() as inner:
                inner.run(netlink.link_up(netlink.LOOPBACK_INDEX), *_settings(plugs, way))
            failpoint("networks.activate.address-given")
        return fd

    def attach(self, namespace: int, bridge: Bridge, plug: Plug, way: Way | None) -> None:
        """One more interface in a live namespace (a descriptor). Raises OSError; then nothing is left."""
        self._add_veth(bridge, plug, namespace)
        failpoint("networks.connect.veth-made")
        try:
            with netns.inside(namespace, self.home), netlink.Socket() as inner:
                inner.run(*_settings([(bridge, plug)], way))
        except BaseException:
            self.unplug([plug.interface])
            raise
        failpoint("networks.connect.address-given")

    def turn(self, namespace: int, way: Way) -> None:
        """The default route of a live namespace. Raises OSError."""
        with netns.inside(namespace, self.home), netlink.Socket() as inner:
            inner.run(netlink.default_route(way.index, way.gateway))

    def mend(self, namespace: str, way: Way) -> None:
        """A default route for a live namespace, named by its path, that has none. Raises OSError."""
        fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with netns.inside(fd, self.home), netlink.Socket() as inner:
                if all(network.prefixlen for network, _ in inner.routes()):
                    inner.run(netlink.default_route(way.index, way.gateway))
        finally:
            os.close(fd)

    def _add_veth(self, bridge: Bridge, plug: Plug, fd: int) -> None:
        hairpin = plug.hairpin and sysctl.read(_BRIDGED_IS_FILTERED) == "1"
        for attempt in range(4):
            index = random.choice(_INDICES)
            pair = netlink.add_veth(
                plug.interface, index, bridge.index, plug.inner, plug.index, plug.mac, fd, bridge.mtu
            )
            port = [netlink.set_hairpin(index)] if hairpin else []
            port += [netlink.set_isolated(index)] if bridge.isolated else []
            try:
                self.route.run(pair, *port)
                return
            except OSError as error:
                if error.errno != errno.EBUSY or attempt == 3:  # EBUSY: the index is taken
                    raise


def _settings(plugs: Sequence[tuple[Bridge, Plug]], way: Way | None) -> list[netlink.Request]:
    """In the container's namespace: interfaces up, with their addresses, and the default route."""
    requests = []
    for _, plug in plugs:
        sysctl.ensure(f"net/ipv6/conf/{plug.inner}/disable_ipv6", "1")
        requests += [netlink.link_up(plug.index), netlink.add_address(plug.index, plug.address)]
    if way is not None:
        requests.append(netlink.default_route(way.index, way.gateway))
    return requests


class Bridge:
    """bridge = Bridge(kernel, segment); bridge.set_up(gateway); bridge.lay(...); kernel.wire([(bridge, plug)], way)

    Made and used in the kernel's thread. `mtu` in bytes is that of the interfaces in it (0: as the kernel likes);
    `isolated` ones reach the bridge and not one another.
    """

    def __init__(self, kernel: Kernel, segment: Segment, *, mtu: int = 0, isolated: bool = False) -> None:
        self.segment = segment
        self.index = 0
        self.mtu = mtu
        self.isolated = isolated
        self._kernel = kernel
        self._route = kernel.route
        self._nft = kernel.nft
        self._laid: set[tuple[str, int]] = set()  # the table and its rules, by handle

    @property
    def name(self) -> str:
        return self.segment.bridge

    @property
    def table(self) -> str:
        return self.segment.table

    # --- the bridge itself ---

    def set_up(self, gateway: IPv4Interface) -> None:
        """Make the bridge, or repair it: up, with this address and no other. Raises OSError."""
        found = next((link for link in self._route.links() if link.name == self.name), None)
        if found is None:
            self._route.run(netlink.add_bridge(self.name, ipam.mac_of(gateway.ip)))
            failpoint("networks.open.bridge-made")
            found = next(link for link in self._route.links() if link.name == self.name)
        if found.kind != "bridge":
            raise OSError(errno.EEXIST, f"existing interface {self.name} is not a bridge")
        self.index = found.index
        others = [address for address in self._route.addresses(self.index) if address != gateway]
        self._route.run(
            *(netlink.delete_address(self.index, address) for address in others),
            netlink.add_address(self.index, gateway),
            netlink.link_up(self.index),
        )
        failpoint("networks.open.bridge-up")

    def sweep(self, keep: Collection[str]) -> list[str]:
        """Delete veths of ours that nobody owns; put those that are owned back if the bridge was made anew."""
        links = {link.name: link for link in self._route.links()}
        for name in keep:
            if name in links and links[name].master != self.index:
                self._route.run(netlink.set_master(links[name].index, self.index), netlink.link_up(links[name].index))
        orphans = [
            link.name
            for link in links.values()
            if link.master == self.index
            and link.kind == "veth"
            and link.name.startswith(VETH_PREFIX)
            and link.name not in keep
        ]
        self._kernel.unplug(orphans)
        return orphans

    # --- the firewall ---

    def lay(self, published: Sequence[Redirection], guard: Guard | None) -> list[str]:
        """Put our table in place of what there is, and our accepts beside others; sentences about what is in the way.

        Raises NftablesError, OSError.
        """
        self._nft.run(firewall.whole_table(self.segment, published, guard))
        self._laid = self._there()
        failpoint("networks.recover.table-laid")
        if not self.segment.internal:
            sysctl.ensure(f"net/ipv4/conf/{self.name}/route_localnet", "1")
            sysctl.ensure(FORWARD, "1")
            failpoint("networks.recover.forwarding-on")
        return self.stand_beside_others()

    def repair(self, published: Sequence[Redirection], guard: Guard | None) -> list[str]:
        """`lay` again if rules of ours are gone; see to our accepts in any case. Raises NftablesError, OSError.

        A table that was saved and restored has the handles of its rules again, and old elements: its own handle is new.
        """
        if self._laid and self._laid <= self._there():
            return self.stand_beside_others()
        log.warning("rules of the firewall table of %s were removed; laying it again", self.name)
        return self.lay(published, guard)

    def _there(self) -> set[tuple[str, int]]:
        entries = self._nft.objects(f"list table ip {self.table}")
        return {(kind, entry[kind]["handle"]) for entry in entries for kind in ("table", "rule") if kind in entry}

    def publish(self, published: Sequence[Redirection]) -> None:
        """Raises NftablesError; then none is added."""
        if published:
            self._nft.run(firewall.add_elements(self.table, published))

    def unpublish(self, published: Sequence[Redirection]) -> None:
        """Raises NftablesError if any is not there; then none is removed."""
        if published:
            self._nft.run(firewall.delete_elements(self.table, published))
            failpoint("networks.deactivate.ports-unpublished")

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
            for where in firewall.droppers(chains, self.table, reached)
        ]
        return problems

    def guards(self) -> bool:
        """Whether the host's forwarding is on because of us."""
        return bool(self._nft.objects(f"list chain ip {self.table} {firewall.GUARD}"))

    def remove(self) -> None:
        """Take bridge, table and accepts off the host. Raises OSError, NftablesError; harmless where nothing is."""
        chains = [entry["chain"] for entry in self._nft.objects("list chains")]
        for place in firewall.PLACES:
            if any((chain["family"], chain["table"], chain["name"]) == place.key for chain in chains):
                handles = [handle for way in firewall.DIRECTIONS for handle in self._accepts(place, way)]
                if handles:
                    self._nft.run(firewall.delete_rules(place, handles))
                    failpoint("networks.close.accepts-removed")
        self._kernel.unplug([self.name])
        self._nft.run(firewall.delete_table(self.table))
        failpoint("networks.close.table-removed")

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
