"""The networks themselves, from the records in the database to the bridges of this host."""

from __future__ import annotations

import asyncio
import builtins
import time
from collections.abc import Iterable

from wherry.engine.networks.announce import Emit, announcer
from wherry.engine.networks.attachments import Attachments
from wherry.engine.networks.fabric import Fabric
from wherry.engine.networks.records import Records, prune_selection
from wherry.errors import Conflict, Forbidden
from wherry.model import ipam, network_requests
from wherry.model.config import Config, HostConfig, NetworkingConfig
from wherry.model.container import Sandbox
from wherry.model.events import Event
from wherry.model.failpoints import failpoint
from wherry.model.filters import Filters
from wherry.model.firewall import Guard
from wherry.model.host import Host
from wherry.model.ids import new_id
from wherry.model.network_requests import CreateRequest
from wherry.model.networks import Network, sandbox_for
from wherry.model.ports import wanted_ports
from wherry.storage.database import Database


class Networks:
    """The service. Lives on one event loop.

    networks = Networks(database, host, emit)
    await networks.open()
    await networks.recover(sandboxes_that_live)           # always, also with none: lays the firewall
    container.sandbox = networks.new_sandbox(...)         # at create, after validate
    ... networks.attachments: from here on
    await networks.close()                                # leaves all in place for those that run

    A host without nftables can do without the bridges: `warnings` says so, and a container that wants one raises
    Unavailable. `bip` is the default bridge's address (`--bip`), `bridge` its name; by default both are chosen once and
    kept.
    """

    def __init__(self, database: Database, host: Host, emit: Emit, *, bip: str = "", bridge: str = "") -> None:
        self._host = host
        self._emit = emit
        self._announce = announcer(emit)
        self._bip = ipam.gateway_of(bip) if bip else None
        self._bridge = bridge
        self._records = Records(database)
        self._fabric = Fabric()
        self.attachments = Attachments(self._fabric, self._records, self._announce, ipv6=host.ipv6)
        self._changing = asyncio.Lock()  # held by who makes or removes a network

    @property
    def warnings(self) -> builtins.list[str]:
        """What is wrong with this host's networking, one sentence each."""
        return [*self._fabric.warnings, *self.attachments.warnings]

    # --- life ---

    async def open(self) -> None:
        """Read or make the records, and make or repair the bridges. Raises SystemFailure, InvalidParameter."""
        hidden = self._records.load()
        default = await self._fabric.open(self._records.default, bip=self._bip, bridge=self._bridge)
        if default is None:
            return
        if default != self._records.default:
            self._records.show(default)
        failpoint("networks.open.recorded")
        for record in hidden:  # they were being made or removed
            if await self._fabric.clear(record):
                self._records.forget(record)
        for record in self._records:
            if record.driver == "bridge" and not record.predefined:
                await self._fabric.reopen(record)

    async def recover(self, alive: Iterable[Sandbox]) -> None:
        """Make the host agree with the records: `alive` are the sandboxes of containers that run, as recorded.

        Takes their addresses and ports again, lays the firewall anew, deletes the interfaces of no owner. A port that
        somebody else has by now is told in `warnings`; the container keeps running. Raises SystemFailure.
        """
        living = list(alive)
        for sandbox in living:
            self.attachments.readopt(sandbox)
        if not self._fabric.segments:
            return
        failpoint("networks.recover.ports-taken")
        guard = await self._choose_guard()
        failpoint("networks.recover.forwarding-recorded")
        await self._fabric.secure(guard)
        for sandbox in living:
            await self.attachments.mend_way(sandbox)

    async def _choose_guard(self) -> Guard | None:
        """Where forwarding is on because of us, the bridges of others that must not gain by it."""
        kernel = self._fabric.kernel()
        ours = {segment.bridge.name for segment in self._fabric.segments.values()}
        others = [name for name in await self._fabric.run(kernel.bridges) if name not in ours]
        found = self._records.forwarding(self._host.boot_id, await self._fabric.run(kernel.forwards), others)
        return Guard(tuple(name for name in found.bridges if name not in ours)) if found else None

    async def close(self, remove: bool = False) -> None:
        """Let go. With `remove`, also take bridges, firewall tables and accepts off the host (see `clean_host`)."""
        await self._fabric.close(remove)
        self.attachments.close()

    # --- networks ---

    async def create(self, asked: CreateRequest) -> Network:
        """Make a network. Raises in Docker's words: InvalidParameter, Forbidden, NotFound, Conflict; NotSupported."""
        async with self._changing:
            planned = network_requests.plan(asked, new_id(), time.time_ns())
            if planned.name in self._records:
                raise Conflict(f"network with name {planned.name} already exists")
            network = network_requests.place(
                planned,
                [segment.record for segment in self._fabric.segments.values()],
                await self._fabric.run(self._fabric.kernel().networks_in_use),
            )
            await self._fabric.check_free(network.bridge)
            self._records.keep(network)
            failpoint("networks.create.recorded")
            try:
                segment = await self._fabric.make(network)
            except BaseException:
                if await asyncio.shield(self._fabric.clear(network)):  # otherwise the next start tries again
                    self._records.forget(network)
                raise
            failpoint("networks.create.made")
            network.state = ""
            self._fabric.segments[network.id] = segment
            self._records.show(network)
            failpoint("networks.create.shown")
            self._announce(network, "create")
            return network

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
        if await self._fabric.unmake(network):  # otherwise the next start tries again
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
        segment = self._fabric.segments.get(network.id)
        return bool(segment and segment.places)

    # --- what containers ask for ---

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
