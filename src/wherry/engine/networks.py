"""Networks: the default bridge, those of users, `none` and `host`, and every container's place in them.

What a container has is in its record (`Container.sandbox`); what the host has is made to agree with the records in
`recover`. The database keeps the networks themselves.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from typing import TypeVar

import msgspec

from wherry.engine.bridge import FIRST_INDEX, VETH_PREFIX, Kernel, Plug, Way
from wherry.engine.host_bridges import BRIDGES, claim, clean_host, remove_all, remove_leftovers
from wherry.engine.host_ports import HostPorts, PortUnavailable
from wherry.engine.network_records import Records, prune_selection
from wherry.engine.segments import Place, Segment
from wherry.errors import Conflict, Forbidden, InvalidParameter, SystemFailure, Unavailable
from wherry.linux import netns, sysctl
from wherry.linux.nftables import Changes, NftablesError
from wherry.model import ipam, network_requests
from wherry.model.config import Config, HostConfig, NetworkingConfig
from wherry.model.container import Container, Endpoint, PublishedPort, Sandbox
from wherry.model.events import Event
from wherry.model.failpoints import failpoint
from wherry.model.filters import Filters
from wherry.model.firewall import Guard, Redirection
from wherry.model.host import Host
from wherry.model.ids import new_id
from wherry.model.network_requests import CreateRequest
from wherry.model.networks import Network, gateway_endpoint, parse_mac, sandbox_for
from wherry.model.ports import Wanted, wanted_ports
from wherry.storage.database import Database

__all__ = ["BRIDGES", "Activation", "Networks", "clean_host"]

log = logging.getLogger(__name__)

T = TypeVar("T")
MTU = 1500
_LEAVE = 0.05  # seconds after which an interface should have gone with its namespace
_SETTLE = 0.2  # seconds from a change of somebody's firewall to our look at it


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


class Networks:
    """The service. Lives on one event loop; what blocks happens in one thread of its own.

    networks = Networks(database, host, emit)
    await networks.open()
    await networks.recover(sandboxes_that_live)           # always, also with none: lays the firewall
    container.sandbox = networks.new_sandbox(...)         # at create, after validate
    activation = await networks.activate(container)       # at start; fills container.sandbox, which the caller stores
    ... the runtime joins /proc/PID/fd/N ...
    os.close(activation.netns_fd)
    await networks.connect(container, endpoint, netns_fd, save)     # while it runs
    await networks.disconnect(container, name, netns_fd, save)
    await networks.deactivate(container)                  # after exit; empties container.sandbox
    await networks.close()                                # leaves all in place for those that run

    A host without nftables can do without the bridges: `warnings` says so, and activating a container on one raises
    Unavailable. `bip` is the default bridge's address (`--bip`), `bridge` its name; by default both are chosen once and
    kept.
    """

    def __init__(
        self, database: Database, host: Host, emit: Callable[[Event], None], *, bip: str = "", bridge: str = ""
    ) -> None:
        self._host = host
        self._emit = emit
        self._bip = ipam.gateway_of(bip) if bip else None
        self._wanted_name = bridge
        self._records = Records(database)
        self._hidden: list[Network] = []
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._kernel: Kernel | None = None
        self._segments: dict[str, Segment] = {}  # by network; of those that the host could make
        self._home = -1
        self._lock: socket.socket | None = None
        self._guard: Guard | None = None
        self._ports = HostPorts(ipv6=host.ipv6, ephemeral=sysctl.ephemeral_ports)
        self._active: set[str] = set()  # sandboxes
        self._leaving: list[tuple[Segment, Place]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._changes: Changes | None = None
        self._look: asyncio.TimerHandle | None = None
        self._changing = asyncio.Lock()  # held by who makes or removes a network
        self._unavailable = ""
        self._overlap = ""
        self._failed: dict[str, str] = {}  # networks that the host could not make, and why
        self._lost_ports: dict[str, list[str]] = {}

    @property
    def warnings(self) -> builtins.list[str]:
        """What is wrong with this host's networking, one sentence each."""
        degraded = [f"no bridge network: {self._unavailable}"] if self._unavailable else []
        overlap = [self._overlap] if self._overlap else []
        failed = [f"the network {name} is not available: {reason}" for name, reason in self._failed.items()]
        beside = dict.fromkeys(problem for segment in self._segments.values() for problem in segment.problems)
        lost = [problem for problems in self._lost_ports.values() for problem in problems]
        return [*degraded, *overlap, *failed, *beside, *lost]

    # --- life ---

    async def open(self) -> None:
        """Read or make the records, and make or repair the bridges. Raises SystemFailure, InvalidParameter."""
        self._home = netns.current()
        self._hidden = self._records.load()
        try:
            self._kernel = await self._run(Kernel)
            chosen = await self._run(self._open_default, self._kernel, self._records.default)
        except (OSError, NftablesError) as error:
            self._unavailable = str(error)
            log.warning("no bridge network: %s", self._unavailable)
            return
        if chosen != self._records.default:
            self._records.show(chosen)
        failpoint("networks.open.recorded")
        await self._settle_hidden()
        for record in self._records:
            if record.driver == "bridge" and not record.predefined:
                await self._reopen(record)

    def _open_default(self, kernel: Kernel, record: Network) -> Network:
        """In the worker's thread: the default bridge, chosen where nothing is recorded; what to record."""
        name, self._lock = claim(kernel, self._wanted_name, record.bridge)
        remove_leftovers(kernel, name)
        gateway = self._choose_gateway(kernel, record, name)
        chosen = msgspec.structs.replace(record, bridge=name, subnet=str(gateway.network))
        chosen.gateway, chosen.options = str(gateway.ip), _options(name)
        segment = Segment(kernel, chosen, name)
        segment.bridge.set_up(gateway)
        self._segments[chosen.id] = segment
        return chosen

    def _choose_gateway(self, kernel: Kernel, record: Network, name: str) -> IPv4Interface:
        in_use = kernel.networks_in_use(besides=[name])
        if self._bip:
            if found := kernel.bridged(self._bip.network, besides=[name]):
                other, network = found
                raise InvalidParameter(
                    f"--bip {self._bip}: the bridge {other} of this host has addresses of {network}, too: packets for "
                    f"one would go to the other. Give this engine another --bip, or end who made {other} and delete "
                    f"it: ip link delete {other}"
                )
            for network in in_use:
                if network.prefixlen and network.overlaps(self._bip.network):
                    self._overlap = f"the bridge's address {self._bip} (--bip) overlaps the host's route to {network}"
            return self._bip
        if record.gateway:
            kept = network_requests.gateway(record)
            clash = any(network.prefixlen and network.overlaps(kept.network) for network in in_use)
            if kernel.exists(name) or not clash:
                return kept
        return ipam.choose_gateway(in_use)

    async def _settle_hidden(self) -> None:
        """Of networks that were being made or removed, leave nothing."""
        for record in self._hidden:
            segment = self._new_segment(record)
            try:
                await self._run(segment.bridge.remove)
            except (OSError, NftablesError) as error:
                log.warning("could not remove what is left of the network %s: %s", record.name, error)
                continue
            self._records.forget(record)
        self._hidden = []

    async def _reopen(self, record: Network) -> None:
        """A network that cannot be made on this host now is one that no container can use."""
        segment = self._new_segment(record)
        try:
            await self._run(segment.bridge.set_up, network_requests.gateway(record))
        except OSError as error:
            self._failed[record.name] = str(error)
            log.warning("the network %s is not available: %s", record.name, error)
            return
        self._segments[record.id] = segment

    def _new_segment(self, record: Network) -> Segment:
        return Segment(self._kernel_here(), record, self._records.default.bridge)

    def _kernel_here(self) -> Kernel:
        if self._kernel is None or self._records.default.id not in self._segments:
            raise Unavailable(f"no bridge network on this host: {self._unavailable or 'networking is not open'}")
        return self._kernel

    async def recover(self, alive: Iterable[Sandbox]) -> None:
        """Make the host agree with the records: `alive` are the sandboxes of containers that run, as recorded.

        Takes their addresses and ports again, lays the firewall anew, deletes the interfaces of no owner. A port that
        somebody else has by now is told in `warnings`; the container keeps running. Raises SystemFailure.
        """
        living = list(alive)
        for sandbox in living:
            self._readopt(sandbox)
        if self._unavailable:
            return
        failpoint("networks.recover.ports-taken")
        kernel = self._kernel_here()
        ours = {segment.bridge.name for segment in self._segments.values()}
        others = [name for name in await self._run(kernel.bridges) if name not in ours]
        found = self._records.forwarding(self._host.boot_id, await self._run(kernel.forwards), others)
        self._guard = Guard(tuple(name for name in found.bridges if name not in ours)) if found else None
        failpoint("networks.recover.forwarding-recorded")
        try:
            for segment in self._segments.values():
                await self._lay(segment)
                await self._sweep(segment)
            for sandbox in living:
                await self._mend_way(sandbox)
        except (OSError, NftablesError) as error:
            raise SystemFailure(f"the bridge network could not be set up: {error}") from error
        self._changes = Changes()
        asyncio.get_running_loop().add_reader(self._changes.socket, self._firewall_changed, self._changes)

    async def _sweep(self, segment: Segment) -> None:
        orphans = await self._run(segment.bridge.sweep, {place.interface for place in segment.places.values()})
        if orphans:
            log.info("deleted interfaces of no container: %s", " ".join(orphans))

    async def _mend_way(self, sandbox: Sandbox) -> None:
        """A container whose way out went with an interface that was just swept gets it back."""
        leading = self._leading(sandbox)
        if leading is None or not sandbox.netns:
            return
        segment, endpoint = leading
        way = Way(endpoint.index or FIRST_INDEX, IPv4Address(segment.record.gateway))
        with contextlib.suppress(OSError):  # it has just ended, or runs a network of its own
            await self._run(self._kernel_here().mend, sandbox.netns, way)

    def _readopt(self, sandbox: Sandbox) -> None:
        self._active.add(sandbox.id)
        for endpoint in sandbox.endpoints.values():
            segment = self._segments.get(endpoint.network_id)
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

    async def close(self, remove: bool = False) -> None:
        """Let go. With `remove`, also take bridges, firewall tables and accepts off the host (see `clean_host`)."""
        loop = asyncio.get_running_loop()
        if self._changes:
            loop.remove_reader(self._changes.socket)
            self._changes.close()
            self._changes = None
        if self._look:
            self._look.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._ports.close()
        if self._kernel:
            kernel, self._kernel = self._kernel, None
            if remove and self._segments:
                await self._run(remove_all, kernel, self._records.default.bridge)
            await self._run(kernel.close)
        self._worker.shutdown(wait=False)
        if self._lock:
            self._lock.close()
        if self._home >= 0:
            os.close(self._home)
            self._home = -1

    # --- networks ---

    async def create(self, asked: CreateRequest) -> Network:
        """Make a network. Raises in Docker's words: InvalidParameter, Forbidden, NotFound, Conflict; NotSupported."""
        async with self._changing:
            planned = network_requests.plan(asked, new_id(), time.time_ns())
            if planned.name in self._records:
                raise Conflict(f"network with name {planned.name} already exists")
            kernel = self._kernel_here()
            network = network_requests.place(
                planned,
                [segment.record for segment in self._segments.values()],
                await self._run(kernel.networks_in_use),
            )
            await self._check_free(kernel, network.bridge)
            self._records.keep(network)
            failpoint("networks.create.recorded")
            segment = self._new_segment(network)
            try:
                await self._run(segment.bridge.set_up, network_requests.gateway(network))
                await self._lay(segment)
            except BaseException as error:
                await asyncio.shield(self._run(segment.bridge.remove))
                self._records.forget(network)
                if isinstance(error, OSError | NftablesError):
                    raise SystemFailure(f"the network {network.name} could not be made: {error}") from error
                raise
            failpoint("networks.create.made")
            network.state = ""
            self._segments[network.id] = segment
            self._records.show(network)
            failpoint("networks.create.shown")
            self._announce(network, "create")
            return network

    async def _check_free(self, kernel: Kernel, bridge: str) -> None:
        if bridge in await self._run(kernel.bridges):
            raise Conflict(f"the host has a bridge {bridge} that is none of this engine's: choose another name")
        if await self._run(kernel.exists, bridge):
            raise SystemFailure(f"existing interface {bridge} is not a bridge")

    async def remove(self, ref: str) -> None:
        """Raises NotFound, Forbidden (predefined, or in use)."""
        async with self._changing:
            network = self._records.find(ref)
            if network.predefined:
                raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
            if self._in_use(network):
                raise Forbidden(
                    f"error while removing network: network {network.name} id {network.id} has active endpoints"
                )
            await self._remove(network)

    async def _remove(self, network: Network) -> None:
        network.state = "removing"
        self._records.keep(network)
        failpoint("networks.remove.marked")
        segment = self._segments.pop(network.id, None)
        self._failed.pop(network.name, None)
        if segment:
            try:
                await self._run(segment.bridge.remove)
            except (OSError, NftablesError) as error:  # the next start tries again
                log.warning("could not remove all of the network %s: %s", network.name, error)
                return self._announce(network, "destroy")
        failpoint("networks.remove.unmade")
        self._records.forget(network)
        self._announce(network, "destroy")

    async def prune(self, filters: Filters) -> builtins.list[str]:
        """Remove the users' networks in which nothing runs; their names. Raises InvalidParameter."""
        selected = prune_selection(filters)
        pruned: list[str] = []
        async with self._changing:
            for network in self._records:
                if not network.predefined and not self._in_use(network) and selected(network):
                    await self._remove(network)
                    pruned.append(network.name)
        told = {"reclaimed": "0"}
        self._emit(Event(time_ns=time.time_ns(), type="network", action="prune", id="", attributes=told))
        return pruned

    def list(self, filters: Filters | None = None) -> builtins.list[Network]:
        """The networks that the filters leave. Raises InvalidParameter."""
        return self._records.list(filters or Filters(), self._in_use)

    def inspect(self, ref: str) -> Network:
        """By name, ID or prefix of it. Raises NotFound."""
        return self._records.find(ref)

    def _in_use(self, network: Network) -> bool:
        segment = self._segments.get(network.id)
        return bool(segment and segment.places)

    # --- containers ---

    def validate(self, host: HostConfig, config: Config, networking: NetworkingConfig | None = None) -> None:
        """Check what a container asks of networks. Raises InvalidParameter, NotFound (Docker's words), NotSupported."""
        self.new_sandbox("", config, host, networking)

    def host_gateway(self) -> str:
        """The host's address for containers of the default bridge; "" without it."""
        return self._records.default.gateway

    def new_sandbox(
        self, id: str, config: Config, host: HostConfig, networking: NetworkingConfig | None = None
    ) -> Sandbox:
        """The sandbox of a new container, nothing allocated. Raises as `validate`."""
        wanted_ports(host.port_bindings, config.exposed_ports or {}, host.publish_all_ports)
        return sandbox_for(id, config, host, networking or NetworkingConfig(), self._records.find)

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
            home = self._home
            fd = await self._uninterrupted(lambda: netns.with_loopback(home, namespace), os.close)
            activation = Activation(fd)
            self._active.add(sandbox.id)
        else:
            activation = await self._join(container, namespace)
        for name in self._names(sandbox):
            self._tell("connect", container, name)
        return activation

    async def _join(self, container: Container, namespace: int) -> Activation:
        sandbox = container.sandbox
        kernel = self._kernel_here()
        if self._changes is None:
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
        members: builtins.list[_Member],
        leading: _Member | None,
        published: builtins.list[PublishedPort],
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
            fd, complete = await self._uninterrupted(make, unmake)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise SystemFailure(
                f"failed to create endpoint {container.name} on network {network}: adding interfaces failed: {reason}"
            ) from error
        if leading and not complete:
            try:
                await self._lay(leading.segment)
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
        kernel = self._kernel_here()
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
                await self._run(kernel.attach, namespace, segment.bridge, member.plug, member.way if leads else None)
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
        kernel = self._kernel_here()
        before = self._leading(sandbox)
        endpoint = sandbox.endpoints.pop(name)
        after = self._leading(sandbox)
        ports = sandbox.ports
        if after is None:
            sandbox.ports = []
        save()
        failpoint("networks.disconnect.recorded")
        left = self._segments.get(endpoint.network_id)
        if before and before[0] is left:
            if after:
                way = Way(after[1].index or FIRST_INDEX, IPv4Address(after[0].record.gateway))
                with contextlib.suppress(OSError):
                    await self._run(kernel.turn, namespace, way)
                await self._publish_elsewhere(sandbox, left, after[0], after[1])
            else:
                self._ports.release(sandbox.id)
                await self._unpublish(left, left.publish(sandbox.id, []) if ports else ())
        if left and (place := left.places.pop(sandbox.id, None)):
            try:
                await self._run(kernel.unplug, [place.interface])
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
            await self._run(new.bridge.publish, redirected)
        except NftablesError:
            await self._lay_again(new)
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
        for segment in list(self._segments.values()):
            place = segment.places.pop(sandbox.id, None)
            if place:
                await self._leave(segment, place)

    async def _leave(self, segment: Segment, place: Place) -> None:
        await self._unpublish(segment, place.published)
        if not self._leaving:
            self._later(_LEAVE, self._finish_leaving)
        self._leaving.append((segment, place))

    async def _unpublish(self, segment: Segment, published: Sequence[Redirection]) -> None:
        try:
            await self._run(segment.bridge.unpublish, published)
        except NftablesError:
            await self._lay_again(segment)

    async def _finish_leaving(self) -> None:
        """Addresses are free once their interfaces are gone."""
        gone, self._leaving = self._leaving, []
        if self._kernel:
            with_udp = [
                place.address for _, place in gone if any(one.port.protocol == "udp" for one in place.published)
            ]
            try:
                await self._run(self._kernel.leave, [place.interface for _, place in gone], with_udp)
            except OSError as error:
                log.warning("could not clean up after containers that ended: %s", error)
        for segment, place in gone:
            segment.free(place.address)

    def _segment_of(self, endpoint: Endpoint) -> Segment:
        """By the network's ID once it was connected, by name before. Raises NotFound, Unavailable."""
        network = self._records.find(endpoint.network_id or endpoint.network)
        self._kernel_here()
        if network.id not in self._segments:
            reason = self._failed.get(network.name, "the host could not make it")
            raise Unavailable(f"the network {network.name} is not available: {reason}")
        return self._segments[network.id]

    def _leading(self, sandbox: Sandbox) -> tuple[Segment, Endpoint] | None:
        """The connected endpoint by which packets leave, and at which ports are published."""
        connected = [
            (self._segments[endpoint.network_id], endpoint)
            for endpoint in sandbox.endpoints.values()
            if endpoint.address and endpoint.network_id in self._segments
        ]
        found = gateway_endpoint((segment.record, endpoint) for segment, endpoint in connected)
        return (self._segments[found.network_id], found) if found else None

    def _hold(
        self, container: Container, endpoint_id: str, wanted: builtins.list[Wanted]
    ) -> builtins.list[PublishedPort]:
        try:
            return self._ports.hold(container.sandbox.id, wanted)
        except PortUnavailable as error:
            raise SystemFailure(
                f"driver failed programming external connectivity on endpoint {container.name} ({endpoint_id}): {error}"
            ) from error

    # --- events ---

    def _names(self, sandbox: Sandbox) -> builtins.list[str]:
        return list(sandbox.endpoints) or ([sandbox.mode] if sandbox.mode in ("host", "none") else [])

    def _tell(self, action: str, container: Container, name: str) -> None:
        if name in self._records:
            self._announce(self._records.find(name), action, container=container.id)

    def _announce(self, network: Network, action: str, **attributes: str) -> None:
        told = {**attributes, "name": network.name, "type": network.driver}
        self._emit(Event(time_ns=time.time_ns(), type="network", action=action, id=network.id, attributes=told))

    # --- the host ---

    async def _lay(self, segment: Segment) -> None:
        """A network's table as the records say, and its accepts beside others."""
        guard = self._guard if segment.record.predefined else None
        segment.problems = await self._run(segment.bridge.lay, segment.published, guard)

    async def _lay_again(self, segment: Segment) -> None:
        """Somebody flushed the ruleset; of a network that was removed meanwhile, nothing must come back."""
        if self._is_there(segment):
            with contextlib.suppress(NftablesError, OSError):
                await self._lay(segment)

    def _is_there(self, segment: Segment) -> bool:
        """It was not removed. What is given to the worker right after this comes before a removal's work."""
        return self._segments.get(segment.record.id) is segment

    def _firewall_changed(self, changes: Changes) -> None:
        """Somebody's firewall, or our own: look, but not at each of a hundred rules."""
        if changes.seen() and self._look is None:
            self._look = asyncio.get_running_loop().call_later(_SETTLE, self._look_around)

    def _look_around(self) -> None:
        self._look = None
        self._later(0, self._repair)

    async def _repair(self) -> None:
        """Another engine made its chains, or somebody reloaded a firewall and took our rules with it."""
        if self._kernel is None:
            return
        try:
            tables = await self._run(self._kernel.tables)
            for segment in list(self._segments.values()):
                if not self._is_there(segment):
                    continue
                if segment.bridge.table in tables:
                    segment.problems = await self._run(segment.bridge.stand_beside_others)
                else:
                    log.warning("the firewall table of %s was removed; laying it again", segment.bridge.name)
                    await self._lay(segment)
        except (OSError, NftablesError) as error:
            log.warning("could not repair the firewall: %s", error)

    # --- threads ---

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)

    async def _uninterrupted(self, work: Callable[[], T], undo: Callable[[T], None]) -> T:
        """Like `_run`; if this task is cancelled, the work is awaited all the same and then undone."""
        future = asyncio.get_running_loop().run_in_executor(self._worker, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):  # what failed by itself left nothing
                result = await future
                await self._run(undo, result)
            raise

    def _later(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            await work()

        task = asyncio.get_running_loop().create_task(wait())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _leading(members: Iterable[_Member]) -> _Member | None:
    by_endpoint = {id(member.endpoint): member for member in members}
    found = gateway_endpoint((member.segment.record, member.endpoint) for member in by_endpoint.values())
    return by_endpoint[id(found)] if found else None


def _options(bridge: str) -> dict[str, str]:
    """As the real engine describes its default bridge; keys in its order."""
    prefix = "com.docker.network.bridge"
    return {
        f"{prefix}.default_bridge": "true",
        f"{prefix}.enable_icc": "true",
        f"{prefix}.enable_ip_masquerade": "true",
        f"{prefix}.host_binding_ipv4": "0.0.0.0",
        f"{prefix}.name": bridge,
        "com.docker.network.driver.mtu": str(MTU),
    }


def _interface(sandbox: Sandbox) -> str:
    """A name for the host's end of a veth: that of the last run may be there for another moment."""
    return f"{VETH_PREFIX}{sandbox.id[:7]}{secrets.token_hex(3)}"
