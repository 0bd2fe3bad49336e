"""`images`, `rmi`, `tag`."""

from __future__ import annotations

import sys
import time

from wherry.cli import paths
from wherry.cli.commands.ps import created_at
from wherry.cli.errors import Failure
from wherry.cli.humanize import human_duration, human_size, short_id
from wherry.cli.listing import Listing, filters
from wherry.client.engine import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.context import Context

    Row = dict[str, Any]

NONE = "<none>"
HEADERS = {
    "Containers": "CONTAINERS",
    "CreatedAt": "CREATED AT",
    "CreatedSince": "CREATED",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "SharedSize": "SHARED SIZE",
    "Size": "SIZE",
    "Tag": "TAG",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "VIRTUAL SIZE",
}


def fields(whole: bool, now: float) -> dict[str, Any]:
    def size(value: int, precision: int = 3) -> str:
        return "N/A" if value == -1 else human_size(value, precision)

    def unique(row: Row) -> str:
        if row["SharedSize"] == -1:
            return "N/A"
        return human_size(row["Size"] - row["SharedSize"])

    return {
        "Containers": lambda row: "N/A" if row["Containers"] == -1 else str(row["Containers"]),
        "CreatedAt": lambda row: created_at(row["Created"]),
        "CreatedSince": lambda row: "N/A" if row["Created"] <= 0 else human_duration(now - row["Created"]) + " ago",
        "Digest": lambda row: row["digest"],
        "ID": lambda row: row["Id"] if whole else short_id(row["Id"]),
        "Repository": lambda row: row["repository"],
        "SharedSize": lambda row: size(row["SharedSize"], 4),
        "Size": lambda row: size(row["Size"]),
        "Tag": lambda row: row["tag"],
        "UniqueSize": unique,
        "VirtualSize": lambda row: size(row["Size"], 4),
    }


def _split_tag(name: str) -> tuple[str, str]:
    repository, _, tag = name.rpartition(":")
    return repository, tag


def rows(image: dict[str, Any], digests: bool) -> list[Row]:
    """The lines an image takes: one a tag, and with `digests` one a digest; one with <none> where it has no name."""
    base = {"Containers": -1, "SharedSize": -1, "Created": 0, "Size": 0, **image}
    tags: dict[str, list[str]] = {}
    known: dict[str, list[str]] = {}
    for name in image.get("RepoTags") or ():
        repository, tag = _split_tag(name)
        if repository != NONE:
            tags.setdefault(repository, []).append(tag)
    for name in image.get("RepoDigests") or ():
        repository, _, digest = name.partition("@")
        if repository != NONE:
            known.setdefault(repository, []).append(digest)
    found = []
    for repository, names in tags.items():
        shown = (known.get(repository) or [NONE]) if digests else [""]
        found += [(repository, tag, digest) for tag in names for digest in shown]
    for repository, values in known.items():
        if repository not in tags:
            found += [(repository, NONE, digest) for digest in (values if digests else [""])]
    if not found:
        found = [(NONE, NONE, NONE)]
    return [{**base, "repository": r, "tag": t, "digest": d} for r, t, d in found]


def run(context: Context) -> int:
    flags = context.flags
    if flags.on("tree"):
        return _tree(context)
    form = flags.text("format")
    listing = Listing("*formatter.imageContext", HEADERS, fields(flags.on("no-trunc"), time.time()))
    used = listing.probe(form) if form else set()
    wanted = flags.pairs("filter")
    if context.arguments:
        wanted["reference"] = [context.arguments[0]]
    query = {"all": flags.on("all") or None, "filters": filters(wanted)}
    found = context.engine.get("/images/json", query) or []
    digests = flags.on("digests") or "Digest" in used or form == "json"
    columns = ["Repository", "Tag", *(["Digest"] if flags.on("digests") else []), "ID", "CreatedSince", "Size"]
    lines = [row for image in found for row in rows(image, digests)]
    listing.show(lines, columns, form, quiet="ID" if flags.on("quiet") else "")
    return 0


def _tree(context: Context) -> int:
    from wherry.cli.commands import imagetree

    flags = context.flags
    for name in ("quiet", "no-trunc", "digests"):
        if flags.on(name):
            told = "show-digest" if name == "digests" else name
            raise Failure(f"--{told} is not yet supported with --tree")
    if flags.text("format"):
        raise Failure("--format is not yet supported with --tree")
    wanted = flags.pairs("filter")
    if context.arguments:
        wanted["reference"] = [context.arguments[0]]
    query = {"all": flags.on("all") or None, "filters": filters(wanted), "manifests": True}
    imagetree.show(context.engine.get("/images/json", query) or [], flags.on("all"))
    return 0


def remove(context: Context) -> int:
    flags = context.flags
    force = flags.on("force")
    query: dict[str, Any] = {"force": force or None, "noprune": flags.on("no-prune") or None}
    if flags.items("platform"):
        from wherry.cli.commands.archives import platform_json

        context.needs("platform", 50)
        query["platforms"] = [platform_json(text) for text in flags.items("platform")]
    problems, fatal = [], False
    for name in context.arguments:
        try:
            removed = context.engine.call("DELETE", paths.of("image", name), query) or []
        except EngineError as error:
            problems.append(f"Error response from daemon: {error.message}")
            fatal = fatal or error.status != 404
            continue
        for item in removed:
            if "Deleted" in item:
                print(f"Deleted: {item['Deleted']}")
            else:
                print(f"Untagged: {item['Untagged']}")
        sys.stdout.flush()
    if problems and (not force or fatal):
        raise Failure("\n".join(problems))
    if problems:
        print("\n".join(problems), file=sys.stderr)
    return 0


def tag(context: Context) -> int:
    from wherry.errors import WherryError
    from wherry.model.reference import parse

    source, target = context.arguments
    try:
        reference = parse(target)
    except WherryError as error:
        from wherry.model.gotext import quote

        raise Failure(f"Error parsing reference: {quote(target)} is not a valid repository/tag: {error}") from None
    if reference.digest:
        raise Failure("refusing to create a tag with a digest reference")
    query = {"repo": reference.familiar_name, "tag": reference.tag or "latest"}
    context.engine.post(paths.of("image", source, "tag"), query)
    return 0
