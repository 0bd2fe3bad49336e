"""The networks' routes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from msgspec import Struct

from wherry.api.app import Call, Route
from wherry.api.server import Answer
from wherry.engine.networks import Networks
from wherry.errors import InvalidParameter, NotFound
from wherry.model.config import EndpointConfig
from wherry.model.container import Container
from wherry.model.filters import Filters
from wherry.model.network_requests import CreateRequest
from wherry.model.networks import Network
from wherry.model.timestamps import rfc3339_nano

_TRUE = frozenset("1 t T TRUE true True".split())
_FALSE = frozenset(["", *"0 f F FALSE false False".split()])


class ConnectRequest(Struct, rename="pascal"):
    """The body of POST /networks/{id}/connect and disconnect."""

    container: str = ""
    endpoint_config: EndpointConfig | None = None
    force: bool = False


class Connections(Protocol):
    async def connect(self, network: str, container: str, requested: EndpointConfig, /) -> None: ...
    async def disconnect(self, network: str, container: str, /) -> None: ...


def routes(networks: Networks, containers: Callable[[], Iterable[Container]], connections: Connections) -> list[Route]:
    """The routes over these services; `containers` are all there are."""

    async def list_all(call: Call) -> Answer:
        return call.json(
            [describe(network, ()) for network in networks.list(Filters.decode(call.query.text("filters")))]
        )

    async def inspect(call: Call) -> Answer:
        ref, scope = call.path["network"], call.query.text("scope")
        if not ref:
            return await list_all(call)
        verbose = call.query.text("verbose")
        if verbose not in _TRUE | _FALSE:
            raise InvalidParameter(
                f'invalid value for verbose: {verbose}: strconv.ParseBool: parsing "{verbose}": invalid syntax'
            )
        network = networks.inspect(ref)
        if scope not in ("", network.scope):
            raise NotFound(f"network {ref} not found")
        return call.json(describe(network, containers()))

    async def create(call: Call) -> Answer:
        network = await networks.create(await call.body(CreateRequest))
        return call.json({"Id": network.id, "Warning": ""}, status=201)

    async def remove(call: Call) -> Answer:
        await networks.remove(call.path["network"])
        return call.empty()

    async def prune(call: Call) -> Answer:
        names = await networks.prune(Filters.decode(call.query.text("filters")))
        return call.json({"NetworksDeleted": names or None})

    async def connect(call: Call) -> Answer:
        asked = await call.body(ConnectRequest)
        await connections.connect(call.path["network"], asked.container, asked.endpoint_config or EndpointConfig())
        return call.empty(200)

    async def disconnect(call: Call) -> Answer:
        asked = await call.body(ConnectRequest)
        await connections.disconnect(call.path["network"], asked.container)
        return call.empty(200)

    return [
        Route("GET", "/networks", list_all),
        Route("POST", "/networks/create", create),
        Route("POST", "/networks/prune", prune),
        Route("GET", "/networks/{network:.*}", inspect),
        Route("DELETE", "/networks/{network:.*}", remove),
        Route("POST", "/networks/{network:.*}/connect", connect),
        Route("POST", "/networks/{network:.*}/disconnect", disconnect),
    ]


def describe(network: Network, containers: Iterable[Container]) -> dict[str, Any]:
    """Docker's Network, keys in its order; `containers` are those among which to look for members."""
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": rfc3339_nano(network.created_at),
        "Scope": network.scope,
        "Driver": network.driver,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": network.ipam_options, "Config": _addressing(network)},
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            container.id: _member(container, network)
            for container in containers
            if container.state.status.alive and _is_member(container, network)
        },
        "Options": network.options,
        "Labels": network.labels,
    }


def _addressing(network: Network) -> list[dict[str, Any]] | None:
    if not network.subnet:
        return None
    config: dict[str, Any] = {"Subnet": network.subnet}
    if network.ip_range:
        config["IPRange"] = network.ip_range
    if network.gateway_shown:
        config["Gateway"] = network.gateway
    if network.auxiliary:
        config["AuxiliaryAddresses"] = network.auxiliary
    return [config]


def _is_member(container: Container, network: Network) -> bool:
    return network.name in container.sandbox.endpoints or container.sandbox.mode == network.name


def _member(container: Container, network: Network) -> dict[str, str]:
    endpoint = container.sandbox.endpoints.get(network.name)
    return {
        "Name": container.name,
        "EndpointID": (endpoint.endpoint_id if endpoint else "") or container.sandbox.id,
        "MacAddress": endpoint.mac_address if endpoint else "",
        "IPv4Address": f"{endpoint.address}/{endpoint.prefix_length}" if endpoint and endpoint.address else "",
        "IPv6Address": "",
    }
