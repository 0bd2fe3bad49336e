"""Searching registries: what is asked, and which of the answers are wanted. Pure.

Source: the real engine's answers (API 1.45, `GET /images/search`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wherry.errors import InvalidParameter
from wherry.model.filters import Filters
from wherry.model.reference import DEFAULT_DOMAIN

DEFAULT_LIMIT = 25
FILTERS = frozenset(("is-automated", "is-official", "stars"))


@dataclass(frozen=True)
class Found:
    """One repository."""

    name: str
    description: str = ""
    stars: int = 0
    official: bool = False


@dataclass(frozen=True)
class Wanted:
    """What the filters leave. Nothing is automated any more: Docker Hub has given that up."""

    official: bool | None = None
    automated: bool = False
    stars: int = 0

    def choose(self, found: Iterable[Found]) -> list[Found]:
        if self.automated:
            return []
        return [
            each
            for each in found
            if each.stars >= self.stars and (self.official is None or each.official == self.official)
        ]


def wanted(filters: Filters) -> Wanted:
    """Raises InvalidParameter in Docker's words."""
    filters.validate(FILTERS)
    official = filters.boolean("is-official", False) if "is-official" in filters else None
    return Wanted(official, filters.boolean("is-automated", False), max(map(_stars, filters.get("stars")), default=0))


def check_limit(limit: int) -> int:
    """Raises InvalidParameter."""
    if limit == 0:
        return DEFAULT_LIMIT
    if not 1 <= limit <= 100:
        raise InvalidParameter(f"limit {limit} is outside the range of [1, 100]")
    return limit


def split_term(term: str) -> tuple[str, str]:
    """The registry's domain and what to look for there: `localhost:5000/web`; Docker Hub without a domain.

    Raises InvalidParameter.
    """
    if "://" in term:
        raise InvalidParameter(f"invalid repository name: repository name ({term}) should not have a scheme")
    first, slash, rest = term.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return DEFAULT_DOMAIN, term
    if first in (DEFAULT_DOMAIN, "index.docker.io"):
        return DEFAULT_DOMAIN, rest.removeprefix("library/")
    return first, rest


def _stars(text: str) -> int:
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise InvalidParameter(f"invalid filter 'stars={text}': strconv.Atoi: parsing \"{text}\": invalid syntax")
    return int(text)
