"""What `network create` asks for: checked as Docker checks it, in its words, and made a record. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network

import msgspec
from msgspec import Struct, field

from wherry.errors import Forbidden, InvalidParameter, NotFound, NotSupported, SystemFailure
from wherry.model import ipam
from wherry.model.networks import PREDEFINED, Network

_BRIDGE = "com.docker.network.bridge"
NAME = f"{_BRIDGE}.name"
ICC = f"{_BRIDGE}.enable_icc"
MASQUERADE = f"{_BRIDGE}.enable_ip_masquerade"
BINDING = f"{_BRIDGE}.host_binding_ipv4"
MTU = "com.docker.network.driver.mtu"
PREFIX = "com.docker.network.container_iface_prefix"
_HONOURED = (NAME, ICC, MASQUERADE, BINDING, MTU, PREFIX)
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_LONGEST = 15  # bytes of an interface's name: IFNAMSIZ of <linux/if.h> less the zero
_LATER = ("ipvlan", "macvlan", "overlay")
_NOT_YET = "not supported by this version of Wherry"


class IPAMConfig(Struct, rename="pascal"):
    subnet: str = ""
    ip_range: str = field(default="", name="IPRange")
    gateway: str = ""
    auxiliary_addresses: dict[str, str] | None = None


class IPAM(Struct, rename="pascal"):
    driver: str = ""
    options: dict[str, str] | None = None
    config: list[IPAMConfig] | None = None


class ConfigReference(Struct, rename="pascal"):
    network: str = ""


class CreateRequest(Struct, rename="pascal"):
    """The body of POST /networks/create."""

    name: str = ""
    check_duplicate: bool = False
    driver: str = ""
    scope: str = ""
    enable_ipv6: bool | None = field(default=None, name="EnableIPv6")
    ipam: IPAM | None = field(default=None, name="IPAM")
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigReference | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


def plan(asked: CreateRequest, id: str, now_ns: int) -> Network:
    """The record of the network to be, without a subnet if none was asked for.

    Raises InvalidParameter, Forbidden, NotFound (Docker's words) and NotSupported.
    """
    _check_kind(asked)
    asked_ipam = asked.ipam or IPAM()
    configs = asked_ipam.config or []
    problems = [problem for config in configs for problem in _problems(config)]
    if problems:
        raise InvalidParameter("invalid network config:\n" + "\n".join(problems))
    if asked.enable_ipv6 or any(":" in config.subnet for config in configs):
        raise NotSupported(f"IPv6 networks are {_NOT_YET}")
    if asked_ipam.driver not in ("", "default"):
        raise NotFound(f'plugin "{asked_ipam.driver}" not found')
    if asked_ipam.options:
        raise NotSupported(f"options of address management are {_NOT_YET}: {', '.join(asked_ipam.options)}")
    if len(configs) > 1:
        raise Forbidden("bridge driver doesn't support multiple subnets")
    options = asked.options or {}
    _check_options(options)
    network = Network(
        id=id,
        name=asked.name,
        driver="bridge",
        created_at=now_ns,
        bridge=options.get(NAME) or f"br-{id[:12]}",
        options=options,
        labels=asked.labels or {},
        ipam_options=asked_ipam.options,
        internal=asked.internal,
        attachable=asked.attachable,
        state="creating",
    )
    return _placed(network, configs[0]) if configs else network


def place(network: Network, others: Iterable[Network], in_use: Iterable[IPv4Network]) -> Network:
    """The record with a subnet that no other network has. `in_use` is where the host's routes lead.

    Raises Forbidden (Docker's words) where what was asked for overlaps, SystemFailure where no default is left.
    """
    others = list(others)
    taken = [IPv4Network(other.subnet) for other in others if other.subnet]
    for other in others:
        if other.bridge == network.bridge:
            raise Forbidden(
                f"cannot create network {network.id} ({network.bridge}): conflicts with network {other.id} "
                f"({other.bridge}): networks have same bridge name"
            )
    if not network.subnet:
        gateway = ipam.choose_gateway([*in_use, *taken])
        return msgspec.structs.replace(network, subnet=str(gateway.network), gateway=str(gateway.ip))
    if any(IPv4Network(network.subnet).overlaps(subnet) for subnet in taken):
        raise Forbidden("Pool overlaps with other one on this address space")
    return network


def boolean(options: dict[str, str], key: str, default: bool) -> bool:
    """An option that `plan` has checked."""
    return options[key] in _TRUE if options.get(key) else default


def mtu(options: dict[str, str]) -> int:
    """Bytes; 0 where nothing is said."""
    return int(options.get(MTU) or 0)


def addresses(network: Network) -> ipam.Addresses:
    """The addresses of a network that has a subnet, its gateway and auxiliary ones taken."""
    reserved = [IPv4Address(address) for address in (network.gateway, *network.auxiliary.values()) if address]
    within = IPv4Network(network.ip_range) if network.ip_range else None
    return ipam.Addresses(IPv4Network(network.subnet), reserved, within=within)


def gateway(network: Network) -> IPv4Interface:
    return IPv4Interface(f"{network.gateway}/{network.subnet.partition('/')[2]}")


def _check_kind(asked: CreateRequest) -> None:
    if not asked.name.strip():
        raise InvalidParameter(f"invalid name: {asked.name}")
    if asked.name in (*PREDEFINED, "default"):
        raise Forbidden(f"operation is not permitted on predefined {asked.name} network ")
    if asked.ingress:
        raise Forbidden("Ingress network can only be global scope network")
    if asked.scope not in ("", "local"):
        raise Forbidden(f"cannot create a {asked.scope} scoped network when swarm is not active")
    if asked.config_only:
        raise NotSupported(f"configuration-only networks are {_NOT_YET}")
    if asked.config_from and asked.config_from.network:
        raise NotFound(f'configuration network "{asked.config_from.network}" does not exist')
    if asked.driver in ("host", "null"):
        raise Forbidden(f'only one instance of "{asked.driver}" network is allowed')
    if asked.driver in _LATER:
        raise NotSupported(f"the network driver {asked.driver} is {_NOT_YET}")
    if asked.driver not in ("", "bridge"):
        raise NotFound(f'plugin "{asked.driver}" not found')


def _problems(config: IPAMConfig) -> Iterator[str]:
    """Docker's words, one problem each; of what depends on the subnet nothing if that is wrong."""
    try:
        written = _cidr(config.subnet)
    except ValueError:
        yield f"invalid subnet {config.subnet}: invalid CIDR block notation"
        return
    if written.version == 6:
        return
    if str(written) != config.subnet:
        yield f"invalid subnet {config.subnet}: it should be {written}"
        return
    assert isinstance(written, IPv4Network)
    if written.prefixlen > 30 or written.is_loopback or written.is_multicast or written.overlaps(_THIS_HOST):
        yield f"invalid subnet {config.subnet}: containers cannot have addresses of it"
    if config.ip_range:
        yield from _range_problems(config.ip_range, written)
    if config.gateway:
        yield from _address_problems("gateway", config.gateway, written)
    for name, address in (config.auxiliary_addresses or {}).items():
        yield from _address_problems(f"auxiliary address {name}", address, written)


_THIS_HOST = IPv4Network("0.0.0.0/8")


def _range_problems(text: str, subnet: IPv4Network) -> Iterator[str]:
    try:
        found = _cidr(text)
    except ValueError:
        yield f"invalid ip-range {text}: invalid CIDR block notation"
        return
    if str(found) != text:
        yield f"invalid ip-range {text}: it should be {found}"
    if not isinstance(found, IPv4Network) or not found.subnet_of(subnet):
        yield f"invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range"


def _address_problems(what: str, text: str, subnet: IPv4Network) -> Iterator[str]:
    # Docker names the auxiliary address by its key alone.
    words = f"{what} {text}" if what == "gateway" else what
    try:
        inside = IPv4Address(text) in subnet
    except ValueError:
        yield f"invalid {words}: invalid address"
        return
    if not inside:
        yield f"invalid {words}: parent subnet {subnet} doesn't contain this address"


def _cidr(text: str) -> IPv4Network | IPv6Network:
    """Raises ValueError; a bare address or a netmask is no CIDR notation."""
    address, slash, length = text.partition("/")
    if not slash or not length.isdecimal():
        raise ValueError(text)
    kind = IPv6Network if ":" in address else IPv4Network
    return kind(text, strict=False)


def _placed(network: Network, config: IPAMConfig) -> Network:
    subnet = IPv4Network(config.subnet)
    if config.gateway and IPv4Address(config.gateway) in (subnet.network_address, subnet.broadcast_address):
        raise SystemFailure(f"failed to allocate gateway ({config.gateway}): Address already in use")
    within = IPv4Network(config.ip_range) if config.ip_range else subnet
    auxiliary = config.auxiliary_addresses or {}
    taken = {IPv4Address(address) for address in auxiliary.values()}
    chosen = IPv4Address(config.gateway) if config.gateway else _first(within, subnet, taken)
    return msgspec.structs.replace(
        network,
        subnet=str(subnet),
        gateway=str(chosen),
        ip_range=config.ip_range,
        auxiliary=auxiliary,
        own_subnet=True,
        gateway_shown=bool(config.gateway),
    )


def _first(within: IPv4Network, subnet: IPv4Network, taken: set[IPv4Address]) -> IPv4Address:
    """Docker takes a gateway that nobody chose from the range, like any other address."""
    for address in within:
        if address not in taken and address not in (subnet.network_address, subnet.broadcast_address):
            return address
    raise InvalidParameter(f"invalid network config:\ninvalid ip-range {within}: no address is left for the gateway")


def _check_options(options: dict[str, str]) -> None:
    for key, value in options.items():
        if key not in _HONOURED:
            raise NotSupported(f"the network option {key} is {_NOT_YET}")
        if key in (ICC, MASQUERADE) and value not in _TRUE + _FALSE:
            raise InvalidParameter(
                f'failed to parse {key} value: {value} (strconv.ParseBool: parsing "{value}": invalid syntax)'
            )
    _check_mtu(options.get(MTU, "0"))
    binding = options.get(BINDING, "0.0.0.0")
    try:
        IPv4Address(binding)
    except ValueError:
        raise InvalidParameter(f"failed to parse {BINDING} value: {binding} (nil ip)") from None
    for key, longest in ((NAME, _LONGEST), (PREFIX, _LONGEST - 3)):
        name = options.get(key, "")
        if len(name) > longest:
            raise SystemFailure("numerical result out of range")
        if name and _INTERFACE.fullmatch(name) is None:
            raise InvalidParameter(f"invalid {key} value: {name}: not a name of a network interface")


def _check_mtu(text: str) -> None:
    if re.fullmatch(r"[+-]?[0-9]{1,9}", text) is None:
        raise InvalidParameter(f'failed to parse {MTU} value: {text} (strconv.Atoi: parsing "{text}": invalid syntax)')
    if int(text) < 0:
        raise InvalidParameter(f"invalid MTU number: {int(text)}")
    if int(text) and not 68 <= int(text) <= 65535:  # ip(7): a host must take 68
        raise InvalidParameter(f"invalid MTU number: {int(text)}")
