"""`.dockerignore`: reading it and deciding which paths stay out (build context reference, ".dockerignore files").

Rules, in the order in which they matter:

- Lines are cut at blanks, cleaned as paths (`a//b/../c` is `a/c`), and lose a leading `/`. `#` in the first column is a
  comment. `!` makes an exception; what comes later wins.
- `*`, `?` and `[...]` are those of Go's filepath.Match, `\\` escapes; `**` is any number of components, also none.
- A pattern that matches a directory goes for everything below it. An exception can take single paths below back in.

"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from msgspec import Struct

from wherry.errors import InvalidParameter
from wherry.model.gotext import quote

IGNORE_FILE = ".dockerignore"
_BYTE_ORDER_MARK = "\ufeff"


def ignore_file_names(dockerfile: str) -> tuple[str, str]:
    """Where the patterns for a Dockerfile are looked for, the first that exists being it."""
    return f"{dockerfile}{IGNORE_FILE}", IGNORE_FILE


def read_patterns(text: str) -> list[str]:
    """The patterns of an ignore file, cleaned. A line of only "!" stays, for `IgnoreRules` to refuse."""
    patterns: list[str] = []
    for index, line in enumerate(text.split("\n")):
        if index == 0:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if not pattern:
            continue
        negated = pattern.startswith("!")
        if negated:
            pattern = pattern[1:].strip()
        if pattern:
            pattern = _cleaned(pattern)
            if len(pattern) > 1 and pattern.startswith("/"):
                pattern = pattern[1:]
        patterns.append("!" + pattern if negated else pattern)
    return patterns


class IgnoreRules:
    """Which paths of a context stay out. Raises InvalidParameter for a pattern that cannot be read.

    Paths are relative to the context, with `/`. A walk asks `enter` of each directory with what its parent gave, and
    learns whether the directory stays out and what to ask its children with; nothing is matched twice.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns: list[_Pattern] = []
        for written in patterns:
            pattern = written.strip()
            if not pattern:
                continue
            negated = pattern.startswith("!")
            if negated:
                pattern = pattern[1:]
                if not pattern:
                    raise InvalidParameter('illegal exclusion pattern: "!"')
            pattern = _cleaned(pattern)
            if len(pattern) > 1 and pattern.startswith("/"):
                pattern = pattern[1:]
            try:
                self._patterns.append(_Pattern(pattern, negated, _matcher(pattern)))
            except (ValueError, re.error):
                raise InvalidParameter(f"error parsing pattern {quote(written)}: syntax error in pattern") from None
        self.has_exceptions = any(pattern.negated for pattern in self._patterns)
        self.root = Matched(())

    def __bool__(self) -> bool:
        return bool(self._patterns)

    @property
    def patterns(self) -> tuple[str, ...]:
        """As they are matched."""
        return tuple("!" * pattern.negated + pattern.text for pattern in self._patterns)

    def enter(self, path: str, parent: Matched) -> Matched:
        """What the patterns say of a path, given what they said of the directory that holds it."""
        hits: list[bool] = []
        ignored = False
        for index, pattern in enumerate(self._patterns):
            hit = bool(parent.hits) and parent.hits[index]
            if not hit and pattern.negated == ignored:
                hit = bool(pattern.matches(path))
            hits.append(hit)
            if hit:
                ignored = not pattern.negated
        return Matched(tuple(hits), ignored)

    def ignores(self, path: str) -> bool:
        """Whether a path stays out, looking at its parents too."""
        parts = path.split("/")
        matched = self.root
        for depth in range(1, len(parts) + 1):
            matched = self.enter("/".join(parts[:depth]), matched)
        return matched.ignored

    def may_hold_exceptions(self, directory: str) -> bool:
        """Whether a directory that stays out must be walked all the same, since an exception may name a path below."""
        parts = directory.split("/")
        return any(pattern.negated and pattern.may_match_below(parts) for pattern in self._patterns)


class Matched(Struct, frozen=True):
    """What each pattern said of a path, and what follows."""

    hits: tuple[bool, ...]
    ignored: bool = False


class _Pattern(Struct, frozen=True):
    text: str
    negated: bool
    matches: Callable[[str], object]

    def may_match_below(self, directory: Sequence[str]) -> bool:
        """Component by component; from the first `**` on all is possible."""
        parts = self.text.split("/")
        for part, component in zip(parts, directory, strict=False):
            if "**" in part:
                return True
            if not _component(part)(component):
                return False
        return len(parts) > len(directory)


@lru_cache(maxsize=256)
def _component(part: str) -> Callable[[str], object]:
    """Of one component; brackets that hold a slash are never sure."""
    try:
        return _matcher(part)
    except (ValueError, re.error):
        return lambda component: True


