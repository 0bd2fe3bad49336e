"""JSON of answers, also of what is not text: the names of files are bytes, which Python keeps as surrogates."""

from __future__ import annotations

from typing import Any

import msgspec


def encode(value: Any) -> bytes:
    """As `msgspec.json.encode`; bytes that are not UTF-8 are U+FFFD, each of them, as by Go's encoding/json."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_told(msgspec.to_builtins(value)))


def readable(text: str) -> str:
    """The text with U+FFFD for each surrogate that is no character's half."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _told(value: Any) -> Any:
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, dict):
        return {_told(name): _told(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_told(inner) for inner in value]
    return value
