"""`history`: how an image was made."""

from __future__ import annotations

import time

from wherry.cli import paths
from wherry.cli.humanize import ellipsis, human_duration, human_size, short_id
from wherry.cli.listing import Listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.context import Context

    Step = dict[str, Any]

HEADERS = {
    "Comment": "COMMENT",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "CreatedSince": "CREATED",
    "ID": "IMAGE",
    "Size": "SIZE",
}
COLUMNS = ["ID", "CreatedSince", "CreatedBy", "Size", "Comment"]


def fields(whole: bool, human: bool, now: float) -> dict[str, Any]:
    """`whole` is --no-trunc, `human` --human."""

    def created_at(step: Step) -> str:
        if step["Created"] <= 0:
            return ""
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(step["Created"])) + _offset(step["Created"])

    def created_since(step: Step) -> str:
        if not human:
            return created_at(step)
        return "N/A" if step["Created"] <= 0 else human_duration(now - step["Created"]) + " ago"

    def created_by(step: Step) -> str:
        text = str(step.get("CreatedBy") or "").replace("\t", " ")
        return text if whole else ellipsis(text, 45)

    return {
        "Comment": lambda step: step.get("Comment") or "",
        "CreatedAt": created_at,
        "CreatedBy": created_by,
        "CreatedSince": created_since,
        "ID": lambda step: step["Id"] if whole else short_id(step["Id"]),
        "Size": lambda step: human_size(step["Size"], 3) if human else str(step["Size"]),
    }


def _offset(seconds: int) -> str:
    text = time.strftime("%z", time.localtime(seconds))
    return "Z" if text == "+0000" else f"{text[:3]}:{text[3:]}"


def run(context: Context) -> int:
    flags = context.flags
    form = flags.text("format")
    human = flags.on("human", True)
    listing = Listing("*formatter.historyContext", HEADERS, fields(flags.on("no-trunc"), human, time.time()))
    steps = context.engine.get(paths.of("image", context.arguments[0], "history")) or []
    headers = HEADERS if human else HEADERS | {"CreatedSince": HEADERS["CreatedAt"]}
    listing.headers = headers
    listing.show(steps, COLUMNS, form, quiet="ID" if flags.on("quiet") else "")
    return 0