_WILDCARD = re.compile(r"[*?\[\\]")
_MOST_INNER = 3
"""`**` inside a component, as in `a**b`, can only be matched by trial; more of them in one pattern are refused."""


def _matcher(pattern: str) -> Callable[[str], object]:
    """Raises ValueError."""
    _check_as_path_match(pattern)
    if not _WILDCARD.search(pattern):
        return pattern.__eq__
    if pattern == "**":
        return lambda path: True
    rest = pattern[2:]
    if pattern.startswith("**") and not _WILDCARD.search(rest):
        name = rest.removeprefix("/")
        if rest != name:
            return lambda path: path.endswith(rest) or path == name
        return lambda path: path.endswith(rest)
    return re.compile(_expression(_tokens(pattern)), re.DOTALL).fullmatch


def _check_as_path_match(pattern: str) -> None:
    """What Go's filepath.Match calls a bad pattern: unended brackets, empty or reversed ranges, a last `\\`."""
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "\\":
            if position == len(pattern):
                raise ValueError
            position += 1
        elif character == "[":
            position += pattern.startswith("^", position)
            ranges = 0
            while not (ranges and pattern.startswith("]", position)):
                position = _past_class_character(pattern, position)
                if pattern[position] == "-":
                    position = _past_class_character(pattern, position + 1)
                ranges += 1
            position += 1


def _past_class_character(pattern: str, position: int) -> int:
    if position >= len(pattern) or pattern[position] in "-]":
        raise ValueError
    position += 1 + (pattern[position] == "\\")
    if position >= len(pattern):
        raise ValueError
    return position


_STAR, _DEEP, _ALL = "*", "**", "**$"


def _tokens(pattern: str) -> list[str]:
    """Wildcards, and expressions that match exactly one character."""
    tokens: list[str] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        match character:
            case "*" if pattern.startswith("*", position):
                position += 1
                position += pattern.startswith("/", position)
                tokens.append(_DEEP if position < len(pattern) else _ALL)
            case "*":
                tokens.append(_STAR)
            case "?":
                tokens.append("[^/]")
            case "[":
                end = _class_end(pattern, position)
                tokens.append(f"[{_class(pattern[position:end])}]")
                position = end + 1
            case "\\":
                tokens.append(re.escape(pattern[position]))
                position += 1
            case _:
                tokens.append(re.escape(character))
    return tokens


def _class_end(pattern: str, position: int) -> int:
    position += pattern.startswith("^", position)
    while pattern[position] != "]":
        position += 1 + (pattern[position] == "\\")
    return position


def _class(inside: str) -> str:
    """The inside of brackets for Python, in which more characters are special."""
    negated = inside.startswith("^")
    out = ["^"] if negated else []
    position = int(negated)
    while position < len(inside):
        character = inside[position]
        if character == "\\":
            position += 1
            out.append(re.escape(inside[position]))
        elif character == "-":
            out.append("-")
        else:
            out.append(re.escape(character))
        position += 1
    return "".join(out)


def _expression(tokens: Sequence[str]) -> str:
    """A regular expression that does not go back over what it has matched, so that no pattern is slow.

    The first place where a part fits is as good as any later one, if what follows may begin anywhere after it: before a
    `*`, and before a `**` that begins a component.
    """
    segments: list[list[str]] = [[]]
    for token in tokens:
        if token == _DEEP:
            segments.append([])
        else:
            segments[-1].append(token)
    parts = []
    inner = 0
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        whole = not last and (not segment or segment[-1] == "/")
        inner += not last and not whole
        text = _within(segment)
        if index == 0:
            parts.append(f"(?>{text})" if whole else text)
        else:
            parts.append(f"(?>(?:.*?/)??{text})" if whole else f"(?:.*/)?{text}")
    if inner > _MOST_INNER:
        raise ValueError
    return "".join(parts)


def _within(tokens: Sequence[str]) -> str:
    """A part without `**` inside: each `*` but the last with the characters after it, taken where they come first."""
    parts: list[str] = []
    pieces: list[list[str]] = [[]]
    for token in tokens:
        if token == _STAR:
            pieces.append([])
        else:
            pieces[-1].append(".*" if token == _ALL else token)
    parts.append("".join(pieces[0]))
    for index, piece in enumerate(pieces[1:], 1):
        text = "".join(piece)
        parts.append(f"[^/]*{text}" if index == len(pieces) - 1 else f"(?>[^/]*?{text})")
    return "".join(parts)


def _cleaned(path: str) -> str:
    """Go's filepath.Clean."""
    cleaned = posixpath.normpath(path)
    return "/" + cleaned.lstrip("/") if cleaned.startswith("/") else cleaned
