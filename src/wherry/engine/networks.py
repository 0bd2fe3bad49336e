"""Networks: the default bridge, `none` and `host`, and every container's place in them.

What a container has is in its record (`Container.sandbox`); what the host has is made to agree with the records in
`recover`. The database keeps only the identity of the networks themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface
from typing import TypeVar

import msgspec

from wherry.engine.bridge import VETH_PREFIX, Bridge, Plug
from wherry.engine.host_ports import HostPorts, PortUnavailable
from wherry.errors import Forbidden, SystemFailure, Unavailable
from wherry.linux import netns, sysctl
from wherry.linux.nftables import Changes, NftablesError
from wherry.model import ipam
from wherry.model.config import Config, HostConfig, NetworkingConfig
from wherry.model.container import Container, Endpoint, PublishedPort, Sandbox
from wherry.model.events import Event
from wherry.model.failpoints import failpoint
from wherry.model.filters import Filters
from wherry.model.firewall import Guard, Redirection, redirections
from wherry.model.host import Host
from wherry.model.networks import Forwarding, Network, Networked, parse_mac, sandbox_for
from wherry.model.ports import Wanted, wanted_ports
from wherry.storage.database import Database

log = logging.getLogger(__name__)

T = TypeVar("T")
BRIDGES = tuple(f"wherry{number}" for number in range(16))
MTU = 1500
_LEAVE = 0.05  # seconds after which an interface should have gone with its namespace
_SETTLE = 0.2  # seconds from a change of somebody's firewall to our look at it
_FILTERS = frozenset("dangling driver id label name scope type".split())


@dataclass
class Activation:
    """A sandbox's network, ready. `netns_fd` is to be closed once the runtime has joined it; None: the host's own."""

    netns_fd: int | None = None
    gateway: str = ""
    address: str = ""


@dataclass(frozen=True)
class _Place:
    """What one running sandbox has at the bridge."""

    interface: str
    address: IPv4Address
    published: tuple[Redirection, ...]


class Networks:
    """The service. Lives on one event loop; what blocks happens in one thread of its own.

    networks = Networks(database, host, emit)
    await networks.open()
    await networks.recover(sandboxes_that_live)           # always, also with none: lays the firewall
    container.sandbox = networks.new_sandbox(...)         # at create, after validate
    activation = await networks.activate(container)       # at start; fills container.sandbox, which the caller stores
    ... the runtime joins /proc/PID/fd/N ...
    os.close(activation.netns_fd)
    await networks.deactivate(container)                  # after exit; empties container.sandbox
    await networks.close()                                # leaves all in place for those that run

    A host without nftables can do without the bridge: `warnings` says so, and activating a container on it raises
    Unavailable. `bip` is the bridge's address (`--bip`), `bridge` its name; by default both are chosen once and kept.
    """

    def __init__(
        self, database: Database, host: Host, emit: Callable[[Event], None], *, bip: str = "", bridge: str = ""
    ) -> None:
        self._database = database
        self._host = host
        self._emit = emit
        self._bip = ipam.gateway_of(bip) if bip else None
        self._wanted_name = bridge
        self._networks: dict[str, Network] = {}
        self._find = Networked(self._networks)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._bridge: Bridge | None = None
        self._home = -1
        self._lock: socket.socket | None = None
        self._guard: Guard | None = None
        self._addresses = ipam.Addresses(IPv4Interface("0.0.0.0/32").network)
        self._ports = HostPorts(ipv6=host.ipv6, ephemeral=sysctl.ephemeral_ports)
        self._active: dict[str, _Place | None] = {}  # by sandbox; None where there is nothing at the bridge
        self._leaving: list[_Place] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._changes: Changes | None = None
        self._look: asyncio.TimerHandle | None = None
        self._unavailable = ""
        self._beside: list[str] = []
        self._overlap = ""
        self._lost_ports: dict[str, list[str]] = {}

    @property
    def warnings(self) -> list[str]:
        """What is wrong with this host's networking, one sentence each."""
        degraded = [f"no bridge network: {self._unavailable}"] if self._unavailable else []
        overlap = [self._overlap] if self._overlap else []
        return (
            degraded
            + overlap
            + self._beside
            + [problem for problems in self._lost_ports.values() for problem in problems]
        )

    # --- life ---

    async def open(self) -> None:
        """Read or make the records, and make or repair the bridge. Raises SystemFailure, InvalidParameter."""
        self._home = netns.current()
        self._load()
        try:
            chosen = await self._run(self._open_bridge, self._networks["bridge"])
        except (OSError, NftablesError) as error:
            self._unavailable = str(error)
            log.warning("no bridge network: %s", self._unavailable)
            return
        if chosen != self._networks["bridge"]:
            self._networks["bridge"] = chosen
            self._store(chosen)
        failpoint("networks.open.recorded")

    def _open_bridge(self, record: Network) -> Network:
        """In the worker's thread: the bridge as recorded, chosen where nothing is recorded; what to record."""
        bridge = Bridge(record.bridge)
        try:
            bridge.name = self._claim(bridge, record.bridge)
            _remove_leftovers(bridge)
            gateway = self._choose_gateway(bridge, record)
            bridge.set_up(gateway)
        except BaseException:
            bridge.close()
            raise
        self._addresses = ipam.Addresses(gateway.network, [gateway.ip])
        self._bridge = bridge
        chosen = msgspec.structs.replace(record, bridge=bridge.name, subnet=str(gateway.network))
        chosen.gateway, chosen.options = str(gateway.ip), _options(bridge.name)
        return chosen

    def _claim(self, bridge: Bridge, recorded: str) -> str:
        """The bridge's name, held against other engines on this host for as long as this process lives.

        A name that another engine left behind is free if nothing is in its bridge; it then finds another one itself.
        """
        names = [self._wanted_name] if self._wanted_name else list(dict.fromkeys((recorded or BRIDGES[0], *BRIDGES)))
        for name in names:
            if (lock := _lock(name)) is None:
                continue
            if name in (recorded, self._wanted_name) or bridge.is_free(name):
                self._lock = lock
                return name
            lock.close()
        raise SystemFailure(f"all bridges that this engine may have are in use by others: {' '.join(names)}")

    def _choose_gateway(self, bridge: Bridge, record: Network) -> IPv4Interface:
        in_use = bridge.networks_in_use()
        if self._bip:
            for network in in_use:
                if network.prefixlen and network.overlaps(self._bip.network):
                    self._overlap = f"the bridge's address {self._bip} (--bip) overlaps the host's route to {network}"
            return self._bip
        if record.gateway:
            kept = IPv4Interface(f"{record.gateway}/{record.subnet.partition('/')[2]}")
            clash = any(network.prefixlen and network.overlaps(kept.network) for network in in_use)
            if bridge.exists() or not clash:
                return kept
        return ipam.choose_gateway(in_use)

    async def recover(self, alive: Iterable[Sandbox]) -> None:
        """Make the host agree with the records: `alive` are the sandboxes of containers that run, as recorded.

        Takes their addresses and ports again, lays the firewall anew in one transaction, deletes the interfaces of no
        owner. A port that somebody else has by now is told in `warnings`; the container keeps running.
        Raises SystemFailure.
        """
        for sandbox in alive:
            self._readopt(sandbox)
        if self._bridge is None:
            return
        failpoint("networks.recover.ports-taken")
        self._guard = self._forwarding(await self._run(self._bridge.forwards), await self._run(self._other_bridges))
        try:
            await self._lay()
            interfaces = {place.interface for place in self._active.values() if place}
            orphans = await self._run(self._bridge.sweep, interfaces)
        except (OSError, NftablesError) as error:
            raise SystemFailure(f"the bridge network could not be set up: {error}") from error
        if orphans:
            log.info("deleted interfaces of no container: %s", " ".join(orphans))
        self._changes = Changes()
        asyncio.get_running_loop().add_reader(self._changes.socket, self._firewall_changed, self._changes)

    async def close(self, remove: bool = False) -> None:
        """Let go. With `remove`, also take bridge, firewall table and accepts off the host (see `clean_host`)."""
        loop = asyncio.get_running_loop()
        if self._changes:
            loop.remove_reader(self._changes.socket)
            self._changes.close()
            self._changes = None
        if self._look:
            self._look.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._ports.close()
        if self._bridge:
            bridge, self._bridge = self._bridge, None
            if remove:
                await self._run(bridge.remove)
            await self._run(bridge.close)
        self._worker.shutdown(wait=False)
        if self._lock:
            self._lock.close()
        if self._home >= 0:
            os.close(self._home)
            self._home = -1

    # --- containers ---

    def validate(self, host: HostConfig, config: Config, networking: NetworkingConfig | None = None) -> None:
        """Check what a container asks of networks. Raises InvalidParameter, NotFound (Docker's words), NotSupported."""
        self.new_sandbox("", config, host, networking)

    def host_gateway(self) -> str:
        """The host's address for containers of the default bridge; "" without it."""
        return self._networks["bridge"].gateway

    def new_sandbox(
        self, id: str, config: Config, host: HostConfig, networking: NetworkingConfig | None = None
    ) -> Sandbox:
        """The sandbox of a new container, nothing allocated. Raises as `validate`."""
        _wanted(config, host)
        return sandbox_for(id, config, host, networking or NetworkingConfig(), self._find)

    async def activate(self, container: Container) -> Activation:
        """Give the container its network and write what it got into `container.sandbox`, for the caller to store.

        Raises Unavailable (no bridge here) and SystemFailure in Docker's words (a port is taken, no address is left);
        then nothing is left behind. The modes `container:ID` are the caller's.
        """
        sandbox = container.sandbox
        network = self._find(sandbox.mode)
        if network.driver == "bridge":
            activation = await self._join_bridge(container)
        else:
            activation = Activation()
            if network.driver == "null":
                home = self._home
                activation.netns_fd = await self._uninterrupted(lambda: netns.with_loopback(home), os.close)
            self._active[sandbox.id] = None
            for endpoint in sandbox.endpoints.values():
                endpoint.network_id, endpoint.endpoint_id = network.id, secrets.token_hex(32)
        self._tell("connect", container)
        return activation

    async def deactivate(self, container: Container) -> None:
        """Take back what the container had, and empty `container.sandbox` of it. Idempotent; raises nothing.

        The interface goes with its namespace, or shortly after if something else holds that; only then is the address
        free again.
        """
        sandbox = container.sandbox
        known = sandbox.id in self._active
        place = self._active.pop(sandbox.id, None)
        self._lost_ports.pop(sandbox.id, None)
        if known or any(endpoint.endpoint_id for endpoint in sandbox.endpoints.values()):
            self._tell("disconnect", container)
        sandbox.ports = []
        sandbox.endpoints = {
            name: Endpoint(network_id=endpoint.network_id, network=name, requested=endpoint.requested)
            for name, endpoint in sandbox.endpoints.items()
        }
        self._ports.release(sandbox.id)
        if place:
            await self._leave_bridge(place)

    async def _join_bridge(self, container: Container) -> Activation:
        bridge = self._bridge
        if bridge is None or self._changes is None:
            raise Unavailable(f"no bridge network on this host: {self._unavailable or 'networking is not open'}")
        sandbox = container.sandbox
        endpoint = next(iter(sandbox.endpoints.values()))
        endpoint.network_id = self._networks["bridge"].id
        wanted = _wanted(container.config, container.host)
        endpoint_id = secrets.token_hex(32)
        with contextlib.ExitStack() as undo:
            address = self._allocate()
            undo.callback(self._free, address)
            published = self._hold(container.name, endpoint_id, sandbox.id, wanted)
            undo.callback(self._ports.release, sandbox.id)
            failpoint("networks.activate.ports-held")
            redirected = tuple(redirections(published, str(address)))
            mac = _mac(container, endpoint, address)
            whole = IPv4Interface((address, self._addresses.subnet.prefixlen))
            plug = Plug(_interface(sandbox), whole, mac, redirected)
            # known from here on: whoever lays the table meanwhile lays these ports too
            self._active[sandbox.id] = _Place(plug.interface, address, redirected)
            undo.callback(self._active.pop, sandbox.id, None)
            try:
                fd = await self._plug(bridge, container.name, plug)
            except NftablesError:  # somebody flushed the ruleset: once more, under another name while the first goes
                plug = replace(plug, interface=_interface(sandbox))
                self._active[sandbox.id] = _Place(plug.interface, address, redirected)
                fd = await self._plug_anew(bridge, container.name, plug)
            undo.pop_all()
        self._ports.serve(sandbox.id, str(address))
        endpoint.endpoint_id, endpoint.interface = endpoint_id, plug.interface
        endpoint.gateway = self._networks["bridge"].gateway
        endpoint.address, endpoint.prefix_length = str(address), whole.network.prefixlen
        endpoint.mac_address = mac
        sandbox.ports = published
        failpoint("networks.activate.done")
        return Activation(fd, endpoint.gateway, endpoint.address)

    async def _plug(self, bridge: Bridge, name: str, plug: Plug) -> int:
        """Raises SystemFailure, or NftablesError where the table is not as it should be."""

        def unplug(fd: int) -> None:
            os.close(fd)
            bridge.unpublish(plug.published)

        try:
            return await self._uninterrupted(lambda: bridge.plug(plug), unplug)
        except OSError as error:
            reason = error.strerror or str(error)
            raise SystemFailure(
                f"failed to create endpoint {name} on network bridge: adding interface {plug.interface} to bridge "
                f"{bridge.name} failed: {reason.lower()}"
            ) from error

    async def _plug_anew(self, bridge: Bridge, name: str, plug: Plug) -> int:
        """On a fresh table. Raises SystemFailure."""
        try:
            await self._lay()
            return await self._plug(bridge, name, plug)
        except NftablesError as error:
            raise SystemFailure(f"failed to create endpoint {name} on network bridge: {error}") from error

    async def _leave_bridge(self, place: _Place) -> None:
        if self._bridge is None:
            return
        bridge = self._bridge
        try:
            await self._run(bridge.unpublish, place.published)
        except NftablesError:
            with contextlib.suppress(NftablesError, OSError):
                await self._lay()  # somebody flushed the ruleset
        if not self._leaving:
            self._later(_LEAVE, self._finish_leaving)
        self._leaving.append(place)

    async def _finish_leaving(self) -> None:
        """Addresses are free once their interfaces are gone."""
        places, self._leaving = self._leaving, []
        if self._bridge:
            with_udp = [place.address for place in places if any(one.port.protocol == "udp" for one in place.published)]
            try:
                await self._run(self._bridge.leave, [place.interface for place in places], with_udp)
            except OSError as error:
                log.warning("could not clean up after containers that ended: %s", error)
        for place in places:
            self._free(place.address)

    def _readopt(self, sandbox: Sandbox) -> None:
        self._active[sandbox.id] = None
        for endpoint in sandbox.endpoints.values():
            if not endpoint.address or self._bridge is None:
                continue
            address = IPv4Address(endpoint.address)
            if not self._addresses.take(address):
                log.warning("sandbox %s has the address %s, which is not free", sandbox.id[:12], address)
            published = tuple(redirections(sandbox.ports, endpoint.address))
            self._active[sandbox.id] = _Place(endpoint.interface, address, published)
            problems = self._ports.retake(sandbox.id, sandbox.ports)
            lost = [f"container {sandbox.id[:12]}: {problem}" for problem in problems]
            for problem in lost:
                log.warning("%s", problem)
            if lost:
                self._lost_ports[sandbox.id] = lost
            self._ports.serve(sandbox.id, endpoint.address)

    def _allocate(self) -> IPv4Address:
        try:
            return self._addresses.allocate(time.monotonic())
        except ipam.Exhausted:
            record = self._networks["bridge"]
            message = f"no available IPv4 addresses on this network's address pools: bridge ({record.id})"
            raise SystemFailure(message) from None

    def _free(self, address: IPv4Address) -> None:
        self._addresses.free(address, time.monotonic())

    def _hold(self, name: str, endpoint_id: str, owner: str, wanted: list[Wanted]) -> list[PublishedPort]:
        try:
            return self._ports.hold(owner, wanted)
        except PortUnavailable as error:
            raise SystemFailure(
                f"driver failed programming external connectivity on endpoint {name} ({endpoint_id}): {error}"
            ) from error

    def _tell(self, action: str, container: Container) -> None:
        names = list(container.sandbox.endpoints) or [container.sandbox.mode]
        for name in names:
            if network := self._networks.get(name):
                attributes = {"container": container.id, "name": name, "type": network.driver}
                self._emit(
                    Event(time_ns=time.time_ns(), type="network", action=action, id=network.id, attributes=attributes)
                )

    # --- the host ---

    async def _lay(self) -> None:
        """Our table as the records say, and our accepts beside others."""
        assert self._bridge
        published = [entry for place in self._active.values() if place for entry in place.published]
        self._beside = await self._run(self._bridge.lay, published, self._guard)

    def _firewall_changed(self, changes: Changes) -> None:
        """Somebody's firewall, or our own: look, but not at each of a hundred rules."""
        if changes.seen() and self._look is None:
            self._look = asyncio.get_running_loop().call_later(_SETTLE, self._look_around)

    def _look_around(self) -> None:
        self._look = None
        self._later(0, self._repair)

    async def _repair(self) -> None:
        """Another engine made its chains, or somebody reloaded a firewall and took our rules with it."""
        if self._bridge is None:
            return
        try:
            if await self._run(self._bridge.intact):
                self._beside = await self._run(self._bridge.stand_beside_others)
            else:
                log.warning("the firewall table of %s was removed; laying it again", self._bridge.name)
                await self._lay()
        except (OSError, NftablesError) as error:
            log.warning("could not repair the firewall: %s", error)

    def _other_bridges(self) -> list[str]:
        assert self._bridge
        return self._bridge.other_bridges()

    def _forwarding(self, on: bool, bridges: list[str]) -> Guard | None:
        """What to guard if forwarding is on because of us, in this boot. Recorded before it is turned on."""
        connection = self._database.connection
        found = connection.execute("SELECT record FROM forwarding WHERE boot_id = ?", (self._host.boot_id,)).fetchone()
        if found:
            record = msgspec.json.decode(found[0], type=Forwarding)
        elif on:
            return None
        else:
            record = Forwarding(boot_id=self._host.boot_id, bridges=bridges)
            with self._database.transaction() as writing:
                writing.execute("DELETE FROM forwarding")
                writing.execute(
                    "INSERT INTO forwarding (boot_id, record) VALUES (?, ?)",
                    (record.boot_id, msgspec.json.encode(record)),
                )
        failpoint("networks.recover.forwarding-recorded")
        return Guard(tuple(record.bridges))

    # --- the records ---

    def _load(self) -> None:
        rows = self._database.connection.execute("SELECT record FROM networks").fetchall()
        for (record,) in rows:
            network = msgspec.json.decode(record, type=Network)
            self._networks[network.name] = network
        for name, driver in (("bridge", "bridge"), ("host", "host"), ("none", "null")):
            if name not in self._networks:
                network = Network(id=secrets.token_hex(32), name=name, driver=driver, created_at=time.time_ns())
                self._networks[name] = network
                self._store(network)

    def _store(self, network: Network) -> None:
        with self._database.transaction() as writing:
            writing.execute(
                "INSERT INTO networks (id, name, record) VALUES (?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET name = excluded.name, record = excluded.record",
                (network.id, network.name, msgspec.json.encode(network)),
            )

    def list(self, filters: Filters | None = None) -> list[Network]:
        """The networks that the filters leave. Raises InvalidParameter."""
        filters = filters or Filters()
        filters.validate(_FILTERS)
        dangling = filters.boolean("dangling", False)
        for kind in filters.get("type"):
            if kind not in ("builtin", "custom"):
                raise SystemFailure(f"invalid filter: 'type'='{kind}'")
        return [
            network
            for network in self._networks.values()
            if filters.pattern("name", network.name)
            and filters.pattern("id", network.id)
            and filters.exact("driver", network.driver)
            and filters.exact("scope", network.scope)
            and filters.labels("label", network.labels)
            and not dangling
            and ("type" not in filters or "builtin" in filters.get("type"))
        ]

    def inspect(self, ref: str) -> Network:
        """By name, ID or prefix of it. Raises NotFound."""
        return self._find(ref)

    def refuse_removal(self, ref: str) -> None:
        """All networks are predefined so far. Raises NotFound or Forbidden."""
        name = self._find(ref).name
        raise Forbidden(f"{name} is a pre-defined network and cannot be removed")

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


