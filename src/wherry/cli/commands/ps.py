"""`ps`: the containers."""

from __future__ import annotations

import time

from wherry.cli.humanize import ellipsis, human_duration, human_size, short_id
from wherry.cli.listing import Listing, filters
from wherry.cli.ports import displayable
from wherry.model.gotext import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.context import Context

    Summary = dict[str, Any]

HEADERS = {
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Labels": "LABELS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Mounts": "MOUNTS",
    "Names": "NAMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
    "Ports": "PORTS",
    "RunningFor": "CREATED",
    "Size": "SIZE",
    "State": "STATE",
    "Status": "STATUS",
}
COLUMNS = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"]


def names(item: Summary, whole: bool) -> str:
    """The names without their slash; links (a/b) only with `whole`."""
    found = [str(name).removeprefix("/") for name in item.get("Names") or ()]
    if not whole:
        found = [name for name in found if "/" not in name][:1] or found
    return ",".join(found)


def image(item: Summary, whole: bool) -> str:
    """The image as it was asked for; short where it is an ID, without the digest where there is a tag."""
    name = str(item.get("Image") or "")
    if not name:
        return "<no image>"
    if whole:
        return name
    short = short_id(str(item.get("ImageID", "")))
    if short == short_id(name):
        return short
    plain, at, _ = name.partition("@")
    return plain if at and ":" in plain.rpartition("/")[2] else name


def created_at(seconds: int) -> str:
    """A Unix time as Go's time.Time prints: local, with offset and zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


def no_platform() -> Any:
    """What a template gets for the platform, which the list does not tell: Go's nil pointer."""
    from wherry.model.template.values import Nil

    return Nil("pointer", "*v1.Platform")


def size(item: Summary) -> str:
    text = human_size(item.get("SizeRw", 0), 3)
    root = item.get("SizeRootFs", 0)
    return f"{text} (virtual {human_size(root, 3)})" if root > 0 else text


def mounts(item: Summary, whole: bool) -> str:
    found = [str(mount.get("Name") or mount.get("Source", "")) for mount in item.get("Mounts") or ()]
    return ",".join(found if whole else [ellipsis(name, 15) for name in found])


def fields(whole: bool, now: float) -> dict[str, Any]:
    """What a template or a column may name, as functions of one entry; `whole` is --no-trunc."""

    def command(item: Summary) -> str:
        text = str(item.get("Command", ""))
        return quote(text if whole else ellipsis(text, 20))

    return {
        "Command": command,
        "CreatedAt": lambda item: created_at(item["Created"]),
        "ID": lambda item: item["Id"] if whole else short_id(item["Id"]),
        "Image": lambda item: image(item, whole),
        "Labels": lambda item: ",".join(f"{k}={v}" for k, v in sorted((item.get("Labels") or {}).items())),
        "LocalVolumes": lambda item: str(sum(m.get("Driver") == "local" for m in item.get("Mounts") or ())),
        "Mounts": lambda item: mounts(item, whole),
        "Names": lambda item: names(item, whole),
        "Networks": lambda item: ",".join(sorted((item.get("NetworkSettings") or {}).get("Networks") or ())),
        "Platform": lambda item: no_platform(),
        "Ports": lambda item: displayable(item.get("Ports") or []),
        "RunningFor": lambda item: human_duration(now - item["Created"]) + " ago",
        "Size": size,
        "State": lambda item: item.get("State", ""),
        "Status": lambda item: item.get("Status", ""),
    }


def run(context: Context) -> int:
    flags = context.flags
    form = flags.text("format")
    everything, last = flags.on("all"), flags.number("last", -1)
    if flags.on("latest"):
        last = 1
    listing = Listing(
        "*formatter.ContainerContext",
        HEADERS,
        fields(flags.on("no-trunc"), time.time()),
        {"Label": lambda item, name: (item.get("Labels") or {}).get(name, "")},
    )
    with_size = flags.on("size") or "Size" in listing.probe(form)
    query = {
        "all": True if everything or last > 0 else None,
        "limit": last if last > 0 else None,
        "size": True if with_size else None,
        "filters": filters(flags.pairs("filter")),
    }
    found = context.engine.get("/containers/json", query) or []
    columns = [*COLUMNS, "Size"] if flags.on("size") else COLUMNS
    listing.show(found, columns, form, quiet="ID" if flags.on("quiet") else "")
    return 0
