"""Containers' places in networks: interfaces, addresses, published ports.

What a container has is in its record (`Container.sandbox`); what the host has is made to agree with it at start
(`readopt`, `mend_way`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from wherry.engine.networks.announce import Announce
from wherry.engine.networks.bridge import FIRST_INDEX, VETH_PREFIX, Kernel, Plug, Way
from wherry.engine.networks.fabric import Fabric
from wherry.engine.networks.host_ports import HostPorts, PortUnavailable
from wherry.engine.networks.records import Records
from wherry.engine.networks.segments import Place, Segment
from wherry.errors import SystemFailure, Unavailable
from wherry.linux import netns, sysctl
from wherry.linux.nftables import NftablesError
from wherry.model import ipam
from wherry.model.container import Container, Endpoint, PublishedPort, Sandbox
from wherry.model.failpoints import failpoint
from wherry.model.firewall import Redirection
from wherry.model.networks import gateway_endpoint, parse_mac
from wherry.model.ports import Wanted

log = logging.getLogger(__name__)

_LEAVE = 0.05  # seconds after which an interface should have gone with its namespace


@dataclass
class Activation:
    """A sandbox's network, ready. `netns_fd` is to be closed once the runtime has joined it; None: the host's own."""

    netns_fd: int | None = None
    gateway: str = ""
    address: str = ""


@dataclass(frozen=True)
class _Member:
    """An endpoint in the making: allocated, not yet told."""

    segment: Segment
    endpoint: Endpoint
    plug: Plug
    id: str

    def tell(self) -> None:
        """Fill the endpoint in."""
        endpoint, record = self.endpoint, self.segment.record
        endpoint.network_id, endpoint.endpoint_id = record.id, self.id
        endpoint.interface, endpoint.inner, endpoint.index = self.plug.interface, self.plug.inner, self.plug.index
        endpoint.gateway = "" if record.internal else record.gateway
        endpoint.address, endpoint.prefix_length = str(self.plug.address.ip), self.plug.address.network.prefixlen
        endpoint.mac_address = self.plug.mac

    @property
    def way(self) -> Way:
        return Way(self.plug.index, IPv4Address(self.segment.record.gateway))


class Attachments:
    """Lives on the event loop of its networks.

    activation = await attachments.activate(container)    # at start; fills container.sandbox, which the caller stores
    ... the runtime joins /proc/PID/fd/N ...
    os.close(activation.netns_fd)
    await attachments.connect(container, endpoint, netns_fd, save)     # while it runs
    await attachments.disconnect(container, name, netns_fd, save)
    await attachments.deactivate(container)               # after exit; empties container.sandbox
    """

    def __init__(self, fabric: Fabric, records: Records, announce: Announce, *, ipv6: bool) -> None:
        """`ipv6`: the host has it."""
        self._fabric = fabric
        self._records = records
        self._ports = HostPorts(ipv6=ipv6, ephemeral=sysctl.ephemeral_ports)
        self._announce = announce
        self._active: set[str] = set()  # sandboxes
        self._leaving: list[tuple[Segment, Place]] = []
        self._lost_ports: dict[str, list[str]] = {}

    @property
    def warnings(self) -> list[str]:
        return [problem for problems in self._lost_ports.values() for problem in problems]

    async def activate(self, container: Container, namespace: int = -1) -> Activation:
        """Give the container its networks and write what it got into `container.sandbox`, for the caller to store.

        `namespace` is the one to use, new and empty; without it one is made.

        Raises NotFound (a network is gone), Unavailable (no bridges here), Forbidden and SystemFailure in Docker's
        words (a port or an address is taken, no address is left); then nothing is left behind. The modes `container:ID`
        are the caller's.
        """
        sandbox = container.sandbox
        sandbox.interfaces = 0
        if sandbox.mode == "host":
            activation = Activation()
            self._active.add(sandbox.id)
        elif sandbox.mode == "none" or not sandbox.endpoints:
            home = self._fabric.home
            fd = await self._fabric.uninterrupted(lambda: netns.with_loopback(home, namespace), os.close)
            activation = Activation(fd)
            self._active.add(sandbox.id)
        else:
            activation = await self._join(container, namespace)
        for name in self._names(sandbox):
            self._tell("connect", container, name)
        return activation

    async def _join(self, container: Container, namespace: int) -> Activation:
        sandbox = container.sandbox
        kernel = self._fabric.kernel()
        if not self._fabric.secured:
            raise Unavailable("no bridge network on this host: networking is not open")
        with contextlib.ExitStack() as undo:
            self._active.add(sandbox.id)
            undo.callback(self._active.discard, sandbox.id)
            found = [(self._segment_of(endpoint), endpoint) for endpoint in sandbox.endpoints.values()]
            members = [self._allocate(container, segment, endpoint, undo) for segment, endpoint in found]
            leading = _leading(members)
            published: list[PublishedPort] = []
            if leading is not None:
                published = self._hold(container, leading.id, leading.segment.wanted(container))
                undo.callback(self._ports.release, sandbox.id)
            failpoint("networks.activate.ports-held")
            fd = await self._wire(kernel, container, members, leading, published, namespace)
            undo.pop_all()
        for member in members:
            member.tell()
        sandbox.ports = published
        if leading is not None:
            self._ports.serve(sandbox.id, leading.endpoint.address)
        failpoint("networks.activate.done")
        first = members[0].endpoint
        return Activation(fd, first.gateway, first.address)

    def _allocate(
        self, container: Container, segment: Segment, endpoint: Endpoint, undo: contextlib.ExitStack
    ) -> _Member:
        """An address and names in one network, taken back by `undo`."""
        sandbox = container.sandbox
        requested = endpoint.requested
        endpoint.named = True
        address = segment.allocate(requested.ipam_config.ipv4_address if requested.ipam_config else "")
        undo.callback(segment.free, address.ip)
        number = sandbox.interfaces
        sandbox.interfaces += 1
        given = requested.mac_address or (container.config.mac_address if endpoint.network == sandbox.mode else "")
        plug = Plug(
            interface=_interface(sandbox),
            inner=f"{segment.prefix}{number}",
            index=FIRST_INDEX + number,
            address=address,
            mac=parse_mac(given) if given else ipam.mac_of(address.ip),
            hairpin=bool(segment.wanted(container)),
        )
        # known from here on: whoever lays the table meanwhile lays these ports too
        segment.places[sandbox.id] = Place(plug.interface, address.ip)
        undo.callback(segment.places.pop, sandbox.id, None)
        return _Member(segment, endpoint, plug, secrets.token_hex(32))

    async def _wire(
        self,
        kernel: Kernel,
        container: Container,
        members: list[_Member],
        leading: _Member | None,
        published: list[PublishedPort],
        namespace: int,
    ) -> int:
        """The namespace with all its interfaces, its ports published. Raises SystemFailure."""
        plugs = [(member.segment.bridge, member.plug) for member in members]
        redirected = leading.segment.publish(container.sandbox.id, published) if leading else ()

        def make() -> tuple[int, bool]:
            fd = kernel.wire(plugs, leading.way if leading else None, namespace)
            try:
                if leading:
                    leading.segment.bridge.publish(redirected)
            except NftablesError:  # somebody flushed the ruleset
                return fd, False
            failpoint("networks.activate.ports-published")
            return fd, True

        def unmake(made: tuple[int, bool]) -> None:
            os.close(made[0])
            if leading and made[1]:
                leading.segment.bridge.unpublish(redirected)

        network = (leading or members[0]).segment.record.name
        try:
            fd, complete = await self._fabric.uninterrupted(make, unmake)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise SystemFailure(
                f"failed to create endpoint {container.name} on network {network}: adding interfaces failed: {reason}"
            ) from error
        if leading and not complete:
            try:
                await self._fabric.lay(leading.segment)
            except (OSError, NftablesError) as error:
                os.close(fd)
                message = f"failed to create endpoint {container.name} on network {network}: {error}"
                raise SystemFailure(message) from error
        return fd

    async def connect(self, container: Container, endpoint: Endpoint, namespace: int, save: Callable[[], None]) -> None:
        """One more network for a container that runs in `namespace` (a descriptor). `save` stores its record.

        Raises as `activate`; then nothing has changed.
        """
        sandbox = container.sandbox
        kernel = self._fabric.kernel()
        segment = self._segment_of(endpoint)
        before = self._leading(sandbox)
        with contextlib.ExitStack() as undo:
            member = self._allocate(container, segment, endpoint, undo)
            failpoint("networks.connect.allocated")
            name = segment.record.name
            leads = not segment.record.internal and (before is None or name < before[0].record.name)
            if leads and before is None:
                sandbox.ports = self._hold(container, member.id, segment.wanted(container))
                undo.callback(sandbox.ports.clear)
                undo.callback(self._ports.release, sandbox.id)
            try:
                await self._fabric.run(
                    kernel.attach, namespace, segment.bridge, member.plug, member.way if leads else None
                )
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                message = f"failed to create endpoint {container.name} on network {name}: {reason}"
                raise SystemFailure(message) from error
            undo.pop_all()
        member.tell()
        sandbox.endpoints[name] = endpoint
        save()
        failpoint("networks.connect.recorded")
        if leads:
            await self._publish_elsewhere(sandbox, before[0] if before else None, segment, endpoint)
        self._tell("connect", container, name)

    async def disconnect(self, container: Container, name: str, namespace: int, save: Callable[[], None]) -> None:
        """One network less for a running container. `save` stores its record. Raises SystemFailure."""
        sandbox = container.sandbox
        kernel = self._fabric.kernel()
        before = self._leading(sandbox)
        endpoint = sandbox.endpoints.pop(name)
        after = self._leading(sandbox)
        ports = sandbox.ports
        if after is None:
            sandbox.ports = []
        save()
        failpoint("networks.disconnect.recorded")
        left = self._fabric.segments.get(endpoint.network_id)
        if before and before[0] is left:
            if after:
                way = Way(after[1].index or FIRST_INDEX, IPv4Address(after[0].record.gateway))
                with contextlib.suppress(OSError):
                    await self._fabric.run(kernel.turn, namespace, way)
                await self._publish_elsewhere(sandbox, left, after[0], after[1])
            else:
                self._ports.release(sandbox.id)
                await self._unpublish(left, left.publish(sandbox.id, []) if ports else ())
        if left and (place := left.places.pop(sandbox.id, None)):
            try:
                await self._fabric.run(kernel.unplug, [place.interface])
            except OSError as error:
                log.warning("the interface %s could not be deleted: %s", place.interface, error)
            failpoint("networks.disconnect.unplugged")
            left.free(place.address)
        self._tell("disconnect", container, name)

    async def _publish_elsewhere(self, sandbox: Sandbox, old: Segment | None, new: Segment, endpoint: Endpoint) -> None:
        """Published ports lead to another of the container's addresses."""
        if old is not None and sandbox.id in old.places:
            await self._unpublish(old, old.publish(sandbox.id, []))
        redirected = new.publish(sandbox.id, sandbox.ports)
        failpoint("networks.connect.ports-moving")
        try:
            await self._fabric.run(new.bridge.publish, redirected)
        except NftablesError:
            await self._fabric.lay_again(new)
        self._ports.serve(sandbox.id, endpoint.address)

    async def deactivate(self, container: Container) -> None:
        """Take back what the container had, and empty `container.sandbox` of it. Idempotent; raises nothing.

        The interfaces go with their namespace, or shortly after if something else holds that; only then are the
        addresses free again.
        """
        sandbox = container.sandbox
        if sandbox.id in self._active or any(endpoint.endpoint_id for endpoint in sandbox.endpoints.values()):
            for name in self._names(sandbox):
                self._tell("disconnect", container, name)
        self._active.discard(sandbox.id)
        self._lost_ports.pop(sandbox.id, None)
        sandbox.ports = []
        sandbox.endpoints = {
            name: Endpoint(
                network_id=endpoint.network_id, network=name, requested=endpoint.requested, named=endpoint.named
            )
            for name, endpoint in sandbox.endpoints.items()
        }
        self._ports.release(sandbox.id)
        for segment in list(self._fabric.segments.values()):
            place = segment.places.pop(sandbox.id, None)
            if place:
                await self._leave(segment, place)

    async def _leave(self, segment: Segment, place: Place) -> None:
        await self._unpublish(segment, place.published)
        if not self._leaving:
            self._fabric.later(_LEAVE, self._finish_leaving)
        self._leaving.append((segment, place))

    async def _unpublish(self, segment: Segment, published: Sequence[Redirection]) -> None:
        try:
            await self._fabric.run(segment.bridge.unpublish, published)
        except NftablesError:
            await self._fabric.lay_again(segment)

    async def _finish_leaving(self) -> None:
        """Addresses are free once their interfaces are gone."""
        gone, self._leaving = self._leaving, []
        with_udp = [place.address for _, place in gone if any(one.port.protocol == "udp" for one in place.published)]
        try:
            await self._fabric.run(self._fabric.kernel().leave, [place.interface for _, place in gone], with_udp)
        except (OSError, Unavailable) as error:  # Unavailable: the networks were closed meanwhile
            log.warning("could not clean up after containers that ended: %s", error)
        for segment, place in gone:
            segment.free(place.address)

    def close(self) -> None:
        """Let go of ports; containers' interfaces stay."""
        self._ports.close()

    def _segment_of(self, endpoint: Endpoint) -> Segment:
        """By the network's ID once it was connected, by name before. Raises NotFound, Unavailable."""
        return self._fabric.segment(self._records.find(endpoint.network_id or endpoint.network))

    def _leading(self, sandbox: Sandbox) -> tuple[Segment, Endpoint] | None:
        """The connected endpoint by which packets leave, and at which ports are published."""
        connected = [
            (self._fabric.segments[endpoint.network_id], endpoint)
            for endpoint in sandbox.endpoints.values()
            if endpoint.address and endpoint.network_id in self._fabric.segments
        ]
        found = gateway_endpoint((segment.record, endpoint) for segment, endpoint in connected)
        return (self._fabric.segments[found.network_id], found) if found else None

    def _hold(self, container: Container, endpoint_id: str, wanted: list[Wanted]) -> list[PublishedPort]:
        try:
            return self._ports.hold(container.sandbox.id, wanted)
        except PortUnavailable as error:
            raise SystemFailure(
                f"driver failed programming external connectivity on endpoint {container.name} ({endpoint_id}): {error}"
            ) from error

    def _names(self, sandbox: Sandbox) -> list[str]:
        return list(sandbox.endpoints) or ([sandbox.mode] if sandbox.mode in ("host", "none") else [])

    def _tell(self, action: str, container: Container, name: str) -> None:
        if name in self._records:
            self._announce(self._records.find(name), action, container=container.id)

    # --- after a start of the engine ---

    def readopt(self, sandbox: Sandbox) -> None:
        """Take again what a running container has, as recorded."""
        self._active.add(sandbox.id)
        for endpoint in sandbox.endpoints.values():
            segment = self._fabric.segments.get(endpoint.network_id)
            if not endpoint.address or segment is None:
                continue
            address = IPv4Address(endpoint.address)
            if not segment.take(address):
                log.warning("sandbox %s has the address %s, which is not free", sandbox.id[:12], address)
            segment.places[sandbox.id] = Place(endpoint.interface, address)
        leading = self._leading(sandbox)
        if leading is None:
            return
        segment, endpoint = leading
        segment.publish(sandbox.id, sandbox.ports)
        problems = self._ports.retake(sandbox.id, sandbox.ports)
        lost = [f"container {sandbox.id[:12]}: {problem}" for problem in problems]
        for problem in lost:
            log.warning("%s", problem)
        if lost:
            self._lost_ports[sandbox.id] = lost
        self._ports.serve(sandbox.id, endpoint.address)

    async def mend_way(self, sandbox: Sandbox) -> None:
        """A container whose way out went with an interface that was just swept gets it back."""
        leading = self._leading(sandbox)
        if leading is None or not sandbox.netns:
            return
        segment, endpoint = leading
        way = Way(endpoint.index or FIRST_INDEX, IPv4Address(segment.record.gateway))
        with contextlib.suppress(OSError):  # it has just ended, or runs a network of its own
            await self._fabric.run(self._fabric.kernel().mend, sandbox.netns, way)


def _leading(members: Iterable[_Member]) -> _Member | None:
    by_endpoint = {id(member.endpoint): member for member in members}
    found = gateway_endpoint((member.segment.record, member.endpoint) for member in by_endpoint.values())
    return by_endpoint[id(found)] if found else None


def _interface(sandbox: Sandbox) -> str:
    """A name for the host's end of a veth: that of the last run may be there for another moment."""
    return f"{VETH_PREFIX}{sandbox.id[:7]}{secrets.token_hex(3)}"
