"""An image as a cache by what its history says, as the classic builder uses images.

A step is found if all before it are, and the image's history has it in the same words; what it came to are the image's
layers up to there. Nothing else is known of how they came to be: who builds named the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wherry.model.build_caches import Result
from wherry.model.build_graph import HistoryStep, Vertex
from wherry.model.image import Image, rfc3339_ns

Same = Callable[[HistoryStep, str], bool]
"""Whether an entry's words are those of a step, and tell all that it does. May block."""


@dataclass(frozen=True)
class Matched:
    """How many steps are found, what vertices came to, and whether the image is nothing but these steps."""

    steps: int
    results: dict[Vertex, Result]
    whole: bool


def match(steps: Sequence[HistoryStep], base: Image | None, image: Image, same: Same) -> Matched:
    """`steps` are those on top of the base. May block."""
    below = list(base.history) if base is not None else []
    height = len(base.diff_ids) if base is not None else 0
    if image.history[: len(below)] != below or (base is not None and image.diff_ids[:height] != base.diff_ids):
        return Matched(0, {}, whole=False)
    results: dict[Vertex, Result] = {}
    entries = image.history[len(below) :]
    found = 0
    for step, entry in zip(steps, entries, strict=False):
        if not same(step, entry.created_by):
            break
        height += not entry.empty_layer
        diff_ids = tuple(image.diff_ids[:height])
        if step.vertex is not None and diff_ids:
            results[step.vertex] = Result(diff_ids, rfc3339_ns(entry.created or "") or 0)
        found += 1
    whole = found == len(steps) == len(entries) and height == len(image.diff_ids) and found > 0
    return Matched(found, results, whole)
