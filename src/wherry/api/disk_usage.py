"""GET /system/df."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wherry.api import encode
from wherry.api.app import Call, Route
from wherry.api.build_cache import shown as cache_shown
from wherry.api.images import summary as image_summary
from wherry.api.server import Answer
from wherry.api.volumes import shown as volume_shown
from wherry.engine.builds.service import CacheUse
from wherry.engine.disk_usage import DiskUsage
from wherry.errors import InvalidParameter

KINDS = ("container", "image", "volume", "build-cache")


def routes(usage: DiskUsage, image_id: Callable[[str], str | None], cache: Callable[[], list[CacheUse]]) -> list[Route]:
    """The routes of this file. `image_id` tells what a reference means now, `cache` what is in the build cache."""

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
            "BuildCache": [cache_shown(use) for use in cache()] if "build-cache" in wanted else None,
        }
        if "image" in wanted:
            shown["LayersSize"], images = await call.while_connected(usage.images())
            shown["Images"] = [
                image_summary(
                    item.listed, call.version, containers=item.containers, shared_size=item.shared, size=item.size
                )
                | {"RepoDigests": item.listed.repo_digests or None, "RepoTags": item.listed.repo_tags or None}
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

    return [Route("GET", "/system/df", disk_usage)]
