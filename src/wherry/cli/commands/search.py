"""`search`."""

from __future__ import annotations

from wherry.cli.credentials import header_for, key_of
from wherry.cli.errors import Failure
from wherry.cli.humanize import ellipsis
from wherry.cli.listing import Listing, filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.context import Context

    Found = dict[str, Any]

HEADERS = {"Description": "DESCRIPTION", "IsOfficial": "OFFICIAL", "Name": "NAME", "StarCount": "STARS"}
COLUMNS = ["Name", "Description", "StarCount", "IsOfficial"]


def fields(whole: bool, table: bool) -> dict[str, Any]:
    """`whole` is --no-trunc; in a `table` what is official is marked."""

    def description(found: Found) -> str:
        text = str(found.get("description") or "").replace("\n", " ").replace("\r", " ")
        return text if whole else ellipsis(text, 45)

    def official(found: Found) -> str:
        if table:
            return "[OK]" if found.get("is_official") else ""
        return "true" if found.get("is_official") else "false"

    return {
        "Description": description,
        "IsOfficial": official,
        "Name": lambda found: found.get("name") or "",
        "StarCount": lambda found: str(found.get("star_count") or 0),
    }


def run(context: Context) -> int:
    flags = context.flags
    term = context.arguments[0]
    form = flags.text("format")
    listing = Listing(
        "*registry.searchContext",
        HEADERS,
        fields(flags.on("no-trunc"), form in ("", "table") or form.startswith("table")),
    )
    try:
        listing.probe(form)
    except Failure as failure:
        raise Failure(failure.text.replace("failed to execute template", "template parsing error", 1)) from None
    limit = flags.number("limit")
    query = {"term": term, "limit": limit if limit > 0 else None, "filters": filters(flags.pairs("filter"))}
    response = context.engine.open("GET", "/images/search", query, headers=header_for(_registry(term)))
    from wherry.model.jsontext import loads

    found = loads(context.engine.finish(response)) or []
    found.sort(key=lambda each: -int(each.get("star_count") or 0))
    listing.show(found, COLUMNS, form)
    return 0


def _registry(term: str) -> str:
    """The key of the registry that a term names."""
    first, slash, _ = term.partition("/")
    named = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return key_of(first if named else "")
