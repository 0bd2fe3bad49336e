"""Which events a filter lets through: the rules of the real engine's GET /events.

`type`, `event`, `scope`, `label` and `image` look at what the event says; `container`, `network`, `volume`, `daemon`
and `plugin` take a prefix of the ID or name of its actor. Unknown keys are ignored here, as the real engine does.
"""

from __future__ import annotations

from wherry.model.events import Event
from wherry.model.filters import Filters

_ACTORS = ("daemon", "container", "plugin", "volume", "network", "node", "service", "secret", "config")
_WITH_DETAIL = {"health_status", "exec_create", "exec_start"}  # their actions go on: "exec_start: sh -c x"


def event_holds(filters: Filters, event: Event) -> bool:
    if not filters:
        return True
    name = event.attributes.get("name", "")
    return (
        _action_holds(filters, event.action)
        and filters.exact("type", event.type)
        and filters.exact("scope", event.scope)
        and all(filters.prefix(key, event.id) or filters.prefix(key, name) for key in _ACTORS)
        and _image_holds(filters, event)
        and filters.labels("label", event.attributes)
    )


def _action_holds(filters: Filters, action: str) -> bool:
    if _WITH_DETAIL.isdisjoint(filters.get("event")):
        return filters.exact("event", action)
    return filters.prefix("event", action)


def _image_holds(filters: Filters, event: Event) -> bool:
    """By the image's ID, or its name with or without the tag."""
    if not filters.get("image"):
        return True
    name = event.attributes.get("name" if event.type == "image" else "image", "")
    candidates = {event.id, name, _without_tag(event.id), _without_tag(name)}
    return not candidates.isdisjoint(filters.get("image"))


def _without_tag(reference: str) -> str:
    name = reference.partition("@")[0]
    base, colon, tag = name.rpartition(":")
    return base if colon and "/" not in tag else name
