"""Values as a template sees them: what they are called, whether they are true, how they print."""

from __future__ import annotations

from abc import ABC, abstractmethod

from wherry.model.jsontext import Number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Typed(ABC):
    """A value with a Go type, whose fields a template may name."""

    type_name = "struct"

    @abstractmethod
    def has_field(self, name: str) -> bool:
        """Whether the type has the field, or a method of that name."""

    @abstractmethod
    def field(self, name: str, arguments: list[Any]) -> Any:
        """The field, or what the method answers."""

    @abstractmethod
    def to_json(self) -> str:
        """As encoding/json writes it."""

    def is_method(self, name: str) -> bool:
        """Whether the field takes arguments."""
        return False

    def text(self) -> str:
        """As fmt prints it."""
        return "{}"


class Missing:
    """What a map answers for a key it has not: prints as "<no value>"."""


class Nil:
    """A nil slice, map or pointer of a Go type: empty in a loop, false in a condition, null in JSON."""

    def __init__(self, kind: str, type_name: str) -> None:
        self.kind = kind
        self.type_name = type_name

    def __len__(self) -> int:
        return 0

    def text(self) -> str:
        return {"slice": "[]", "map": "map[]"}.get(self.kind, "<nil>")

    def to_json(self) -> str:
        return "null"


MISSING = Missing()


def is_true(value: Any) -> bool:
    """Go's notion: not zero, not empty, not nil."""
    if value is None or isinstance(value, (Missing, Nil)):
        return False
    if isinstance(value, Typed):
        return True
    return bool(value)


def type_name(value: Any) -> str:
    if isinstance(value, (Typed, Nil)):
        return value.type_name
    if value is None:
        return "<nil>"
    for kind, name in _NAMES:
        if isinstance(value, kind):
            return name
    return type(value).__name__


_NAMES: list[tuple[type, str]] = [
    (bool, "bool"),
    (int, "int"),
    (float, "float64"),
    (Number, "json.Number"),
    (str, "string"),
    (list, "[]interface {}"),
    (dict, "map[string]interface {}"),
]


def text(value: Any, *, top: bool = False) -> str:
    """fmt's %v. `top` is for the value of an action: nothing is "<no value>" there and "<nil>" inside."""
    if value is None or isinstance(value, Missing):
        return "<no value>" if top else "<nil>"
    if isinstance(value, (Typed, Nil)):
        return value.text()
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, list):
        return "[" + " ".join([text(item) for item in value]) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join([f"{text(key)}:{text(value[key])}" for key in sorted(value)]) + "]"
    return str(value)


def float_text(value: float) -> str:
    """%v of a float64: the shortest digits, an exponent below 1e-4 and from 1e21."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    digits = repr(value)
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    mantissa, e, exponent = digits.partition("e")
    if not e:
        return digits
    return f"{mantissa.removesuffix('.0')}e{exponent[0]}{exponent[1:].rjust(2, '0')}"
