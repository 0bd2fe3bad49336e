"""Signals by name and number, as written in `--stop-signal` and `kill` (signal(7))."""

from __future__ import annotations

import re
import signal

from wherry.errors import InvalidParameter

RTMIN, RTMAX = 34, 64  # what glibc leaves to programs
_OTHER_NAMES = {"CLD": 17, "IO": 29, "IOT": 6, "POLL": 29, "STKFLT": 16, "UNUSED": 31}

NUMBERS: dict[str, int] = {
    **{member.name.removeprefix("SIG"): int(member) for member in signal.Signals if int(member) < 32},
    **_OTHER_NAMES,
    "RTMIN": RTMIN,
    "RTMAX": RTMAX,
    **{f"RTMIN+{n}": RTMIN + n for n in range(1, 16)},
    **{f"RTMAX-{n}": RTMAX - n for n in range(1, 15)},
}

_NUMBERS = frozenset(NUMBERS.values())
_NUMBER = re.compile(r"[+-]?[0-9]+\Z")


def parse(text: str) -> int:
    """The signal's number: "TERM", "sigterm", "15", "RTMIN+3". Raises InvalidParameter in Docker's words."""
    if _NUMBER.match(text) and (number := int(text)):
        if number in _NUMBERS:
            return number
        raise InvalidParameter(f"the linux daemon does not support signal {number}")
    if (named := NUMBERS.get(text.upper().removeprefix("SIG"))) is not None:
        return named
    raise InvalidParameter(f"invalid signal: {text}")


def name(number: int) -> str:
    """The usual name, with SIG ("SIGTERM", "SIGRTMIN+3"); the number itself where it has none."""
    if number < RTMIN:
        try:
            return signal.Signals(number).name
        except ValueError:
            return str(number)
    return "SIGRTMIN" + (f"+{number - RTMIN}" if number > RTMIN else "")
