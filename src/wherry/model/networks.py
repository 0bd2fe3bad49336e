"""A network's record, and the rules of the networks that every engine has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import TypeVar

from msgspec import Struct, field

from wherry.errors import InvalidParameter, NotFound, NotSupported
from wherry.model.config import Config, EndpointConfig, EndpointIPAM, HostConfig, NetworkingConfig
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
    ip_range: str = ""  # 172.17.128.0/17: where addresses that nobody asked for come from
    auxiliary: dict[str, str] = field(default_factory=dict)  # addresses that are given to no container, by name
    ipam_options: dict[str, str] | None = None
    internal: bool = False
    attachable: bool = False
    own_subnet: bool = False  # the user chose the subnet: then addresses can be asked for
    gateway_shown: bool = True  # it was asked for, or chosen together with the subnet
    state: str = ""  # "creating", "removing": what a crash leaves; "" is a network that is there

    @property
    def predefined(self) -> bool:
        return self.name in PREDEFINED

    @property
    def hidden(self) -> bool:
        return bool(self.state)


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
    if mode.startswith("container:"):
        return Sandbox(id=id, mode=mode)
    asked = {name: value or EndpointConfig() for name, value in (networking.endpoints_config or {}).items()}
    endpoints: dict[str, Endpoint] = {}
    for written, requested in (asked or {mode: EndpointConfig()}).items():
        network = networks.seek(_DEFAULT.get(written, written))
        name = network.name if network else written
        check_endpoint(network, requested, f"invalid config for network {name}: ")
        endpoints[name] = Endpoint(network_id="", network=name, requested=requested)
    first = networks.seek(_DEFAULT.get(mode, mode))
    mode = first.name if first else mode
    if alone := next((name for name in ("host", "none") if name == mode or name in endpoints), ""):
        if endpoints.keys() - {alone} or mode != alone:
            others = ", ".join(dict.fromkeys(name for name in (mode, *endpoints) if name != alone))
            raise InvalidParameter(f"a container in the network {alone} cannot be in others: {others}")
        return Sandbox(id=id, mode=alone)
    _check_macs(mode, config, endpoints)
    if mode in endpoints:  # its interface is eth0
        endpoints = {mode: endpoints.pop(mode), **endpoints}
    return Sandbox(id=id, mode=mode, endpoints=endpoints)


def gateway_endpoint(endpoints: Iterable[tuple[Network, Endpoint]]) -> Endpoint | None:
    """The one by which packets leave: that of the first network by name which leads out, as in Docker."""
    leading = [(network.name, endpoint) for network, endpoint in endpoints if not network.internal]
    return min(leading, key=lambda found: found[0])[1] if leading else None


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

    def seek(self, ref: str) -> Network | None:
        """As a call, but None if there is none."""
        try:
            return self(ref)
        except NotFound:
            return None


def check_endpoint(network: Network | None, asked: EndpointConfig, prefix: str = "") -> None:
    """Whether this can be asked of a network (None: of one that is not there).

    Raises InvalidParameter in Docker's words, after `prefix`, and NotSupported.
    """
    problems = list(_problems(network, asked))
    if problems:
        listed = problems[0] if len(problems) == 1 else "\n".join(f"* {problem}" for problem in problems)
        raise InvalidParameter(f"{prefix}invalid endpoint settings:\n{listed}")
    ipam = asked.ipam_config or EndpointIPAM()
    for given, what in (
        (asked.links, "links of an endpoint are"),
        (asked.driver_opts, "driver options of an endpoint are"),
        (asked.aliases, "network aliases are"),
        (ipam.link_local_ips, "link-local addresses are"),
    ):
        if given:
            raise NotSupported(f"{what} not supported by this version of Wherry")
    if asked.mac_address:
        try:
            parse_mac(asked.mac_address)
        except InvalidParameter as error:
            raise InvalidParameter(f"{prefix}{error}") from None


def _problems(network: Network | None, asked: EndpointConfig) -> Iterator[str]:
    ipam = asked.ipam_config or EndpointIPAM()
    default = network is not None and network.predefined
    if default and (ipam.ipv4_address or ipam.ipv6_address):
        yield "user specified IP address is supported on user defined networks only"
    if default and asked.aliases:
        yield "network-scoped alias is supported only for containers in user defined networks"
    if ipam.ipv4_address and _parsed(IPv4Address, ipam.ipv4_address) is None:
        yield f"invalid IPv4 address: {ipam.ipv4_address}"
    if ipam.ipv6_address and _parsed(IPv6Address, ipam.ipv6_address) is None:
        yield f"invalid IPv6 address: {ipam.ipv6_address}"
    if network is None:
        return
    unconfigured = (
        "user specified IP address is supported only when connecting to networks with user configured subnets"
    )
    if ipam.ipv4_address and not (network.own_subnet or network.name == "bridge"):
        yield unconfigured
    elif ipam.ipv4_address:
        address = _parsed(IPv4Address, ipam.ipv4_address)
        if address is None or not network.subnet or address not in IPv4Network(network.subnet):
            yield f"no configured subnet or ip-range contain the IP address {ipam.ipv4_address}"
    if ipam.ipv6_address:
        yield unconfigured


_Address = TypeVar("_Address", IPv4Address, IPv6Address)


def _parsed(kind: type[_Address], text: str) -> _Address | None:
    try:
        return kind(text)
    except ValueError:
        return None


def _check_macs(mode: str, config: Config, endpoints: Mapping[str, Endpoint]) -> None:
    if not config.mac_address:
        return
    try:
        whole = parse_mac(config.mac_address)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid config for network {mode}: {error}") from None
    own = endpoints[mode].requested.mac_address if mode in endpoints else ""
    if own and parse_mac(own) != whole:
        raise InvalidParameter(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, "
            "or be left empty"
        )
