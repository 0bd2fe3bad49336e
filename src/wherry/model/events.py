"""One event of the engine's life, as Docker's /events tells it."""

from __future__ import annotations

from msgspec import Struct, field


class Event(Struct, kw_only=True):
    time_ns: int
    type: str  # container, image, network, volume, daemon
    action: str  # create, start, die, "exec_start: sh -c x", ...
    id: str
    attributes: dict[str, str] = field(default_factory=dict)
    scope: str = "local"
