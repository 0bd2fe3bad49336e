"""`network ls`, `rm`, `create`, `connect`, `disconnect`."""

from __future__ import annotations

import sys

from wherry.cli import paths
from wherry.cli.commands.volumes import natural
from wherry.cli.errors import Failure
from wherry.cli.humanize import short_id
from wherry.cli.listing import Listing, filters
from wherry.client.engine import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.context import Context

    Network = dict[str, Any]

HEADERS = {
    "CreatedAt": "CREATED AT",
    "Driver": "DRIVER",
    "ID": "NETWORK ID",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "Name": "NAME",
    "Scope": "SCOPE",
}


def _created(network: Network) -> str:
    from wherry.model.gotime import format_time

    return format_time(network["Created"])


def _flag(key: str) -> Any:
    return lambda network: "true" if network.get(key) else "false"


def fields(whole: bool) -> dict[str, Any]:
    return {
        "CreatedAt": _created,
        "Driver": lambda network: network["Driver"],
        "ID": lambda network: network["Id"] if whole else short_id(network["Id"]),
        "IPv4": _flag("EnableIPv4"),
        "IPv6": _flag("EnableIPv6"),
        "Internal": _flag("Internal"),
        "Labels": lambda network: ",".join(f"{k}={v}" for k, v in sorted((network.get("Labels") or {}).items())),
        "Name": lambda network: network["Name"],
        "Scope": lambda network: network["Scope"],
    }


def run(context: Context) -> int:
    flags = context.flags
    listing = Listing(
        "*network.networkContext",
        HEADERS,
        fields(flags.on("no-trunc")),
        {"Label": lambda network, name: (network.get("Labels") or {}).get(name, "")},
    )
    found = context.engine.get("/networks", {"filters": filters(flags.pairs("filter"))}) or []
    found.sort(key=lambda network: natural(network["Name"]))
    quiet = "ID" if flags.on("quiet") else ""
    listing.show(found, ["ID", "Name", "Driver", "Scope"], flags.text("format"), quiet=quiet)
    return 0


def remove(context: Context) -> int:
    failed = False
    for name in context.arguments:
        try:
            context.engine.call("DELETE", paths.of("network", name))
        except EngineError as error:
            if error.status == 404 and context.flags.on("force"):
                continue
            print(f"Error response from daemon: {error.message}", file=sys.stderr)
            failed = True
        else:
            print(name, flush=True)
    if failed:
        raise Failure("exit status 1")
    return 0


def create(context: Context) -> int:
    flags = context.flags
    labels = [text.partition("=") for text in flags.items("label")]
    reference = flags.text("config-from")
    body: dict[str, Any] = {
        "Name": context.arguments[0],
        "Driver": flags.text("driver", "bridge"),
        "Scope": flags.text("scope"),
        "IPAM": {
            "Driver": flags.text("ipam-driver", "default"),
            "Options": flags.pairs("ipam-opt"),
            "Config": _addressing(context),
        },
        "Internal": flags.on("internal"),
        "Attachable": flags.on("attachable"),
        "Ingress": flags.on("ingress"),
        "ConfigOnly": flags.on("config-only"),
        "ConfigFrom": {"Network": reference} if reference else None,
        "Options": flags.pairs("opt"),
        "Labels": {key: value for key, _, value in labels},
    }
    for flag, key in (("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")):
        if flags.changed(flag):
            body[key] = flags.on(flag)
    print((context.engine.post("/networks/create", json=body) or {})["Id"])
    return 0


def _addressing(context: Context) -> list[dict[str, Any]]:
    """One entry a subnet, with the range, gateway and auxiliary addresses that lie in it. Raises Failure."""
    from ipaddress import ip_address, ip_network

    flags = context.flags
    subnets, ranges, gateways = (flags.items(name) for name in ("subnet", "ip-range", "gateway"))
    if len(ranges) > len(subnets) or len(gateways) > len(subnets):
        raise Failure("every ip-range or gateway must have a corresponding subnet")
    made: dict[str, dict[str, Any]] = {}
    parsed: dict[str, Any] = {}
    for subnet in subnets:
        try:
            network = ip_network(subnet, strict=False)
        except ValueError:
            raise Failure(f"invalid CIDR address: {subnet}") from None
        if any(network.version == other.version and network.overlaps(other) for other in parsed.values()):
            raise Failure("multiple overlapping subnet configuration is not supported")
        parsed[subnet] = network
        made[subnet] = {"Subnet": subnet}

    def put(text: str, address: str, what: str, key: str, name: str = "") -> None:
        try:
            found = next(subnet for subnet, network in parsed.items() if ip_address(address) in network)
        except (ValueError, StopIteration):
            raise Failure(f"no matching subnet for {what} {text}") from None
        if name:
            made[found].setdefault(key, {})[name] = text
        elif key in made[found]:
            raise Failure(f"cannot configure multiple {what}s ({text}, {made[found][key]}) on the same subnet")
        else:
            made[found][key] = text

    for text in ranges:
        put(text, text.partition("/")[0], "range", "IPRange")
    for text in gateways:
        put(text, text, "gateway", "Gateway")
    for name, text in flags.pairs("aux-address").items():
        put(text, text, "aux-address", "AuxiliaryAddresses", name)
    return list(made.values())


def connect(context: Context) -> int:
    flags = context.flags
    network, container = context.arguments
    options = {}
    for text in flags.items("driver-opt"):
        key, equals, value = text.partition("=")
        if not equals:
            raise Failure("invalid key/value pair format in driver options")
        options[key] = value
    ipam = {
        "IPv4Address": flags.text("ip"),
        "IPv6Address": flags.text("ip6"),
        "LinkLocalIPs": flags.items("link-local-ip"),
    }
    endpoint = {
        "IPAMConfig": {key: value for key, value in ipam.items() if value} or None,
        "Links": flags.items("link") or None,
        "Aliases": flags.items("alias") or None,
        "DriverOpts": options or None,
        "GwPriority": flags.number("gw-priority"),
    }
    body = {"Container": container, "EndpointConfig": endpoint}
    context.engine.post(paths.of("network", network, "connect"), json=body)
    return 0


def disconnect(context: Context) -> int:
    network, container = context.arguments
    body = {"Container": container, "Force": context.flags.on("force")}
    context.engine.post(paths.of("network", network, "disconnect"), json=body)
    return 0
