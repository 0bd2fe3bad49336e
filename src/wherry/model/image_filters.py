"""Which images a list or a prune means: the filters of /images/json and /images/prune, as the real engine has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from wherry.errors import InvalidParameter, SystemFailure
from wherry.model.filters import Filters
from wherry.model.image import Image
from wherry.model.reference import Reference
from wherry.model.timestamps import parse_when

LIST_FILTERS = frozenset(("dangling", "label", "before", "since", "reference", "until"))
PRUNE_FILTERS = frozenset(("dangling", "label", "label!", "until"))
_NOTHING = r"\0"  # a range that is upside down holds nothing; NUL is in no name


@dataclass(frozen=True)
class Listed:
    """An image and the names to show."""

    image: Image
    repo_tags: list[str]
    repo_digests: list[str]


def select(
    images: Iterable[Image],
    filters: Filters,
    *,
    all: bool,
    resolve: Callable[[str], Image],
    references: Callable[[str], list[Reference]],
    beneath: Collection[str],
) -> list[Listed]:
    """The images to list, newest first. `beneath` are the IDs of intermediate ones, which others were built on, and of
    those that a name stands for beside another one.

    Raises InvalidParameter, NotFound (before, since), SystemFailure (until, reference: the real engine answers 500).
    """
    filters.validate(LIST_FILTERS)
    dangling = filters.boolean("dangling", False)
    before = min((resolve(ref).created_ns for ref in filters.get("before")), default=None)
    since = max((resolve(ref).created_ns for ref in filters.get("since")), default=None)
    until = until_ns(filters)
    if until is not None:
        before = until if before is None else min(before, until)
    patterns = [pattern(text) for text in filters.get("reference")]
    found = []
    for image in images:
        if (before is not None and image.created_ns >= before) or (since is not None and image.created_ns <= since):
            continue
        if not filters.labels("label", image.config.labels or {}):
            continue
        names = [name for name in references(image.id) if not patterns or any(_matches(p, name) for p in patterns)]
        if names and dangling:
            continue
        if not names and (patterns or (not all and image.id in beneath) or ("dangling" in filters and not dangling)):
            continue
        found.append(
            Listed(image, [n.familiar for n in names if not n.digest], [n.familiar for n in names if n.digest])
        )
    return sorted(found, key=lambda listed: listed.image.created_ns, reverse=True)


def until_ns(filters: Filters) -> int | None:
    """The moment of `until`, None without it. Raises SystemFailure (500, as the real engine), InvalidParameter."""
    values = filters.get("until")
    if not values:
        return None
    if len(values) > 1:
        raise InvalidParameter("more than one until filter specified")
    try:
        return parse_when(values[0])
    except InvalidParameter as error:
        raise SystemFailure(str(error)) from None


def prunable(image: Image, filters: Filters, until: int | None) -> bool:
    """Whether prune's filters let this image go; that it is unused is for others to say."""
    labels = image.config.labels or {}
    if until is not None and image.created_ns >= until:
        return False
    if not filters.labels("label", labels):
        return False
    return "label!" not in filters or not filters.labels("label!", labels)


def pattern(text: str) -> re.Pattern[str]:
    """A shell pattern as Go's path.Match has it: `*` and `?` stop at a slash.

    Raises SystemFailure ("syntax error in pattern").
    """
    out = ""
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "*":
            out += "[^/]*"
        elif character == "?":
            out += "[^/]"
        elif character == "[":
            piece, position = _class(text, position)
            out += piece
        elif character == "\\":
            if position == len(text):
                raise SystemFailure("syntax error in pattern")
            out += re.escape(text[position])
            position += 1
        else:
            out += re.escape(character)
    return re.compile(out, re.DOTALL)


def _class(text: str, position: int) -> tuple[str, int]:
    negated = text[position : position + 1] == "^"
    position += negated
    out = ""
    while True:
        if out and text[position : position + 1] == "]":
            return f"[{'^' if negated else ''}{out}]", position + 1
        first, position = _member(text, position)
        if text[position : position + 1] == "-":
            last, position = _member(text, position + 1)
            out += f"{re.escape(first)}-{re.escape(last)}" if first <= last else _NOTHING
        else:
            out += re.escape(first)


def _member(text: str, position: int) -> tuple[str, int]:
    character = text[position : position + 1]
    if character in ("", "-", "]"):
        raise SystemFailure("syntax error in pattern")
    if character == "\\":
        position += 1
        character = text[position : position + 1]
        if not character:
            raise SystemFailure("syntax error in pattern")
    return character, position + 1


def _matches(expression: re.Pattern[str], name: Reference) -> bool:
    return bool(expression.fullmatch(name.familiar) or expression.fullmatch(name.familiar_name))
