"""Sizes and durations for people, as Docker's go-units writes them."""

from __future__ import annotations

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def _scaled(size: float, base: float, names: tuple[str, ...], precision: int) -> str:
    index = 0
    while size >= base and index < len(names) - 1:
        size /= base
        index += 1
    return f"{size:.{precision}g}{names[index]}"


def human_size(size: float, precision: int = 4) -> str:
    """Bytes in powers of 1000: "2.746MB"."""
    return _scaled(float(size), 1000.0, _DECIMAL, precision)


def bytes_size(size: float) -> str:
    """Bytes in powers of 1024: "44KiB"."""
    return _scaled(float(size), 1024.0, _BINARY, 4)


def human_duration(seconds: float) -> str:
    """ "About a minute", "5 hours": as coarse as people speak."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = int(seconds / 60)
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def ellipsis(text: str, width: int) -> str:
    """`text` cut to `width` columns, the last of them an ellipsis if anything was cut. Wide characters count two."""
    if width <= 0:
        return ""
    if text.isascii():
        return text if len(text) <= width else (text[0] if width == 1 else text[: width - 1] + "…")
    from unicodedata import east_asian_width

    wide = [2 if east_asian_width(char) in "WF" else 1 for char in text]
    if sum(wide) <= width:
        return text
    if width == 1:
        return text[0]
    used = 0
    for index, columns in enumerate(wide):
        if used + columns > width - 1:
            return text[:index] + "…"
        used += columns
    return text


def short_id(identifier: str) -> str:
    """The first twelve digits of an ID, without the algorithm."""
    return identifier.partition(":")[2][:12] if ":" in identifier else identifier[:12]
