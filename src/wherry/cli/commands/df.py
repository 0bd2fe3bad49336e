"""`system df`: what images, containers, volumes and the build cache take of the disk."""

from __future__ import annotations

import sys
import time

from wherry.cli import tabular
from wherry.cli.commands import images as image_list
from wherry.cli.commands import ps, volumes
from wherry.cli.errors import Failure
from wherry.cli.humanize import human_size
from wherry.cli.listing import Listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.cli.context import Context

    Usage = dict[str, Any]
    Field = Callable[[Any], Any]

HEADERS = {
    "Active": "ACTIVE",
    "Reclaimable": "RECLAIMABLE",
    "Size": "SIZE",
    "TotalCount": "TOTAL",
    "Type": "TYPE",
}
COLUMNS = ["Type", "TotalCount", "Active", "Size", "Reclaimable"]
CACHE_HEADERS = ["CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED"]
_ALIVE = ("running", "paused", "restarting")


class Row:
    """One kind of object. `used` and `size` are bytes."""

    def __init__(self, kind: str, total: int, active: int, size: int, free: int, *, percent: bool = True) -> None:
        self.kind = kind
        self.total = total
        self.active = active
        self.size = size
        self.free = free
        self.percent = percent

    def reclaimable(self) -> str:
        text = human_size(self.free)
        return f"{text} ({self.free * 100 // self.size}%)" if self.percent and self.size > 0 else text


FIELDS: dict[str, Field] = {
    "Active": lambda row: str(row.active),
    "Reclaimable": lambda row: row.reclaimable(),
    "Size": lambda row: human_size(row.size),
    "TotalCount": lambda row: str(row.total),
    "Type": lambda row: row.kind,
}


def summary(usage: Usage) -> list[Row]:
    """The four lines of the short form."""
    images, containers = usage.get("Images") or [], usage.get("Containers") or []
    found, cache = usage.get("Volumes") or [], usage.get("BuildCache") or []
    layers = usage.get("LayersSize", 0)
    used = sum(
        item["Size"] - item["SharedSize"]
        for item in images
        if item["Containers"] > 0 and item["Size"] != -1 and item["SharedSize"] != -1
    )
    alive = [item for item in containers if item.get("State") in _ALIVE]
    held = sum(item.get("SizeRw", 0) for item in containers)
    bound = [item for item in found if item["UsageData"]["RefCount"] > 0]
    kept = sum(max(item["UsageData"]["Size"], 0) for item in found)
    unbound = sum(max(item["UsageData"]["Size"], 0) for item in found if item["UsageData"]["RefCount"] == 0)
    cached = sum(item["Size"] for item in cache if not item.get("Shared"))
    idle = sum(item["Size"] for item in cache if not item.get("Shared") and not item.get("InUse"))
    return [
        Row("Images", len(images), sum(item["Containers"] > 0 for item in images), layers, layers - used),
        Row(
            "Containers",
            len(containers),
            len(alive),
            held,
            held - sum(item.get("SizeRw", 0) for item in alive),
        ),
        Row("Local Volumes", len(found), len(bound), kept, unbound),
        Row("Build Cache", len(cache), sum(bool(item.get("InUse")) for item in cache), cached, idle, percent=False),
    ]


def run(context: Context) -> int:
    flags = context.flags
    form = flags.text("format")
    verbose = flags.on("verbose")
    try:
        return _run(context, form, verbose)
    except Failure as failure:
        for words in ("failed to parse template: ", "failed to execute template: "):
            if failure.text.startswith(words):
                raise Failure("template parsing error: " + failure.text.removeprefix(words), failure.code) from None
        raise


def _run(context: Context, form: str, verbose: bool) -> int:
    listing = Listing("*formatter.diskUsageImagesContext", HEADERS, FIELDS)
    if form and not verbose:
        listing.probe(form)
    usage = context.engine.get("/system/df") or {}
    if verbose and form not in ("", "table"):
        return _formatted(usage, form)
    if verbose:
        _long(usage)
        return 0
    if form in ("", "table"):
        rows = [[FIELDS[name](row) for name in COLUMNS] for row in summary(usage)]
        sys.stdout.write(tabular.table([HEADERS[name] for name in COLUMNS], rows))
        return 0
    listing.show(summary(usage), COLUMNS, form)
    return 0


def _images(usage: Usage, whole: bool) -> tuple[Listing, list[Any]]:
    listing = Listing("*formatter.imageContext", image_list.HEADERS, image_list.fields(whole, time.time()))
    found = sorted(usage.get("Images") or (), key=lambda image: -image["Created"])
    return listing, [row for image in found for row in image_list.rows(image, False)]


def _containers(usage: Usage, whole: bool) -> tuple[Listing, list[Any]]:
    made = ps.fields(whole, time.time()) | {"Size": lambda item: human_size(item.get("SizeRw", 0), 3)}
    return Listing("*formatter.ContainerContext", ps.HEADERS, made), usage.get("Containers") or []


def _volumes(usage: Usage, whole: bool) -> tuple[Listing, list[Any]]:
    return Listing("*formatter.volumeContext", volumes.HEADERS, volumes.FIELDS), usage.get("Volumes") or []


_SECTIONS = (
    ("Images", _images, ["Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"]),
    (
        "Containers",
        _containers,
        ["ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"],
    ),
    ("Local Volumes", _volumes, ["Name", "Links", "Size"]),
)


def _long(usage: Usage) -> None:
    for title, section, columns in _SECTIONS:
        listing, items = section(usage, False)
        sys.stdout.write(f"{title} space usage:\n\n")
        listing.show(items, columns)
        sys.stdout.write("\n")
    cache = usage.get("BuildCache") or []
    sys.stdout.write(f"Build cache usage: {human_size(sum(item['Size'] for item in cache))}\n\n")
    rows = [
        [
            item["ID"][:12],
            item["Type"],
            human_size(item["Size"], 3),
            "",
            "",
            str(item.get("UsageCount", 0)),
            str(bool(item.get("Shared"))).lower(),
        ]
        for item in cache
    ]
    sys.stdout.write(tabular.table(CACHE_HEADERS, rows))


def _formatted(usage: Usage, form: str) -> int:
    """One value with the four lists in it."""
    from wherry.cli.item import Item
    from wherry.model.template import TemplateError, parse

    parts: dict[str, Any] = {"BuildCache": []}
    for title, section, _ in _SECTIONS:
        listing, items = section(usage, True)
        parts[title.rpartition(" ")[2]] = [Item(listing, item) for item in items]
    order = ("Images", "Containers", "Volumes", "BuildCache")
    whole = Listing("*formatter.diskUsageContext", {name: name for name in order}, {})
    whole.fields = {name: lambda item, name=name: item[name] for name in order}
    if form.startswith("table"):
        form = form[len("table") :].strip()
    try:
        text = parse("{{json .}}" if form == "json" else form).render(Item(whole, parts))
    except TemplateError as error:
        raise Failure(f"failed to execute template: {error}") from None
    sys.stdout.write(text)
    return 0
