"""The build cache over the API: what system/df lists of it, and POST /build/prune."""

from __future__ import annotations

from typing import Any

from wherry.api.app import Call, Route
from wherry.api.server import Answer
from wherry.engine.builds.service import Builds, CacheUse
from wherry.errors import InvalidParameter
from wherry.model.cache_rules import Rule, Space, wanted
from wherry.model.filters import Filters
from wherry.model.timestamps import rfc3339_nano

_SPACE = ("reserved-space", "keep-storage", "max-used-space", "min-free-space")


def shown(use: CacheUse) -> dict[str, Any]:
    """Docker's BuildCache."""
    cached = use.cached
    parents = list(use.parents)
    return {
        "ID": cached.id,
        **({" Parents": parents, "Parents": parents} if parents else {}),  # the blank is Docker's, up to API 1.45
        "Type": cached.kind,
        "Description": cached.description,
        "InUse": use.in_use,
        "Shared": use.shared,
        "Size": cached.size,
        "CreatedAt": rfc3339_nano(cached.created_ns),
        "LastUsedAt": rfc3339_nano(cached.used_ns),
        "UsageCount": cached.uses,
    }


def routes(builds: Builds) -> list[Route]:
    """The routes of this file."""

    async def prune(call: Call) -> Answer:
        filters = Filters.decode(call.query.text("filters"))
        try:
            chosen = wanted(filters)
        except InvalidParameter as error:
            raise InvalidParameter(f"failed to prune build cache: {error}") from None
        reserved, older, max_used, min_free = (_bytes(call, name) for name in _SPACE)
        space = Space(reserved or older, max_used, min_free)
        done = await builds.prune(Rule(chosen, space, call.query.boolean("all")))
        return call.json({"CachesDeleted": done.ids or None, "SpaceReclaimed": done.reclaimed})

    return [Route("POST", "/build/prune", prune)]


def _bytes(call: Call, name: str) -> int:
    try:
        return call.query.integer(name, 0) or 0
    except InvalidParameter as error:
        text = call.query.text(name)
        raise InvalidParameter(f"{name} is in bytes and expects an integer, got {text}: {error}") from None
