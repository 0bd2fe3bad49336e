"""`volume ls`, `create`, `rm`."""

from __future__ import annotations

from wherry.cli import paths, program
from wherry.cli.batch import each
from wherry.cli.errors import Failure
from wherry.cli.listing import Listing, filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.context import Context

    Volume = dict[str, Any]

HEADERS = {
    "Availability": "AVAILABILITY",
    "Driver": "DRIVER",
    "Group": "GROUP",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Mountpoint": "MOUNTPOINT",
    "Name": "VOLUME NAME",
    "Scope": "SCOPE",
    "Size": "SIZE",
    "Status": "STATUS",
}


def _labels(volume: Volume) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((volume.get("Labels") or {}).items()))


def _usage(volume: Volume, key: str) -> Any:
    return (volume.get("UsageData") or {}).get(key, -1)


def _size(volume: Volume) -> str:
    from wherry.cli.humanize import human_size

    size = _usage(volume, "Size")
    return "N/A" if size == -1 else human_size(size)


FIELDS: dict[str, Any] = {
    "Availability": lambda volume: "N/A",
    "Driver": lambda volume: volume["Driver"],
    "Group": lambda volume: "N/A",
    "Labels": _labels,
    "Links": lambda volume: "N/A" if _usage(volume, "RefCount") == -1 else str(_usage(volume, "RefCount")),
    "Mountpoint": lambda volume: volume["Mountpoint"],
    "Name": lambda volume: volume["Name"],
    "Scope": lambda volume: volume["Scope"],
    "Size": _size,
    "Status": lambda volume: "N/A",
}


def run(context: Context) -> int:
    flags = context.flags
    if flags.on("cluster"):
        raise Failure(f"{program.NAME}: 'volume ls --cluster' is not there yet")
    form = flags.text("format")
    listing = Listing(
        "*formatter.volumeContext",
        HEADERS,
        FIELDS,
        {"Label": lambda volume, name: (volume.get("Labels") or {}).get(name, "")},
    )
    answer = context.engine.get("/volumes", {"filters": filters(flags.pairs("filter"))}) or {}
    found = sorted(answer.get("Volumes") or [], key=lambda volume: natural(volume["Name"]))
    listing.show(found, ["Driver", "Name"], form, quiet="Name" if flags.on("quiet") else "")
    return 0


def natural(name: str) -> list[tuple[bool, int, str]]:
    """An order in which vol2 comes before vol10."""
    parts: list[str] = []
    for char in name:
        if parts and char.isdecimal() == parts[-1][-1].isdecimal():
            parts[-1] += char
        else:
            parts.append(char)
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


_CLUSTER = (
    *("availability", "group", "limit-bytes", "required-bytes", "scope", "secret", "sharing"),
    *("topology-preferred", "topology-required", "type"),
)


def create(context: Context) -> int:
    flags = context.flags
    for flag in _CLUSTER:
        if flags.changed(flag):
            raise Failure(f"{program.NAME}: '--{flag}' is for cluster volumes, which are not there yet")
    name = context.arguments[0] if context.arguments else ""
    if flags.text("name"):
        if name:
            raise Failure(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg"
            )
        name = flags.text("name")
    labels = {key: value for key, _, value in (text.partition("=") for text in flags.items("label"))}
    body = {
        "Driver": flags.text("driver", "local"),
        "DriverOpts": flags.pairs("opt"),
        "Labels": labels,
        "Name": name,
    }
    body = {key: value for key, value in body.items() if value}
    print(context.engine.post("/volumes/create", json=body)["Name"])
    return 0


def remove(context: Context) -> int:
    query = {"force": context.flags.on("force") or None}

    def one(name: str) -> None:
        context.engine.call("DELETE", paths.of("volume", name), query)

    return each(context, one)
