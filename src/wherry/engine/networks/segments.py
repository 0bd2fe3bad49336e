"""One bridge network as it is on this host: its bridge, its addresses, and who is in it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from wherry.engine.networks.bridge import Bridge, Kernel
from wherry.engine.networks.host_bridges import table_of
from wherry.errors import Forbidden, SystemFailure
from wherry.model import firewall, ipam, network_requests
from wherry.model.container import Container, PublishedPort
from wherry.model.firewall import Redirection
from wherry.model.network_requests import BINDING, ICC, MASQUERADE, PREFIX
from wherry.model.networks import Network
from wherry.model.ports import Wanted, wanted_ports

CONTAINER_INTERFACE = "eth"


@dataclass(frozen=True)
class Place:
    """What one running sandbox has in a network. Ports are published in one of its networks alone."""

    interface: str
    address: IPv4Address
    published: tuple[Redirection, ...] = ()


class Segment:
    """Lives on the event loop, but for its bridge, which is the kernel's thread's."""

    def __init__(self, kernel: Kernel, record: Network, default: str) -> None:
        """`default` is the name of the engine's default bridge."""
        options = record.options
        self.record = record
        self.bridge = Bridge(
            kernel,
            firewall.Segment(
                table_of(default, record.bridge),
                record.bridge,
                IPv4Network(record.subnet),
                record.internal,
                network_requests.boolean(options, MASQUERADE, True),
            ),
            mtu=network_requests.mtu(options) if not record.predefined else 0,
            isolated=not network_requests.boolean(options, ICC, True),
        )
        self.prefix = options.get(PREFIX) or CONTAINER_INTERFACE
        self.places: dict[str, Place] = {}  # by sandbox
        self.problems: list[str] = []
        self._addresses = network_requests.addresses(record)

    @property
    def published(self) -> list[Redirection]:
        return [entry for place in self.places.values() for entry in place.published]

    def wanted(self, container: Container) -> list[Wanted]:
        """The ports to publish, at the addresses that this network's options say. Raises as `wanted_ports`."""
        host = container.host
        wanted = wanted_ports(host.port_bindings, container.config.exposed_ports or {}, host.publish_all_ports)
        binding = self.record.options.get(BINDING, firewall.ANY)
        if binding == firewall.ANY:
            return wanted
        return [replace(one, addresses=(binding,), implied=False) if one.implied else one for one in wanted]

    # --- addresses ---

    def allocate(self, asked: str = "") -> IPv4Interface:
        """An address, `asked` if that is one. Raises Forbidden, SystemFailure in Docker's words."""
        if asked:
            address = IPv4Address(asked)
            if not self._addresses.take(address):
                raise Forbidden("Address already in use")
        else:
            try:
                address = self._addresses.allocate(time.monotonic())
            except ipam.Exhausted:
                where = f"{self.record.name} ({self.record.id})"
                raise SystemFailure(f"no available IPv4 addresses on this network's address pools: {where}") from None
        return IPv4Interface((address, self._addresses.subnet.prefixlen))

    def take(self, address: IPv4Address) -> bool:
        """Claim again what a running container has; False if that cannot be."""
        return self._addresses.take(address)

    def free(self, address: IPv4Address) -> None:
        self._addresses.free(address, time.monotonic())

    # --- who is in it ---

    def publish(self, sandbox: str, ports: list[PublishedPort]) -> tuple[Redirection, ...]:
        """Note that a sandbox's ports are published here (none: no longer); what to have the firewall do."""
        place = self.places[sandbox]
        before = place.published
        published = tuple(firewall.redirections(ports, str(place.address)))
        self.places[sandbox] = replace(place, published=published)
        return published or before
