"""The configuration document of an image that was built (OCI image-spec config.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from wherry.engine.builds.solving import Known
from wherry.engine.builds.trees import Tree
from wherry.model.build_caches import INLINE
from wherry.model.build_graph import Target, Vertex
from wherry.model.image import History, Image
from wherry.model.timestamps import rfc3339_nano


def document(
    target: Target,
    tree: Tree,
    known: Mapping[Vertex, Known],
    base: Image | None,
    now_ns: int,
    epoch: int | None,
    cache: str = "",
) -> bytes:
    """The document. The same build from the cache has the same one: a step's time is when its layer was made.

    Steps that made no layer have the time of the step before, those before all layers that of the first; `now_ns` is
    only for an image whose steps made none. With an `epoch` that is the time of all steps. `cache` are the records of
    an inline cache.
    """
    steps = _steps(target, tree, known, list(base.diff_ids) if base is not None else [])
    before = list(base.history) if base is not None else []
    times = [time if epoch is None else epoch * 10**9 for time in _times(steps, now_ns, base)]
    history = [
        msgspec.structs.replace(entry, created=rfc3339_nano(time))
        for (entry, _), time in zip(steps, times, strict=True)
    ]
    created = history[-1].created if history else (base.created if base is not None else rfc3339_nano(now_ns))
    made: dict[str, Any] = {"architecture": "", "config": {}, "created": created}
    made |= {key: value for key, value in target.config.items() if key not in ("rootfs", "history", "created")}
    made["created"] = created
    made["history"] = [*before, *history]
    made["os"] = made.pop("os", "linux")
    made["rootfs"] = {"type": "layers", "diff_ids": list(tree.diff_ids)}
    if cache:
        made[INLINE] = cache
    return msgspec.json.encode(made)


def _steps(target: Target, tree: Tree, known: Mapping[Vertex, Known], below: list[str]) -> list[tuple[History, int]]:
    """The entries, and when each one's layer was made, 0 for those without one."""
    found: list[tuple[History, int]] = []
    height = len(below)
    for step in target.history:
        state = known.get(step.vertex) if step.vertex is not None else None
        added = 0
        if state is not None:
            added = len(state.tree.diff_ids) - height
        elif step.vertex is not None:  # forgotten by the cache: it made a layer if there is one for it
            added = min(1, len(tree.diff_ids) - height)
        entry = History(created_by=step.created_by, comment=step.comment, author=step.author, empty_layer=added <= 0)
        found.append((entry, state.created_ns if state is not None and added > 0 else 0))
        more = History(created_by=step.created_by, comment=step.comment)
        found.extend((more, state.created_ns if state is not None else 0) for _ in range(added - 1))
        height += max(added, 0)
    rest = len(tree.diff_ids) - height
    return [*found, *[(History(comment="layer of a merged tree"), 0)] * rest]


def _times(steps: list[tuple[History, int]], now_ns: int, base: Image | None) -> list[int]:
    first = next((time for _, time in steps if time), 0)
    current = first or (base.created_ns if base is not None else 0) or now_ns
    times = []
    for _, time in steps:
        current = time or current
        times.append(current)
    return times
