"""Which containers a prune takes."""

from __future__ import annotations

from collections.abc import Callable

from wherry.model.container import Container
from wherry.model.filters import Filters
from wherry.model.timestamps import parse_when

ACCEPTED = frozenset({"label", "label!", "until"})


def prune_selection(filters: Filters) -> Callable[[Container], bool]:
    """A predicate on stopped containers. Raises InvalidParameter for filters that prune does not know."""
    filters.validate(ACCEPTED)
    moments = [parse_when(value) for value in filters.get("until")]

    def selected(container: Container) -> bool:
        labels = container.config.labels or {}
        if any(container.created_at >= moment for moment in moments):
            return False
        if "label!" in filters and filters.labels("label!", labels):
            return False
        return filters.labels("label", labels)

    return selected
