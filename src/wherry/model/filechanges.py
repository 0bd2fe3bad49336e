"""Changes of a container's files against its image."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """As the API numbers them."""

    MODIFIED = 0
    ADDED = 1
    DELETED = 2


@dataclass(frozen=True)
class Change:
    """One changed file. `path` is absolute, as the container sees it."""

    path: str
    kind: Kind
