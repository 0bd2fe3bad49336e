"""GET /system/df, and the prune of a build cache that is always empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wherry.api import encode
from wherry.api.app import Call, Route
from wherry.api.images import summary as image_summary
from wherry.api.server import Answer
from wherry.api.volumes import shown as volume_shown
from wherry.engine.disk_usage import DiskUsage
from wherry.errors import InvalidParameter, WherryError
from wherry.model.filters import Filters
from wherry.model.timestamps import parse_when

KINDS = ("container", "image", "volume", "build-cache")
CACHE_FILTERS = frozenset(
    ("until", "id", "parent", "type", "description", "inuse", "shared", "private", "label", "label!", "unused-for")
)


def routes(usage: DiskUsage, image_id: Callable[[str], str | None]) -> list[Route]:
    """The routes of this file. `image_id` tells what a reference means now."""

    async def disk_usage(call: Call) -> Answer:
        kinds = call.query.all("type") if call.version >= (1, 42) else []
        for kind in kinds:
            if kind not in KINDS:
                raise InvalidParameter(f"unknown object type: {kind}")
        wanted = kinds or KINDS
        shown: dict[str, Any] = {
            "LayersSize": 0,
            "Images": None,
            "Containers": None,
            "Volumes": None,
            "BuildCache": [] if "build-cache" in wanted else None,
        }
        if "image" in wanted:
            shown["LayersSize"], images = await call.while_connected(usage.images())
            shown["Images"] = [
                image_summary(
                    item.listed, call.version, containers=item.containers, shared_size=item.shared, size=item.size
                )
                for item in images
            ]
        if "container" in wanted:
            now = encode.now()
            shown["Containers"] = [
                encode.summary(container, encode.image_shown(container, image_id), now, size)
                for container, size in await call.while_connected(usage.containers())
            ]
        if "volume" in wanted:
            shown["Volumes"] = [
                volume_shown(item.volume) | {"UsageData": {"RefCount": item.containers, "Size": item.size}}
                for item in await call.while_connected(usage.volumes())
            ]
        if call.version < (1, 42):
            shown["BuilderSize"] = sum(entry["Size"] for entry in shown["BuildCache"])
        return call.json(shown)

    async def prune_cache(call: Call) -> Answer:
        filters = Filters.decode(call.query.text("filters"))
        try:
            filters.validate(CACHE_FILTERS)
        except InvalidParameter as error:
            raise InvalidParameter(f"failed to prune build cache: {error}") from None
        for moment in filters.get("until"):
            _check_moment(moment)
        kept = call.query.text("keep-storage")
        try:
            call.query.integer("keep-storage")
        except InvalidParameter as error:
            raise InvalidParameter(f"keep-storage is in bytes and expects an integer, got {kept}: {error}") from None
        return call.json({"CachesDeleted": None, "SpaceReclaimed": 0})

    return [
        Route("GET", "/system/df", disk_usage),
        Route("POST", "/build/prune", prune_cache),
    ]


def _check_moment(text: str) -> None:
    try:
        parse_when(text)
    except WherryError:
        raise InvalidParameter(
            "failed to prune build cache: \"until\" filter expects a duration (e.g., '24h') or a timestamp: "
            f'failed to parse value as time or duration: "{text}"'
        ) from None
