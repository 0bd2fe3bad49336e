"""The networks' routes: reading them. All are predefined so far, and what would change them says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from wherry.api.app import Call, Route
from wherry.engine.networks import Networks
from wherry.errors import Conflict, Forbidden, InvalidParameter, NotFound, NotSupported, SystemFailure
from wherry.model.container import Container
from wherry.model.filters import Filters
from wherry.model.networks import PREDEFINED, Network
from wherry.model.timestamps import rfc3339_nano

_TRUE = frozenset("1 t T TRUE true True".split())
_FALSE = frozenset(["", *"0 f F FALSE false False".split()])
_NOT_YET = "is not supported by this version of Wherry"


def routes(
    networks: Networks, containers: Callable[[], Iterable[Container]], get: Callable[[str], Container]
) -> list[Route]:
    """The routes over this service; `containers` are all there are, `get` finds one or raises NotFound."""

    async def list_all(call: Call) -> web.StreamResponse:
        return call.json(
            [describe(network, ()) for network in networks.list(Filters.decode(call.query.text("filters")))]
        )

    async def inspect(call: Call) -> web.StreamResponse:
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

    async def create(call: Call) -> web.StreamResponse:
        body = await call.body(dict[str, Any])
        name = str(next((value for key, value in body.items() if key.lower() == "name"), ""))
        if not name.strip():
            raise InvalidParameter(f"invalid name: {name}")
        if name in PREDEFINED:
            raise Forbidden(f"operation is not permitted on predefined {name} network ")
        raise NotSupported(f"creating networks {_NOT_YET}")

    async def remove(call: Call) -> web.StreamResponse:
        networks.refuse_removal(call.path["network"])
        return call.empty()

    async def prune(call: Call) -> web.StreamResponse:
        """Predefined networks are never pruned, and there are no others."""
        filters = Filters.decode(call.query.text("filters"))
        filters.validate(frozenset(("label", "label!", "until")))
        return call.json({"NetworksDeleted": None})

    async def connect(call: Call) -> web.StreamResponse:
        network, container = await both(call)
        if network.name in container.sandbox.endpoints and container.state.status.alive:
            raise Forbidden(f"endpoint with name {container.name} already exists in network {network.name}")
        if "host" in (network.name, container.sandbox.mode):
            raise InvalidParameter("container cannot be disconnected from host network or connected to host network")
        if "none" in (network.name, container.sandbox.mode):
            raise InvalidParameter(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode"
            )
        if container.sandbox.mode.startswith("container:"):
            raise Conflict(
                "container sharing network namespace with another container or host cannot be connected to any other "
                "network"
            )
        raise NotSupported(f"connecting a container to another network {_NOT_YET}")

    async def disconnect(call: Call) -> web.StreamResponse:
        network, container = await both(call)
        if network.name != container.sandbox.mode:
            raise SystemFailure(f"container {container.id} is not connected to network {network.name}")
        if network.name == "host":
            raise InvalidParameter("container cannot be disconnected from host network or connected to host network")
        raise NotSupported(f"disconnecting a container from its network {_NOT_YET}")

    async def both(call: Call) -> tuple[Network, Container]:
        body = await call.body(dict[str, Any])
        name = str(next((value for key, value in body.items() if key.lower() == "container"), ""))
        return networks.inspect(call.path["network"]), get(name)

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
    config = [{"Subnet": network.subnet, "Gateway": network.gateway}] if network.subnet else None
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": rfc3339_nano(network.created_at),
        "Scope": network.scope,
        "Driver": network.driver,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": config},
        "Internal": False,
        "Attachable": False,
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
