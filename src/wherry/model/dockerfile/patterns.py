"""Shell patterns of `*`, `?` and literal characters, matched in time that no pattern can blow up.

The places in a value that a pattern has reached so far are the bits of one integer; each token of the pattern moves
them all at once. As in Go's regular expressions, of which the reference makes them, neither wildcard matches a newline.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

_STAR, _ANY = "*", "?"
_Token = tuple[str, bool]
"""A character, and whether it is a wildcard."""


class InvalidPattern(ValueError):
    """A pattern that cannot be read."""


def without_prefix(value: str, pattern: str, longest: bool) -> str:
    """`${value#pattern}`, `##` if `longest`. Raises InvalidPattern."""
    return value[_prefix(value, _tokens(pattern), longest) :]


def without_suffix(value: str, pattern: str, longest: bool) -> str:
    """`${value%pattern}`, `%%` if `longest`. Raises InvalidPattern."""
    cut = _prefix(value[::-1], _tokens(pattern)[::-1], longest)
    return value[: len(value) - cut]


def replaced(value: str, pattern: str, replacement: str, everywhere: bool) -> str:
    """`${value/pattern/replacement}`, `//` if `everywhere`; leftmost matches, longest. Raises InvalidPattern."""
    tokens = _tokens(pattern)
    if not any(wild for _, wild in tokens) and tokens:
        literal = "".join(character for character, _ in tokens)
        return value.replace(literal, replacement, -1 if everywhere else 1)
    starts = _starts(value, tokens)
    result: list[str] = []
    position = previous_end = 0
    while True:
        ahead = starts >> position << position
        if not ahead:
            break
        start = (ahead & -ahead).bit_length() - 1
        end = _reached(value, tokens, 1 << start).bit_length() - 1
        if end > start or start != previous_end or not result:
            result += [value[previous_end:start], replacement]
            previous_end = end
        if not everywhere:
            break
        position = end if end > start else start + 1
    return "".join(result) + value[previous_end:]


@lru_cache(maxsize=64)
def _tokens(pattern: str) -> Sequence[_Token]:
    tokens: list[_Token] = []
    characters = iter(pattern)
    for character in characters:
        if character in (_STAR, _ANY):
            tokens.append((character, True))
            continue
        if character == "\\":
            escaped = next(characters, "")
            if not escaped or escaped not in "*?\\}/":
                raise InvalidPattern(f"invalid escape '\\{escaped}'")
            character = escaped
        tokens.append((character, False))
    return tuple(tokens)


def _prefix(value: str, tokens: Sequence[_Token], longest: bool) -> int:
    """How much of the value the pattern matches from its beginning; 0 also if it does not."""
    reached = _reached(value, tokens, 1)
    if not reached:
        return 0
    return (reached if longest else reached & -reached).bit_length() - 1


def _reached(value: str, tokens: Sequence[_Token], places: int) -> int:
    """The places at which a match that began at one of `places` can end."""
    sets = _Sets(value)
    for character, wild in tokens:
        if wild and character == _STAR:
            places = sets.onwards(places)
        elif wild:
            places = (places & ~sets.of("\n") & sets.inside) << 1
        else:
            places = (places & sets.of(character)) << 1
        if not places:
            break
    return places


def _starts(value: str, tokens: Sequence[_Token]) -> int:
    """The places at which some match begins: the pattern backwards over the value backwards."""
    size = len(value)
    backwards = _reached(value[::-1], tokens[::-1], (1 << (size + 1)) - 1)
    digits = bin(backwards)[2:].rjust(size + 1, "0")
    return int(digits[::-1], 2)


class _Sets:
    def __init__(self, value: str) -> None:
        self._value = value
        self._known: dict[str, int] = {}
        self.inside = (1 << len(value)) - 1

    def of(self, character: str) -> int:
        """The places right before that character."""
        found = self._known.get(character)
        if found is None:
            digits = "".join("1" if other == character else "0" for other in reversed(self._value))
            found = self._known[character] = int(digits or "0", 2)
        return found

    def onwards(self, places: int) -> int:
        """These and all after them up to the end of their line: steps over what is no newline, the stride doubling."""
        passable = self.inside & ~self.of("\n")
        stride = 1
        while stride <= len(self._value):
            places |= (places & passable) << stride
            passable &= passable >> stride
            stride *= 2
        return places
