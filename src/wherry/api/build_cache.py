"""The build cache over the API: what system/df lists of it, and POST /build/prune."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wherry.api.app import Call, Route
from wherry.api.server import Answer
from wherry.engine.builds.service import Builds, CacheUse
from wherry.errors import InvalidParameter, NotSupported, WherryError
from wherry.model.filters import Filters
from wherry.model.timestamps import parse_when, rfc3339_nano

FILTERS = frozenset(
    ("until", "id", "parent", "type", "description", "inuse", "shared", "private", "label", "label!", "unused-for")
)


def shown(use: CacheUse) -> dict[str, Any]:
    """Docker's BuildCache."""
    cached = use.cached
    return {
        "ID": cached.id,
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
            filters.validate(FILTERS)
        except InvalidParameter as error:
            raise InvalidParameter(f"failed to prune build cache: {error}") from None
        if filters.get("parent"):
            raise NotSupported("failed to prune build cache: the filter parent is not supported")
        moments = [_moment(text) for name in ("until", "unused-for") for text in filters.get(name)]
        kept = max(_bytes(call, name) for name in ("keep-storage", "reserved-space", "max-used-space"))
        if call.query.text("min-free-space"):
            raise NotSupported("min-free-space is not supported: keep-storage says how much may stay")
        done = await builds.prune(
            until_ns=min(moments, default=0),
            keep_bytes=kept,
            all=call.query.boolean("all"),
            wanted=_wanted(filters),
        )
        return call.json({"CachesDeleted": done.ids or None, "SpaceReclaimed": done.reclaimed})

    return [Route("POST", "/build/prune", prune)]


def _wanted(filters: Filters) -> Callable[[CacheUse], bool]:
    """By what it is, all of the filters holding. Nothing here has a label, so that none is chosen by having one."""
    if filters.get("label"):
        return lambda use: False
    ids, kinds, texts = filters.get("id"), filters.get("type"), filters.get("description")
    flags = {name: filters.boolean(name, False) for name in ("inuse", "shared", "private") if filters.get(name)}

    def wanted(use: CacheUse) -> bool:
        cached = use.cached
        facts = {"inuse": use.in_use, "shared": use.shared, "private": not use.shared}
        return (
            (not ids or any(cached.id.startswith(one) for one in ids))
            and (not kinds or cached.kind in kinds)
            and (not texts or any(text in cached.description for text in texts))
            and all(facts[name] == value for name, value in flags.items())
        )

    return wanted


def _bytes(call: Call, name: str) -> int:
    try:
        return call.query.integer(name, 0) or 0
    except InvalidParameter as error:
        text = call.query.text(name)
        raise InvalidParameter(f"{name} is in bytes and expects an integer, got {text}: {error}") from None


def _moment(text: str) -> int:
    try:
        return parse_when(text)
    except WherryError:
        raise InvalidParameter(
            "failed to prune build cache: \"until\" filter expects a duration (e.g., '24h') or a timestamp: "
            f'failed to parse value as time or duration: "{text}"'
        ) from None
