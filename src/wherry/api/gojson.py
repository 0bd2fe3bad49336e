"""JSON as Go's encoding/json reads it: where it differs from a strict decoder, and its words for bad syntax.

Clients see these words; docker-py and its like match on some. Source of the rules: Go's package documentation of
encoding/json (Unmarshal, Decoder) and the answers of a real engine.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from wherry.errors import InvalidParameter

_SPACE = re.compile(rb"[ \t\r\n]*")
_SURROGATE = re.compile("[\ud800-\udfff]")  # half of an escaped pair: no text, and nothing can encode it
_LITERALS = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
_HEX = frozenset(b"0123456789abcdefABCDEF")
_DIGITS = frozenset(b"0123456789")
MAX_DEPTH = 200  # far below what would exhaust our stack; no known client nests deeper than 10


class _Bad(Exception):
    """The message is Go's."""


def loads(data: bytes) -> Any:
    """The first JSON value of `data`.

    Raises InvalidParameter: `invalid JSON: ...` with Go's description of the first syntax error, `unexpected content
    after JSON` if something follows. Text that is not UTF-8 is repaired as Go does, with U+FFFD.
    """
    try:
        if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
            end = _scan(data)  # could be deep: count levels before the recursive decoder sees them
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    except _Bad as bad:
        raise InvalidParameter(f"invalid JSON: {bad}") from None
    try:
        end = _scan(data)
    except _Bad as bad:
        raise InvalidParameter(f"invalid JSON: {bad}") from None
    if _SPACE.fullmatch(data, end) is None:
        raise InvalidParameter("unexpected content after JSON")
    value = json.loads(data[:end].decode(errors="replace"), strict=False)
    return json.loads(_SURROGATE.sub("\ufffd", json.dumps(value, ensure_ascii=False)))


def _scan(data: bytes) -> int:
    """Where the first value of `data` ends. Raises _Bad at the first character that cannot be there."""
    position = _blank(data, 0)
    if position == len(data):
        raise _Bad("got EOF while reading request body")
    stack: list[int] = []  # the closing bracket of every open object or array
    while True:
        position = _value(data, position, stack)
        if position < 0:  # an object or array opened, and something is in it
            position = -position
            if stack[-1] == ord("}"):
                position = _key(data, position)
            continue
        while stack:
            position = _blank(data, position)
            character = _at(data, position)
            if character == stack[-1]:
                stack.pop()
                position += 1
            elif character == ord(","):
                position = _blank(data, position + 1)
                if stack[-1] == ord("}"):
                    position = _key(data, position)
                break
            else:
                in_object = stack[-1] == ord("}")
                raise _bad(character, "after object key:value pair" if in_object else "after array element")
        else:
            return position


def _value(data: bytes, position: int, stack: list[int]) -> int:
    """Past a scalar or an empty object or array; minus the position of the first content after an opened one."""
    position = _blank(data, position)
    character = _at(data, position)
    if character in b"{[":
        closing = ord("}") if character == ord("{") else ord("]")
        if len(stack) == MAX_DEPTH:
            raise _bad(character, "exceeded max depth")
        inside = _blank(data, position + 1)
        if _at(data, inside) == closing:
            return inside + 1
        stack.append(closing)
        return -inside
    if character == ord('"'):
        return _string(data, position + 1)
    if character == ord("-") or character in _DIGITS:
        return _number(data, position)
    literal = _LITERALS.get(character)
    if literal is None:
        raise _bad(character, "looking for beginning of value")
    for offset in range(1, len(literal)):
        found = _at(data, position + offset)
        if found != literal[offset]:
            raise _bad(found, f"in literal {literal.decode()} (expecting {chr(literal[offset])!r})")
    return position + len(literal)


def _key(data: bytes, position: int) -> int:
    """Past a key and its colon."""
    character = _at(data, position)
    if character != ord('"'):
        raise _bad(character, "looking for beginning of object key string")
    position = _blank(data, _string(data, position + 1))
    character = _at(data, position)
    if character != ord(":"):
        raise _bad(character, "after object key")
    return position + 1


def _string(data: bytes, position: int) -> int:
    while True:
        character = _at(data, position)
        position += 1
        if character == ord('"'):
            return position
        if character < 0x20:
            raise _bad(character, "in string literal")
        if character != ord("\\"):
            continue
        character = _at(data, position)
        position += 1
        if character == ord("u"):
            for _ in range(4):
                character = _at(data, position)
                if character not in _HEX:
                    raise _bad(character, "in \\u hexadecimal character escape")
                position += 1
        elif character not in b'bfnrt\\/"':
            raise _bad(character, "in string escape code")


def _number(data: bytes, position: int) -> int:
    if data[position] == ord("-"):
        position += 1
    if _at(data, position) == ord("0"):
        position += 1
    else:
        position = _digits(data, position, "in numeric literal")
    if data[position : position + 1] == b".":
        position = _digits(data, position + 1, "after decimal point in numeric literal")
    if data[position : position + 1] in (b"e", b"E"):
        position += 1
        if data[position : position + 1] in (b"+", b"-"):
            position += 1
        position = _digits(data, position, "in exponent of numeric literal")
    return position


def _digits(data: bytes, position: int, where: str) -> int:
    character = _at(data, position)
    if character not in _DIGITS:
        raise _bad(character, where)
    while position < len(data) and data[position] in _DIGITS:
        position += 1
    return position


def _at(data: bytes, position: int) -> int:
    try:
        return data[position]
    except IndexError:
        raise _Bad("unexpected EOF") from None


def _blank(data: bytes, position: int) -> int:
    match = _SPACE.match(data, position)
    return match.end() if match else position


def _bad(character: int, where: str) -> _Bad:
    if character == ord("'"):
        shown = "'\\''"
    elif character == ord('"'):
        shown = "'\"'"
    else:
        shown = repr(chr(character))
    return _Bad(f"invalid character {shown} {where}")
