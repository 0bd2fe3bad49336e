"""API versions: what is spoken, and the `/v1.NN` prefix of a path."""

from __future__ import annotations

import re
from functools import lru_cache

from wherry.errors import InvalidParameter

NEWEST = (1, 45)
OLDEST = (1, 24)

_PREFIX = re.compile(r"/v([0-9][0-9.]*)(/.*)", re.DOTALL)


def text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def split(path: str) -> tuple[str, str]:
    """Take the version off a path: `/v1.41/info` is `("1.41", "/info")`, `/info` is `("", "/info")`."""
    match = _PREFIX.fullmatch(path)
    return (match[1], match[2]) if match is not None else ("", path)


@lru_cache(maxsize=64)
def spoken(written: str) -> tuple[int, ...]:
    """A version as numbers; the newest where none is written.

    Raises InvalidParameter, in Docker's words, for one that is not spoken.
    """
    if not written:
        return NEWEST
    version = tuple(int(part or 0) for part in written.split("."))
    if version < OLDEST:
        raise InvalidParameter(
            f"client version {written} is too old. Minimum supported API version is {text(OLDEST)}, "
            "please upgrade your client to a newer version"
        )
    if version[:2] > NEWEST:
        raise InvalidParameter(f"client version {written} is too new. Maximum supported API version is {text(NEWEST)}")
    return version
