"""`prune` of containers, images, networks and volumes: ask, remove, say what was freed."""

from __future__ import annotations

import sys

from wherry.cli.errors import Failure
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
    return _yes()


def system(context: Context) -> int:
    """All of them, one after another, as the engine's parts go: containers first, since they hold the rest."""
    flags = context.flags
    everything, with_volumes = flags.on("all"), flags.on("volumes")
    wanted = flags.pairs("filter")
    if with_volumes and "until" in wanted:
        raise Failure('ERROR: The "until" filter is not supported with "--volumes"')
    if not flags.on("force"):
        sys.stdout.write(_warning(everything, with_volumes, wanted))
        if not _yes():
            return 0
    freed = 0
    for kind, title, key in (
        ("containers", "Deleted Containers:", "ContainersDeleted"),
        ("networks", "Deleted Networks:", "NetworksDeleted"),
        *([("volumes", "Deleted Volumes:", "VolumesDeleted")] if with_volumes else []),
    ):
        found = _prune(context, kind, wanted)
        _report(title, found.get(key) or [], None)
        freed += found.get("SpaceReclaimed", 0)
    found = _prune(context, "images", {**wanted, "dangling": ["false" if everything else "true"]})
    _report("Deleted Images:", _deleted_images(found), None)
    freed += found.get("SpaceReclaimed", 0)
    query = {"all": everything or None, "filters": filters(wanted) or {}}
    found = context.engine.post("/build/prune", query) or {}
    _report("Deleted build cache objects:", found.get("CachesDeleted") or [], None)
    freed += found.get("SpaceReclaimed", 0)
    print(f"Total reclaimed space: {human_size(freed)}")
    return 0


def _warning(everything: bool, with_volumes: bool, wanted: dict[str, list[str]]) -> str:
    items = ["all stopped containers", "all networks not used by at least one container"]
    if with_volumes:
        items.append("all anonymous volumes not used by at least one container")
    items.append(
        "all images without at least one container associated to them" if everything else "all dangling images"
    )
    items.append("all build cache" if everything else "unused build cache")
    lines = ["WARNING! This will remove:", *[f"  - {item}" for item in items], ""]
    if wanted:
        given = sorted(f"{key}={value}" for key, values in wanted.items() for value in values)
        lines += ["  Items to be pruned will be filtered with:", *[f"  - {item}" for item in given], ""]
    return "\n".join([*lines, "Are you sure you want to continue? [y/N] "])


def _yes() -> bool:
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
    _report("Deleted Images:", _deleted_images(found), found.get("SpaceReclaimed", 0))
    return 0


def _deleted_images(found: dict[str, Any]) -> list[str]:
    return [
        f"untagged: {item['Untagged']}" if item.get("Untagged") else f"deleted: {item['Deleted']}"
        for item in found.get("ImagesDeleted") or ()
    ]


def networks(context: Context) -> int:
    if not confirmed(context, "This will remove all custom networks not used by at least one container."):
        return 0
    found = _prune(context, "networks", context.flags.pairs("filter"))
    _report("Deleted Networks:", found.get("NetworksDeleted") or [], None)
    return 0


def volumes(context: Context) -> int:
    everything = context.flags.on("all")
    if everything and "all" in context.flags.pairs("filter"):
        raise Failure("conflicting options: cannot specify both --all and --filter all=1")
    which = "all local volumes" if everything else "anonymous local volumes"
    if not confirmed(context, f"This will remove {which} not used by at least one container."):
        return 0
    wanted = context.flags.pairs("filter")
    if everything:
        wanted["all"] = ["true"]
    found = _prune(context, "volumes", wanted)
    _report("Deleted Volumes:", found.get("VolumesDeleted") or [], found.get("SpaceReclaimed", 0))
    return 0


def build_cache(context: Context) -> int:
    flags = context.flags
    everything = flags.on("all")
    if not flags.on("force"):
        what = "all build cache" if everything else "all dangling build cache"
        sys.stdout.write(f"WARNING! This will remove {what}. Are you sure you want to continue? [y/N] ")
        if not _yes():
            return 0
    kept = max(flags.number("keep-storage"), flags.number("max-used-space"))
    query = {"all": everything or None, "filters": filters(flags.pairs("filter")) or {}, "keep-storage": kept or None}
    found = context.engine.post("/build/prune", query) or {}
    _report("ID", found.get("CachesDeleted") or [], None)
    print(f"Total:\t{human_size(found.get('SpaceReclaimed', 0))}")
    return 0
