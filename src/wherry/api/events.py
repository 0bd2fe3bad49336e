"""GET /events: the record and what happens next, as JSON lines."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import msgspec

from wherry.api.app import Call, Route
from wherry.api.server import Answer
from wherry.engine.events import Events
from wherry.errors import InvalidParameter, SystemFailure
from wherry.model.events import Event
from wherry.model.filters import Filters
from wherry.model.timestamps import SECOND, parse_unix

_encode = msgspec.json.Encoder().encode


def routes(events: Events) -> list[Route]:
    """The routes over this service."""

    async def follow(call: Call) -> Answer:
        written_since, written_until = call.query.text("since"), call.query.text("until")
        since, until = _moment(written_since), _moment(written_until)
        if since is not None and until is not None and until < since:
            raise InvalidParameter(f"`since` time ({written_since}) cannot be after `until` time ({written_until})")
        filters = Filters.decode(call.query.text("filters"))
        response = await call.stream("application/json")

        async def tell() -> None:
            async with aclosing(events.stream(since_ns=since, until_ns=until, filters=filters)) as stream:
                async for event in stream:
                    await response.write(_encode(encode(event)) + b"\n")

        await call.while_connected(tell())
        await response.write_eof()
        return response

    return [Route("GET", "/events", follow)]


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
