"""The functions of templates: Go's own, and those that docker adds."""

from __future__ import annotations

from wherry.model.gotext import title
from wherry.model.jsontext import dumps
from wherry.model.template import goformat
from wherry.model.template.values import Missing, Nil, Typed, is_true, type_name
from wherry.model.template.values import text as as_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # The function, its least and its most arguments (-1: any number).
    Function = tuple[Callable[..., Any], int, int]


class CallError(Exception):
    """A function refuses its arguments. A `plain` message stands alone, without "error calling NAME"."""

    def __init__(self, message: str, *, plain: bool = False) -> None:
        super().__init__(message)
        self.plain = plain


def _kind(value: Any) -> str:
    """Go's basic kinds, as far as comparisons tell them apart."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        return "string"
    return ""


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise CallError("missing argument for comparison")
    for other in others:
        left, right = _kind(first), _kind(other)
        if left and right and left != right:
            raise CallError("incompatible types for comparison")
        if first == other:
            return True
        if _is_nil(first) and _is_nil(other):
            return True
        if not (left or right) and not (_is_nil(first) or _is_nil(other)):
            raise CallError(f"non-comparable type {as_text(first)}: {type_name(first)}")
    return False


def _is_nil(value: Any) -> bool:
    return value is None or isinstance(value, (Nil, Missing))


def _not_equal(first: Any, other: Any) -> bool:
    return not _equal(first, other)


def _less(first: Any, other: Any) -> bool:
    left, right = _kind(first), _kind(other)
    if not left or not right or left == "bool":
        raise CallError("invalid type for comparison")
    if left != right:
        raise CallError("incompatible types for comparison")
    return bool(first < other)


def _less_or_equal(first: Any, other: Any) -> bool:
    return _less(first, other) or _equal(first, other)


def _greater(first: Any, other: Any) -> bool:
    return not _less_or_equal(first, other)


def _greater_or_equal(first: Any, other: Any) -> bool:
    return not _less(first, other)


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, (list, dict)) or (isinstance(value, Nil) and value.kind != "pointer"):
        return len(value)
    if value is None:
        raise CallError("len of nil pointer")
    raise CallError(f"len of type {type_name(value)}")


def _position(value: Any, length: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        if value is None:
            raise CallError("cannot index slice/array with nil")
        raise CallError(f"cannot index slice/array with type {type_name(value)}")
    if not 0 <= value <= length:
        raise CallError(f"index out of range: {value}")
    return value


def _within(value: Any, length: int, kind: str) -> int:
    """An index that must name an item."""
    if _position(value, length) == length:
        raise CallError(f"reflect: {kind} index out of range")
    return int(value)


def _index(value: Any, *keys: Any) -> Any:
    if value is None:
        raise CallError("index of untyped nil")
    for key in keys:
        if isinstance(value, dict):
            if not isinstance(key, str):
                raise CallError(f"value has type {type_name(key)}; should be string")
            value = value.get(key, _absent(value))
        elif isinstance(value, Nil) and value.kind == "map":
            value = Missing()
        elif isinstance(value, list) or (isinstance(value, Nil) and value.kind == "slice"):
            position = _within(key, len(value), "slice")
            value = value[position] if isinstance(value, list) else None
        elif isinstance(value, str):
            data = value.encode("utf-8", "surrogateescape")
            value = data[_within(key, len(data), "string")]
        elif value is None or isinstance(value, Nil):
            raise CallError("index of nil pointer")
        else:
            raise CallError(f"can't index item of type {type_name(value)}")
    return value


def _absent(value: dict[str, Any]) -> Any:
    """What a missing key of a map of strings is: the zero value, an empty string. Other maps: nothing."""
    return "" if value and all(isinstance(item, str) for item in value.values()) else Missing()


def _slice(value: Any, *bounds: Any) -> Any:
    if len(bounds) > 3:
        raise CallError(f"too many slice indexes: {len(bounds)}")
    if isinstance(value, str):
        if len(bounds) == 3:
            raise CallError("cannot 3-index slice a string")
        data: Any = value.encode("utf-8", "surrogateescape")
    elif isinstance(value, list):
        data = value
    elif value is None:
        raise CallError("slice of untyped nil")
    else:
        raise CallError(f"can't slice item of type {type_name(value)}")
    for bound in bounds:
        _position(bound, len(data))
    start = bounds[0] if bounds else 0
    end = bounds[1] if len(bounds) > 1 else len(data)
    if start > end:
        raise CallError(f"invalid slice index: {start} > {end}")
    cut = data[start:end]
    return cut.decode("utf-8", "surrogateescape") if isinstance(cut, bytes) else cut


def _print(*values: Any) -> str:
    """fmt.Sprint: a space between two that are not strings."""
    out = ""
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            out += " "
        out += as_text(value)
    return out


def _println(*values: Any) -> str:
    return " ".join(as_text(value) for value in values) + "\n"


def _string(value: Any, name: str) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        raise CallError("invalid value; expected string", plain=True)
    raise CallError(f"wrong type for value; expected string; got {type_name(value)}", plain=True)


def _split(value: Any, separator: Any) -> list[str]:
    value, separator = _string(value, "split"), _string(separator, "split")
    return value.split(separator) if separator else list(value)


def _join(values: Any, separator: Any) -> str:
    if isinstance(values, Nil) and values.kind == "slice":
        return ""
    if not isinstance(values, list):
        raise CallError(f"wrong type for value; expected []string; got {type_name(values)}", plain=True)
    return _string(separator, "join").join(_string(value, "join") for value in values)


def _pad(value: Any, before: Any, after: Any) -> str:
    found = _string(value, "pad")
    return " " * int(before) + found + " " * int(after) if found else found


def _truncate(value: Any, length: Any) -> str:
    return _string(value, "truncate")[: int(length)]


def _map_strings(change: Callable[[str], str], name: str) -> Function:
    return (lambda value: change(_string(value, name))), 1, 1


def _json(value: Any) -> str:
    return dumps(None if isinstance(value, Missing) else value)


def _html(*values: Any) -> str:
    table = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "'": "&#39;", '"': "&#34;", "\0": "\ufffd"}
    return "".join(table.get(char, char) for char in _escapable(values))


def _escapable(values: tuple[Any, ...]) -> str:
    return values[0] if len(values) == 1 and isinstance(values[0], str) else _print(*values)


def _js(*values: Any) -> str:
    table = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}
    out = []
    for char in _escapable(values):
        if char in table:
            out.append(table[char])
        elif char < " ":
            out.append(f"\\u{ord(char):04X}")
        else:
            out.append(char)
    return "".join(out)


def _urlquery(*values: Any) -> str:
    from wherry.model.gotext import escape

    return escape(_escapable(values), " ").replace(" ", "+")


def _call(*values: Any) -> Any:
    raise CallError("call of non-function")


FUNCTIONS: dict[str, Function] = {
    "and": (is_true, 1, -1),
    "or": (is_true, 1, -1),
    "not": (lambda value: not is_true(value), 1, 1),
    "eq": (_equal, 1, -1),
    "ne": (_not_equal, 2, 2),
    "lt": (_less, 2, 2),
    "le": (_less_or_equal, 2, 2),
    "gt": (_greater, 2, 2),
    "ge": (_greater_or_equal, 2, 2),
    "len": (_length, 1, 1),
    "index": (_index, 1, -1),
    "slice": (_slice, 1, -1),
    "print": (_print, 0, -1),
    "println": (_println, 0, -1),
    "printf": (lambda form, *values: goformat.sprintf(_string(form, "printf"), *values), 1, -1),
    "html": (_html, 0, -1),
    "js": (_js, 0, -1),
    "urlquery": (_urlquery, 0, -1),
    "call": (_call, 1, -1),
    "json": (_json, 1, 1),
    "split": (_split, 2, 2),
    "join": (_join, 2, 2),
    "title": _map_strings(title, "title"),
    "lower": _map_strings(str.lower, "lower"),
    "upper": _map_strings(str.upper, "upper"),
    "pad": (_pad, 3, 3),
    "truncate": (_truncate, 2, 2),
}


def _unchanged(value: Any, *rest: Any) -> Any:
    return value


# In the header of a table the same template runs over the titles, which must come out as they are.
HEADER_FUNCTIONS: dict[str, Function] = dict.fromkeys(
    ("json", "split", "join", "title", "lower", "upper", "pad", "truncate"), (_unchanged, 1, -1)
)
HEADER_FUNCTIONS["println"] = (lambda *values: as_text(values[0]) if values else "", 0, -1)

__all__ = ["FUNCTIONS", "HEADER_FUNCTIONS", "CallError", "Typed"]
