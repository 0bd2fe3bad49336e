"""`prune` of containers, images, networks and volumes: ask, remove, say what was freed."""

from __future__ import annotations

import sys

from wherry.cli.humanize import human_size
from wherry.cli.listing import filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.context import Context


def confirmed(context: Context, warning: str) -> bool:
    """Whether the user says yes to the warning; --force does not ask."""
    if context.flags.on("force"):
        return True
    sys.stdout.write(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _prune(context: Context, kind: str, wanted: dict[str, list[str]]) -> dict[str, Any]:
    return context.engine.post(f"/{kind}/prune", {"filters": filters(wanted) or {}}) or {}


def _report(title: str, lines: list[str], freed: int | None) -> None:
    out = [title, *lines, ""] if lines else []
    if freed is not None:
        out.append(f"Total reclaimed space: {human_size(freed)}")
    if out:
        print("\n".join(out))


def containers(context: Context) -> int:
    if not confirmed(context, "This will remove all stopped containers."):
        return 0
    found = _prune(context, "containers", context.flags.pairs("filter"))
    _report("Deleted Containers:", found.get("ContainersDeleted") or [], found.get("SpaceReclaimed", 0))
    return 0


def images(context: Context) -> int:
    everything = context.flags.on("all")
    warning = "This will remove all dangling images."
    if everything:
        warning = "This will remove all images without at least one container associated to them."
    if not confirmed(context, warning):
        return 0
    wanted = {**context.flags.pairs("filter"), "dangling": ["false" if everything else "true"]}
    found = _prune(context, "images", wanted)
    lines = [
        f"untagged: {item['Untagged']}" if item.get("Untagged") else f"deleted: {item['Deleted']}"
        for item in found.get("ImagesDeleted") or ()
    ]
    _report("Deleted Images:", lines, found.get("SpaceReclaimed", 0))
    return 0


def networks(context: Context) -> int:
    if not confirmed(context, "This will remove all custom networks not used by at least one container."):
        return 0
    found = _prune(context, "networks", context.flags.pairs("filter"))
    _report("Deleted Networks:", found.get("NetworksDeleted") or [], None)
    return 0


def volumes(context: Context) -> int:
    everything = context.flags.on("all")
    which = "all local volumes" if everything else "anonymous local volumes"
    if not confirmed(context, f"This will remove {which} not used by at least one container."):
        return 0
    wanted = context.flags.pairs("filter")
    if everything:
        wanted["all"] = ["true"]
    found = _prune(context, "volumes", wanted)
    _report("Deleted Volumes:", found.get("VolumesDeleted") or [], found.get("SpaceReclaimed", 0))
    return 0
