"""Go's durations, and the moments that --since and --until accept."""

from __future__ import annotations

import time

from wherry.model.durations import format_duration as format_duration

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}


def parse_duration(text: str) -> int:
    """Nanoseconds of "1h30m", "-1.5s", "300ms". Raises ValueError in the words of time.ParseDuration."""
    from wherry.model.gotext import quote

    invalid = ValueError(f"time: invalid duration {quote(text)}")
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    if not rest:
        raise invalid
    total = 0
    while rest:
        end = 0
        while end < len(rest) and ((rest[end].isdecimal() and rest[end].isascii()) or rest[end] == "."):
            end += 1
        number, rest = rest[:end], rest[end:]
        if number.count(".") > 1 or not number.replace(".", ""):
            raise invalid
        end = 0
        while end < len(rest) and rest[end] != "." and not rest[end].isdecimal():
            end += 1
        unit, rest = rest[:end], rest[end:]
        if not unit:
            raise ValueError(f"time: missing unit in duration {quote(text)}")
        if unit not in _UNITS:
            raise ValueError(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        whole, _, fraction = number.partition(".")
        scale = _UNITS[unit]
        total += int(whole or "0") * scale + int(fraction or "0") * scale // 10 ** len(fraction)
        if total > 1 << 63:
            raise invalid
    return -total if text[0] == "-" else total


def moment(text: str, now: float | None = None) -> str:
    """What the API takes as `since` or `until`: Unix seconds with a fraction, for an RFC 3339 time (or a part of one,
    local without a zone), a duration before now, or seconds as they are. Raises ValueError."""
    try:
        ago = parse_duration(text)
    except ValueError:
        pass
    else:
        seconds = int((time.time() if now is None else now) - ago / 1e9)
        return str(seconds)
    if "-" not in text:
        return _seconds(text)
    import calendar

    body, zone = text, ""
    if body.endswith(("Z", "z")):
        body, zone = body[:-1], "+0000"
    elif len(body) > 6 and body[-6] in "+-" and body[-3] == ":" and "T" in body:
        body, zone = body[:-6], body[-6:].replace(":", "")
    elif len(body) > 6 and body[-6] in "+-" and body[-3] == ":" and body.count("-") > 2:
        body, zone = body[:-6], body[-6:].replace(":", "")
    whole, _, fraction = body.partition(".")
    if fraction and not fraction.isdecimal():
        raise ValueError(f'parsing time "{text}" as "2006-01-02T15:04:05.999999999Z07:00": cannot parse "{fraction}"')
    for form in ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d"):
        try:
            fields = time.strptime(whole, form)
        except ValueError:
            continue
        if zone:
            offset = int(zone[1:3]) * 3600 + int(zone[3:5]) * 60
            at = calendar.timegm(fields) - (offset if zone[0] == "+" else -offset)
        else:
            at = int(time.mktime(fields))
        return f"{at}.{(fraction + '000000000')[:9]}"
    raise ValueError(f'parsing time "{text}" as "2006-01-02": cannot parse "{text}" as "2006"')


def _seconds(text: str) -> str:
    whole, dot, fraction = text.partition(".")
    digits = whole[1:] if whole[:1] in "+-" else whole
    if not digits.isdecimal() or (dot and not fraction.isdecimal()):
        raise ValueError(f'failed to parse value as time or duration: "{text}"')
    return text


def format_time(text: str) -> str:
    """A time in RFC 3339 as Go's time.Time prints: "2026-01-02 15:04:05.5 +0000 UTC"."""
    body, zone = (text[:-1], "+0000 UTC") if text.endswith("Z") else (text[:-6], text[-6:].replace(":", ""))
    whole, _, fraction = body.replace("T", " ").partition(".")
    fraction = fraction.rstrip("0")
    zone = zone if " " in zone else f"{zone} {zone}"
    return f"{whole}.{fraction} {zone}" if fraction else f"{whole} {zone}"


def parse_rfc3339(text: str) -> tuple[int, int]:
    """(Unix seconds, nanoseconds) of a time in the API's form. Raises ValueError."""
    seconds, _, fraction = moment(text).partition(".")
    return int(seconds), int(fraction or "0")
