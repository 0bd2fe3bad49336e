"""Sizes as people write them."""

from __future__ import annotations


def ram_in_bytes(text: str) -> int:
    """A size such as 32, 32k, 32kb, 32 kib, 1.5g, where k is 1024. Raises ValueError."""
    number = text.rstrip("bBiIkKmMgGtTpP ") if text else ""
    suffix = text[len(number) :].removeprefix(" ").lower()
    if not number or number.count(".") > 1 or not number.replace(".", "").isdecimal() or number[0] == ".":
        raise ValueError(f"invalid size: '{text}'")
    power = 0
    if suffix not in ("", "b"):
        if suffix[0] not in "kmgtp" or suffix[1:] not in ("", "b", "ib"):
            raise ValueError(f"invalid suffix: '{suffix}'" if suffix[0] not in "kmgtp" else f"invalid size: '{text}'")
        power = "kmgtp".index(suffix[0]) + 1
    return min(int(float(number) * 1024**power), (1 << 63) - 1)
