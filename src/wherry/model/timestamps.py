"""Times as Docker writes and reads them. Inside the engine a time is an int: nanoseconds since the epoch, 0 for never.

Two ways of reading exist because the real engine has two: the query parameters `since` and `until` of logs and events
are plain Unix seconds (`parse_unix`), while `until` filters of prune, and the command line before it sends anything,
also know dates and durations before now (`parse_when`).
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta, timezone

from wherry.errors import InvalidParameter

SECOND = 1_000_000_000
ZERO = "0001-01-01T00:00:00Z"  # Go's zero time: never

_INT64 = range(-(2**63), 2**63)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339_nano(time_ns: int) -> str:
    """As Go's `time.RFC3339Nano` in UTC: trailing zeros of the fraction dropped; 0 gives Go's zero time."""
    if time_ns == 0:
        return ZERO
    seconds, fraction = divmod(time_ns, SECOND)
    text = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{_seconds_text(seconds)}{text}Z"


def rfc3339_fixed(time_ns: int) -> str:
    """As Docker writes log timestamps: always nine digits of fraction, UTC."""
    seconds, fraction = divmod(time_ns, SECOND)
    return f"{_seconds_text(seconds)}.{fraction:09d}Z"


def parse_unix(text: str) -> int:
    """Unix seconds with an optional fraction, in nanoseconds.

    Raises InvalidParameter in the words of Go's strconv, which is what the real engine answers.
    """
    whole, dot, fraction = text.partition(".")
    nanoseconds = _parse_int(whole) * SECOND
    if dot:
        nanoseconds += int(_parse_int(fraction) * 10.0 ** (9 - len(fraction)))
    return nanoseconds


def parse_when(text: str, *, now_ns: int | None = None, zone: timezone = UTC) -> int:
    """A moment as people write it: `2026-11-24T10:00:00Z` and its shorter forms, Unix seconds, or `1h30m` before now.

    Dates without an offset are in `zone`. Raises InvalidParameter.
    """
    if text != "0" and (duration := duration_ns(text)) is not None:
        return (time.time_ns() if now_ns is None else now_ns) - duration
    if (moment := _parse_date(text, zone)) is not None:
        return moment
    try:
        return parse_unix(text)
    except InvalidParameter:
        raise InvalidParameter(f'failed to parse value as time or duration: "{text}"') from None


_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_TERM = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)


def duration_ns(text: str) -> int | None:
    """A Go duration (`1h15m30.5s`, `-1.5h`, `0`) in nanoseconds, or None where it is not one (time.ParseDuration)."""
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    total = at = 0
    while at < len(rest):
        term = _TERM.match(rest, at)
        if term is None:
            return None
        whole, _, fraction = term[1].partition(".")
        unit = _UNITS[term[2]]
        total += int(whole or "0") * unit
        if fraction:
            total += int(fraction) * unit // 10 ** len(fraction)
        at = term.end()
    if not rest or total not in _INT64:
        return None
    return sign * total


_DATE = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})"
    r"(?:T(\d{1,2})(?::(\d{2})(?::(\d{2})(?:[.,](\d+))?)?)?)?"
    r"(Z|[+-]\d{2}:\d{2})?",
    re.ASCII,
)


def _parse_date(text: str, zone: timezone) -> int | None:
    """None where `text` does not look like a date at all; InvalidParameter where it looks like one and is none."""
    if "-" not in text:
        return None
    match = _DATE.fullmatch(text)
    if match is None:
        raise InvalidParameter(f'parsing time "{text}": not a date such as 2006-01-02T15:04:05Z')
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=_offset(match[8], zone))
        # a datetime at the edge of the calendar may not survive the change of zone
        seconds = (moment - _EPOCH) // timedelta(seconds=1)
    except (ValueError, OverflowError):
        raise InvalidParameter(f'parsing time "{text}": {_out_of_range(month, day, hour, minute, second)}') from None
    return seconds * SECOND + int((match[7] or "").ljust(9, "0")[:9])


def _offset(text: str | None, zone: timezone) -> timezone:
    if text is None:
        return zone
    if text == "Z":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[4:6]))
    return timezone(-offset if text[0] == "-" else offset)


def _out_of_range(month: int, day: int, hour: int, minute: int, second: int) -> str:
    for name, value, limits in (
        ("month", month, range(1, 13)),
        ("hour", hour, range(24)),
        ("minute", minute, range(60)),
        ("second", second, range(60)),
        ("day", day, range(1, 29)),
    ):
        if value not in limits:
            return f"{name} out of range"
    return "time zone offset or year out of range"


def _parse_int(text: str) -> int:
    if re.fullmatch(r"[+-]?\d+", text, re.ASCII) is None:
        raise InvalidParameter(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    value = int(text) if len(text) < 25 else 2**63
    if value not in _INT64:
        raise InvalidParameter(f'strconv.ParseInt: parsing "{text}": value out of range')
    return value


_last: tuple[int, str] = (0, "1970-01-01T00:00:00")


def _seconds_text(seconds: int) -> str:
    """The last second is remembered: a log prints thousands of lines of the same one."""
    global _last
    known, text = _last
    if known != seconds:
        text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
        _last = (seconds, text)
    return text
