"""Networks of containers that exist: one more or one less, at once if the container runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

from wherry.engine import etc_files
from wherry.engine.containers.index import Index
from wherry.engine.containers.layout import Layout
from wherry.engine.containers.live import Lives
from wherry.engine.containers.needs import NetworkPlane
from wherry.errors import Conflict, Forbidden, InvalidParameter, NotFound, NotSupported, SystemFailure
from wherry.linux import processes
from wherry.model.config import EndpointConfig
from wherry.model.container import Container, Endpoint
from wherry.model.failpoints import failpoint
from wherry.model.host import Host
from wherry.model.links import Linked, host_line
from wherry.model.networks import Network, check_endpoint
from wherry.model.states import Status

_NOT_WITH_HOST = "container cannot be disconnected from host network or connected to host network"


class Connector:
    """Connects containers to networks and disconnects them. Messages are Docker's."""

    def __init__(self, host: Host, index: Index, lives: Lives, networks: NetworkPlane) -> None:
        self._host = host
        self._index = index
        self._lives = lives
        self._networks = networks

    async def connect(self, network_ref: str, container_ref: str, requested: EndpointConfig) -> None:
        """Raises NotFound, InvalidParameter, Conflict, Forbidden, NotSupported, SystemFailure; nothing is done then."""
        container = self._find(container_ref)
        async with self._lives.of(container).lock:
            network = self._network(network_ref, container)
            _check_status(container)
            name = network.name if network else network_ref
            _check_modes(name, container)
            if network is not None:
                check_endpoint(network, requested)
            endpoint = Endpoint(network_id="", network=name, requested=requested, named=True)
            if not container.state.status.alive:
                container.sandbox.endpoints[name] = endpoint
                self._index.save(container)
                return
            if name in container.sandbox.endpoints:
                raise Forbidden(f"endpoint with name {container.name} already exists in network {name}")
            with self._namespace(container) as namespace:
                await self._networks.attachments.connect(
                    container, endpoint, namespace, lambda: self._index.save(container)
                )
            failpoint("networks.connect.done")
            await self.refresh_hosts(container)
            await self.tell_linked(container)

    async def disconnect(self, network_ref: str, container_ref: str) -> None:
        """Raises NotFound, InvalidParameter, NotSupported, SystemFailure."""
        container = self._find(container_ref)
        async with self._lives.of(container).lock:
            network = self._network(network_ref, container)
            name = network.name if network else network_ref
            sandbox, alive = container.sandbox, container.state.status.alive
            if name == "host" == sandbox.mode:
                raise InvalidParameter(_NOT_WITH_HOST)
            if name == "none" == sandbox.mode:
                raise NotSupported("disconnecting a container from none is not supported by this version of Wherry")
            if name not in sandbox.endpoints:
                which = "network" if alive else "the network"
                raise SystemFailure(f"container {container.id} is not connected to {which} {name}")
            if not alive:
                del sandbox.endpoints[name]
                self._index.save(container)
                return
            with self._namespace(container) as namespace:
                await self._networks.attachments.disconnect(
                    container, name, namespace, lambda: self._index.save(container)
                )
            failpoint("networks.disconnect.done")
            await self.refresh_hosts(container)

    async def refresh_hosts(self, container: Container) -> None:
        """Have a running container's /etc/hosts name the addresses it has now."""
        endpoints = container.sandbox.endpoints.values()
        layout = Layout(self._host.roots, container.id)
        await asyncio.to_thread(
            etc_files.refresh_hosts,
            etc_files.below(layout.durable).hosts,
            hostname=container.config.hostname,
            domainname=container.config.domainname,
            addresses=[endpoint.address for endpoint in endpoints if endpoint.address],
        )

    async def tell_linked(self, container: Container) -> None:
        """Have those that are linked to a container know the address it has now."""
        place = container.sandbox.endpoints.get("bridge")
        for parent in self._index.linked_to(container.id):
            if place is None or not parent.state.status.alive:
                continue
            lines = [
                host_line(Linked(f"/{parent.name}/{alias}", container.name, container.config.hostname, place.address))
                for alias, link in parent.links.items()
                if link.id == container.id
            ]
            files = etc_files.below(Layout(self._host.roots, parent.id).durable)
            await asyncio.to_thread(etc_files.rename_links, files.hosts, lines)

    def _network(self, reference: str, container: Container) -> Network | None:
        """None for one that is not there, or not yet, which matters when the container starts. Raises NotFound."""
        try:
            return self._networks.inspect(reference)
        except NotFound:
            if container.state.status.alive:
                raise
            return None

    def _find(self, reference: str) -> Container:
        if not reference:
            raise InvalidParameter('invalid name or ID supplied: ""')
        return self._index.find(reference)

    @contextmanager
    def _namespace(self, container: Container) -> Iterator[int]:
        """The network namespace of a running container, as a descriptor. Raises SystemFailure if it has just ended."""
        gone = SystemFailure(f"container {container.id} is not running")
        try:
            namespace = os.open(container.sandbox.netns, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            raise gone from None
        try:
            if not processes.alive(container.state.process, self._host.boot_id):  # the PID may be another's by now
                raise gone
            yield namespace
        finally:
            os.close(namespace)


def _check_status(container: Container) -> None:
    if container.state.status in (Status.REMOVING, Status.DEAD):
        raise Conflict(f"container {container.id} is marked for removal and cannot be connected or disconnected")


def _check_modes(network: str, container: Container) -> None:
    mode = container.sandbox.mode
    if mode.startswith("container:"):
        raise Conflict(
            "container sharing network namespace with another container or host cannot be connected to any other "
            "network"
        )
    if "host" in (network, mode):
        raise InvalidParameter(_NOT_WITH_HOST)
    if "none" in (network, mode):
        raise InvalidParameter(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )
