"""GET /events: the record and what happens next, as JSON lines.

Paths carry no version prefix; the application adds it. Errors are raised as kinds and mapped by its middleware.
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from wherry.engine.events import Events
from wherry.errors import InvalidParameter, SystemFailure
from wherry.model.events import Event
from wherry.model.filters import Filters
from wherry.model.timestamps import SECOND, parse_unix

_encode = msgspec.json.Encoder().encode


def routes(events: Events) -> web.RouteTableDef:
    """The handlers of this file."""
    table = web.RouteTableDef()

    @table.get("/events")
    async def follow(request: web.Request) -> web.StreamResponse:
        since, until = _moment(request.query.get("since", "")), _moment(request.query.get("until", ""))
        if since is not None and until is not None and until < since:
            raise InvalidParameter(
                f"`since` time ({request.query['since']}) cannot be after `until` time ({request.query['until']})"
            )
        filters = Filters.decode(request.query.get("filters"))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        async for event in events.stream(since_ns=since, until_ns=until, filters=filters):
            await response.write(_encode(encode(event)) + b"\n")
        await response.write_eof()
        return response

    return table


def encode(event: Event) -> dict[str, Any]:
    """Docker's message. `status`, `id` and `from` are the old names that clients still read."""
    attributes = {key: event.attributes[key] for key in sorted(event.attributes)}
    message: dict[str, Any] = {}
    if event.type in ("container", "image"):
        message = {"status": event.action, "id": event.id}
    if event.type == "container" and attributes.get("image"):
        message["from"] = attributes["image"]
    return message | {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": attributes},
        "scope": event.scope,
        "time": event.time_ns // SECOND,
        "timeNano": event.time_ns,
    }


def _moment(text: str) -> int | None:
    """None for "not given", which the real engine also takes -1 for. It answers 500 to what is no number."""
    if not text:
        return None
    try:
        moment = parse_unix(text)
    except InvalidParameter as error:
        raise SystemFailure(str(error)) from None
    return None if moment // SECOND == -1 else moment
