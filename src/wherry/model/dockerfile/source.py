"""Places in a Dockerfile, and errors that show them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from wherry.errors import InvalidParameter

_BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
BLANK = re.compile(f"[{_BLANKS}]")
"""What Go's unicode.IsSpace calls a blank, which the reference's parser goes by."""
BLANKS = re.compile(f"[{_BLANKS}]+")
_LEADING = re.compile(f"[{_BLANKS}]+")


class Lines(Struct, frozen=True, order=True):
    """Lines of the file, the first of the file being 1, both ends included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first)


NOWHERE = Lines(0, 0)


class DockerfileError(InvalidParameter):
    """What is wrong with a Dockerfile, with the place where it is known.

    `str(error)` is the sentence in BuildKit's words. `framed` shows it as BuildKit's client does, source around it.
    """

    def __init__(self, message: str, lines: Lines | None = None) -> None:
        super().__init__(message)
        self.lines = lines
        self.place = (lines.first, lines.last) if lines is not None else None

    def at(self, lines: Lines) -> DockerfileError:
        """The same with a place, if it has none yet."""
        return self if self.lines is not None else type(self)(str(self), lines)

    def framed(self, name: str, text: str) -> str:
        """File and line, the source around it marked, then the sentence."""
        if self.lines is None:
            return str(self)
        return frame(name, text, self.lines) + f"\n{self}"


class ParseError(DockerfileError):
    """An instruction that cannot be understood; its message already names its line."""


def frame(name: str, text: str, lines: Lines) -> str:
    """The lines with two before and after, or one if they are several, those meant marked with an arrow."""
    source = text.split("\n")
    if not source:
        return ""
    first, last = max(lines.first, 1), max(lines.last, lines.first)
    around = 2 if first == last else 1
    top, bottom = max(first - around, 1), min(last + around, len(source))
    rule = "-" * 20
    shown = [
        f"{number:>4} | {'>>>' if first <= number <= last else '   '} {source[number - 1].rstrip(chr(13))}"
        for number in range(top, bottom + 1)
    ]
    return "\n".join([f"{name}:{first}", rule, *shown, rule])


def left_trimmed(text: str) -> str:
    """Without leading blanks in the sense of `BLANK`."""
    match = _LEADING.match(text)
    return text[match.end() :] if match else text


def trimmed(text: str) -> str:
    """Without blanks at both ends in the sense of `BLANK`."""
    text = left_trimmed(text)
    end = len(text)
    while end and BLANK.match(text[end - 1]):
        end -= 1
    return text[:end]


def nearest(word: str, options: Iterable[str], *, fold: bool = False) -> str:
    """The option that the word may have been meant to be, at most two edits away; "" if none, or if it is one."""
    wanted = word.lower() if fold else word
    best, distance = "", 3
    for option in sorted(options):
        candidate = option.lower() if fold else option
        if candidate == wanted:
            return ""
        found = _edits(wanted, candidate, distance)
        if found < distance:
            best, distance = option, found
    return best


def suggesting(message: str, word: str, options: Iterable[str], *, fold: bool = False) -> str:
    """The message, with "(did you mean x?)" if an option is near the word."""
    found = nearest(word, options, fold=fold)
    return f"{message} (did you mean {found}?)" if found else message


def _edits(left: str, right: str, bound: int) -> int:
    """Levenshtein's distance; anything from `bound` on may come out as `bound`."""
    if abs(len(left) - len(right)) >= bound:
        return bound
    row: Sequence[int] = range(len(right) + 1)
    for index, character in enumerate(left, 1):
        following = [index]
        for position, other in enumerate(right, 1):
            following.append(
                min(row[position] + 1, following[-1] + 1, row[position - 1] + (character != other)),
            )
        row = following
    return min(row[-1], bound)
