"""JSON without the cost of importing `json` (which pulls in `re` and `enum`: several ms of a command that takes 20).

Decoding drives the standard library's C scanner directly where it is there, else falls back to `json`. Encoding writes
what Go's encoding/json writes with SetEscapeHTML(false): compact, map keys in order, text unescaped.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Number(str):
    """A number as it was written, neither rounded nor turned into another form."""

    __slots__ = ()


class _Strict:
    """What `_json.make_scanner` reads its settings from."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_constant = float
    memo: dict[str, str]

    def __init__(self, parse_int: type) -> None:
        self.parse_int = parse_int
        self.parse_float = parse_int if parse_int is Number else float
        self.memo = {}


def _scanner(parse_int: type) -> Callable[[str, int], tuple[Any, int]] | None:
    try:
        from _json import make_scanner
    except ImportError:
        return None
    scan: Callable[[str, int], tuple[Any, int]] = make_scanner(_Strict(parse_int))  # type: ignore[arg-type,unused-ignore]
    return scan


_scan = _scanner(int)


def loads(data: bytes | str) -> Any:
    """The value of one JSON text. Raises ValueError if it is not JSON."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    text = text.strip(" \t\r\n")
    if _scan is None:
        import json

        return json.loads(text, strict=False)
    return _whole(_scan, text)


def loads_exact(data: bytes) -> Any:
    """The same with every number a Number."""
    text = data.decode("utf-8", "replace").strip()
    scan = _scanner(Number)
    if scan is None:
        import json

        return json.loads(text, strict=False, parse_int=Number, parse_float=Number)
    return _whole(scan, text)


def _whole(scan: Callable[[str, int], tuple[Any, int]], text: str) -> Any:
    try:
        value, end = scan(text, 0)
    except StopIteration as error:
        raise ValueError(f"invalid JSON at character {error.value}") from None
    if end != len(text):
        raise ValueError(f"invalid JSON: more text after character {end}")
    return value


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


def quote(text: str) -> str:
    """`text` as a JSON string."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    out = []
    for char in text:
        if char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif char < " " or char in "\u2028\u2029":
            out.append(f"\\u{ord(char):04x}")
        else:
            out.append(char)
    return '"' + "".join(out) + '"'


def number(value: float) -> str:
    """A float as Go writes it in JSON: the shortest that reads back, exponents only beyond 1e21 and below 1e-6."""
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    text = repr(value)
    mantissa, e, exponent = text.partition("e")
    if not e:
        return text
    if 1e-6 <= abs(value) < 1e21:
        return f"{value:.17f}".rstrip("0")
    sign, digits = ("-", exponent[1:]) if exponent[0] == "-" else ("+", exponent.lstrip("+"))
    return f"{mantissa}e{sign}{digits.lstrip('0') if sign == '-' else digits.rjust(2, '0')}"


def dumps(value: Any, *, sort: bool = True) -> str:
    """`value` in compact JSON; maps in the order of their keys unless `sort` is off."""
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return str(value) if isinstance(value, Number) else quote(value[:])
    if isinstance(value, int):
        return format(value, "d")
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        items = sorted(value.items()) if sort else value.items()
        return "{" + ",".join([f"{quote(str(k))}:{dumps(v, sort=sort)}" for k, v in items]) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([dumps(v, sort=sort) for v in value]) + "]"
    to_json = getattr(value, "to_json", None)
    if to_json is not None:
        return str(to_json())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def indent(text: str, step: str = "    ", prefix: str = "") -> str:
    """JSON laid out as Go's json.Indent does, every token left as it is (numbers, escapes, the order of keys)."""
    out: list[str] = []
    depth, position, end = 0, 0, len(text)
    empty = False
    while position < end:
        char = text[position]
        if char == '"':
            close = position + 1
            while text[close] != '"':
                close += 2 if text[close] == "\\" else 1
            token, position = text[position : close + 1], close + 1
        else:
            token, position = char, position + 1
            if char in " \t\r\n":
                continue
        if empty and token not in "]}":
            out.append("\n" + prefix + step * depth)
        if token in "{[":
            depth += 1
            out.append(token)
            empty = True
            continue
        if token in "}]":
            depth -= 1
            out.append(token if empty else "\n" + prefix + step * depth + token)
        elif token == ",":
            out.append(",\n" + prefix + step * depth)
        elif token == ":":
            out.append(": ")
        else:
            out.append(token)
        empty = False
    return "".join(out)
