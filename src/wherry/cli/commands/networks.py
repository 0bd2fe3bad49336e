"""`network ls`, `rm`."""

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
    from wherry.cli.gotime import format_time

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
