"""A network's record, and the rules of the networks that every engine has."""

from __future__ import annotations

import re

from msgspec import Struct, field

from wherry.errors import InvalidParameter, NotFound, NotSupported
from wherry.model.config import Config, EndpointConfig, HostConfig, NetworkingConfig
from wherry.model.container import Endpoint, Sandbox

PREDEFINED = ("bridge", "host", "none")


class Network(Struct, kw_only=True):
    """What the database keeps of one network."""

    id: str
    name: str
    driver: str  # bridge, host, null
    created_at: int  # nanoseconds since the epoch
    scope: str = "local"
    subnet: str = ""  # 172.17.0.0/16
    gateway: str = ""  # 172.17.0.1
    bridge: str = ""  # the interface on the host
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


class Forwarding(Struct, kw_only=True):
    """That this engine turned the host's IP forwarding on, and what it must keep closed because of it.

    It holds for one boot: the kernel starts with forwarding off.
    """

    boot_id: str
    bridges: list[str]  # those that were there before: links of the host's, not of other engines


_MAC = re.compile(r"(?i)[0-9a-f]{2}(?::[0-9a-f]{2}){5}|[0-9a-f]{2}(?:-[0-9a-f]{2}){5}|[0-9a-f]{4}(?:\.[0-9a-f]{4}){2}")


def parse_mac(text: str) -> str:
    """A hardware address as 02:42:ac:11:00:02; also accepts dashes and Cisco's dots, as Go's net.ParseMAC does."""
    if _MAC.fullmatch(text) is None:
        raise InvalidParameter(f"invalid MAC address {text}")
    return ":".join(re.findall("..", re.sub("[:.-]", "", text.lower())))


_DEFAULT = {"default": "bridge"}  # as the docker command says it


def sandbox_for(
    id: str, config: Config, host: HostConfig, networking: NetworkingConfig, networks: Networked
) -> Sandbox:
    """The sandbox of a new container: its mode and the networks it asks for, nothing allocated yet.

    `networks` finds a network by name or ID. One that is not there is an error when the container starts, as in Docker.
    Raises InvalidParameter (Docker's words) and NotSupported.
    """
    mode = host.network_mode or "default"
    asked = {name: value or EndpointConfig() for name, value in (networking.endpoints_config or {}).items()}
    if mode.startswith("container:"):
        return Sandbox(id=id, mode=mode)
    for name in (mode, *asked):
        try:
            networks(_DEFAULT.get(name, name))
        except NotFound:
            return Sandbox(id=id, mode=name, endpoints={name: Endpoint(network_id="", network=name)})
    first = networks(_DEFAULT.get(mode, mode))
    for name in asked:
        if networks(_DEFAULT.get(name, name)).name != first.name:
            raise NotSupported("connecting a container to several networks is not supported by this version of Wherry")
    if first.name in ("host", "none"):
        return Sandbox(id=id, mode=first.name)
    requested = next(iter(asked.values()), EndpointConfig())
    _check_endpoint(first.name, config, requested)
    return Sandbox(
        id=id,
        mode=first.name,
        endpoints={first.name: Endpoint(network_id=first.id, network=first.name, requested=requested)},
    )


class Networked:
    """Finds networks by what people write: a name, an ID, or an unambiguous prefix of one (names win)."""

    def __init__(self, networks: dict[str, Network]) -> None:
        self._by_name = networks

    def __call__(self, ref: str) -> Network:
        if ref in self._by_name:
            return self._by_name[ref]
        found = [network for network in self._by_name.values() if ref and network.id.startswith(ref)]
        if len(found) > 1:
            raise InvalidParameter(f"network {ref} is ambiguous ({len(found)} matches found based on ID prefix)")
        if not found:
            raise NotFound(f"network {ref} not found")
        return found[0]


def _check_endpoint(network: str, config: Config, asked: EndpointConfig) -> None:
    problems: list[str] = []
    if asked.ipam_config and (asked.ipam_config.ipv4_address or asked.ipam_config.ipv6_address):
        problems += [
            "* user specified IP address is supported on user defined networks only",
            "* user specified IP address is supported only when connecting to networks with user configured subnets",
        ]
    elif asked.aliases:
        problems.append("network-scoped alias is supported only for containers in user defined networks")
    if problems:
        listed = "\n".join(problems)
        raise InvalidParameter(f"invalid config for network {network}: invalid endpoint settings:\n{listed}")
    if asked.links or asked.driver_opts:
        raise NotSupported("links and driver options of an endpoint are not supported by this version of Wherry")
    for mac in (config.mac_address, asked.mac_address):
        if mac:
            try:
                parse_mac(mac)
            except InvalidParameter as error:
                raise InvalidParameter(f"invalid config for network {network}: {error}") from None
    if config.mac_address and asked.mac_address and parse_mac(config.mac_address) != parse_mac(asked.mac_address):
        raise InvalidParameter(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, "
            "or be left empty"
        )
