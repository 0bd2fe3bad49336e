"""Wildcards in the names of files, as Go's path/filepath.Match reads them: `*`, `?`, `[a-z]`, `[^a]`, backslash."""

from __future__ import annotations

import re
from functools import lru_cache

from wherry.errors import InvalidParameter


def has_wildcard(path: str) -> bool:
    """Whether a path would be matched rather than taken literally."""
    return any(character in path for character in "*?[\\")


@lru_cache(maxsize=256)
def name_pattern(pattern: str) -> re.Pattern[str]:
    """Of one component of a path. Raises InvalidParameter ("syntax error in pattern")."""
    out: list[str] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            out.append("[^/]*")
        elif character == "?":
            out.append("[^/]")
        elif character == "\\":
            if position == len(pattern):
                raise _bad(pattern)
            out.append(re.escape(pattern[position]))
            position += 1
        elif character == "[":
            text, position = _class(pattern, position)
            out.append(text)
        else:
            out.append(re.escape(character))
    return re.compile("".join(out), re.DOTALL)


def _class(pattern: str, position: int) -> tuple[str, int]:
    negated = pattern.startswith("^", position)
    position += negated
    parts: list[str] = []
    while True:
        if parts and pattern.startswith("]", position):
            return f"[{'^/' if negated else ''}{''.join(parts)}]", position + 1
        low, position = _member(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _member(pattern, position + 1)
        if low <= high:
            parts.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            parts.append("")  # an empty range matches nothing
        if not any(parts) and pattern.startswith("]", position):
            return ("[^/]" if negated else r"(?!)"), position + 1


def _member(pattern: str, position: int) -> tuple[str, int]:
    if position >= len(pattern) or pattern[position] in "-]":
        raise _bad(pattern)
    if pattern[position] == "\\":
        position += 1
        if position >= len(pattern):
            raise _bad(pattern)
    return pattern[position], position + 1


def _bad(pattern: str) -> InvalidParameter:
    return InvalidParameter(f"syntax error in pattern: {pattern}")