def _lock(bridge: str) -> socket.socket | None:
    """Hold a bridge's name against other engines on this host; None if another one has it.

    An abstract socket: it belongs to the network namespace, as the bridge does, and goes with the process (unix(7)).
    """
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        lock.bind(f"\0wherry/bridge/{bridge}")
    except OSError as error:
        lock.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return lock


def _remove_leftovers(bridge: Bridge) -> None:
    """Bridges of engines that do not run and left no container in them: their routes would be in the way.

    Such an engine makes its bridge again when it starts.
    """
    for name in bridge.existing(BRIDGES):
        lock = _lock(name) if name != bridge.name else None
        if lock:
            with lock:
                if bridge.is_free(name):
                    _remove(name, besides=[bridge.name])


def clean_host(bridges: Iterable[str] = BRIDGES) -> list[str]:
    """Take what engines that do not run left on the host: bridges, firewall tables, accepts in other firewalls.

    For uninstalling, after the containers have been stopped. Forwarding goes off again if it was on because of an
    engine and no other bridge is there. Blocking; gives the names of what it removed; raises OSError, NftablesError.
    """
    removed = []
    for name in bridges:
        lock = _lock(name)
        if lock:
            with lock:
                if _remove(name):
                    removed.append(name)
    return removed


def _remove(name: str, besides: Collection[str] = ()) -> bool:
    """Whether there was a bridge of this name."""
    host = Bridge(name)
    try:
        there = bool(host.existing([name]))
        host.remove(besides=besides)
    finally:
        host.close()
    return there


def _wanted(config: Config, host: HostConfig) -> list[Wanted]:
    return wanted_ports(host.port_bindings, config.exposed_ports or {}, host.publish_all_ports)


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


def _mac(container: Container, endpoint: Endpoint, address: IPv4Address) -> str:
    given = endpoint.requested.mac_address or container.config.mac_address
    return parse_mac(given) if given else ipam.mac_of(address)
