"""Lists of CPUs and memory nodes as the kernel writes them: "0-2,7" (cpuset(7))."""

from __future__ import annotations

from wherry.errors import InvalidParameter

MAXIMUM = 8192


def _number(text: str, whole: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InvalidParameter(f"invalid format: {whole}")
    number = int(text)
    if number > MAXIMUM:
        raise InvalidParameter(f"value of out range, maximum is {MAXIMUM}")
    return number


def parse(text: str) -> frozenset[int]:
    """The numbers of a list. Raises InvalidParameter, "invalid format: X"."""
    numbers: set[int] = set()
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        low = _number(first, text)
        high = _number(last, text) if dash else low
        if high < low:
            raise InvalidParameter(f"invalid format: {text}")
        numbers.update(range(low, high + 1))
    return frozenset(numbers)
