"""fmt.Sprintf: the verbs that make sense for JSON's values."""

from __future__ import annotations

from wherry.model.gotext import quote
from wherry.model.template.values import Missing, Nil, Typed, float_text, text, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Spec:
    """One %-directive: flags, width, precision, verb."""

    def __init__(self) -> None:
        self.flags = ""
        self.width = -1
        self.precision = -1
        self.verb = ""


def sprintf(form: str, *values: Any) -> str:
    """`values` by `form`; what does not fit is marked in the text as Go does, `%!d(string=x)`."""
    out: list[str] = []
    used = 0
    position = 0
    while position < len(form):
        percent = form.find("%", position)
        if percent < 0:
            out.append(form[position:])
            break
        out.append(form[position:percent])
        spec, position, used = _directive(form, percent + 1, values, used)
        if not spec.verb:
            out.append("%!(NOVERB)")
        elif spec.verb == "%":
            out.append("%")
        elif used >= len(values):
            out.append(f"%!{spec.verb}(MISSING)")
        else:
            out.append(_formatted(values[used], spec))
            used += 1
    if used < len(values):
        extra = ", ".join(
            f"{type_name(value)}={text(value)}" if value is not None else "<nil>" for value in values[used:]
        )
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


def _directive(form: str, at: int, values: tuple[Any, ...], used: int) -> tuple[_Spec, int, int]:
    spec = _Spec()
    while form[at : at + 1] and form[at] in "+-# 0":
        spec.flags += form[at]
        at += 1
    spec.width, at, used = _count(form, at, values, used)
    if spec.width < -1:
        spec.flags += "-"
        spec.width = -spec.width
    if form[at : at + 1] == ".":
        spec.precision, at, used = _count(form, at + 1, values, used)
        spec.precision = max(spec.precision, 0)
    spec.verb = form[at : at + 1]
    return spec, at + 1, used


def _count(form: str, at: int, values: tuple[Any, ...], used: int) -> tuple[int, int, int]:
    if form[at : at + 1] == "*":
        value = values[used] if used < len(values) else None
        return (value if isinstance(value, int) else -1), at + 1, used + 1
    end = at
    while form[end : end + 1].isdigit():
        end += 1
    return (int(form[at:end]) if end > at else -1), end, used


def _padded(body: str, spec: _Spec) -> str:
    if len(body) >= spec.width:
        return body
    if "-" in spec.flags:
        return body.ljust(spec.width)
    if "0" in spec.flags:
        sign = body[0] if body[:1] in ("+", "-") else ""
        return sign + body[len(sign) :].rjust(spec.width - len(sign), "0")
    return body.rjust(spec.width)


def _formatted(value: Any, spec: _Spec) -> str:
    verb = spec.verb
    if verb == "T":
        return _padded(type_name(value), spec)
    if verb == "v":
        if "#" in spec.flags and isinstance(value, str):
            return _padded(quote(value), spec)
        if isinstance(value, float):
            return _padded(float_text(value), spec)
        body = text(value)
        if isinstance(value, (int, str)) and not isinstance(value, bool):
            return _padded(_signed(body, spec) if isinstance(value, int) else body, spec)
        return _padded(body, spec)
    if value is None or isinstance(value, Missing):
        return f"%!{verb}(<nil>)"
    if isinstance(value, (list, Nil)) and not isinstance(value, str):
        items = value if isinstance(value, list) else []
        return "[" + " ".join(_formatted(item, spec) for item in items) + "]"
    if isinstance(value, dict):
        pairs = (f"{_formatted(key, spec)}:{_formatted(value[key], spec)}" for key in sorted(value))
        return "map[" + " ".join(pairs) + "]"
    scalar = _scalar(value, spec)
    if scalar is None:
        return f"%!{verb}({type_name(value)}={text(value)})"
    return _padded(scalar, spec)


def _signed(digits: str, spec: _Spec) -> str:
    if digits[0] == "-":
        return digits
    return "+" + digits if "+" in spec.flags else " " + digits if " " in spec.flags else digits


def _scalar(value: Any, spec: _Spec) -> str | None:
    """None where the verb is not for such a value."""
    if isinstance(value, bool):
        return text(value) if spec.verb == "t" else None
    if isinstance(value, int):
        return _integer(value, spec)
    if isinstance(value, float):
        return _float(value, spec)
    if isinstance(value, str):
        return _text(value, spec)
    if isinstance(value, Typed) and spec.verb == "s":
        return value.text()
    return None


def _integer(value: int, spec: _Spec) -> str | None:
    verb = spec.verb
    bases = {"d": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
    if verb in bases:
        digits = format(abs(value), bases[verb])
        if spec.precision > len(digits):
            digits = digits.rjust(spec.precision, "0")
        prefix = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}.get(verb, "") if "#" in spec.flags else ""
        prefix = "0o" if verb == "O" else prefix
        return _signed(("-" if value < 0 else "") + prefix + digits, spec)
    if verb == "c":
        return chr(value)
    if verb == "q":
        return quote(chr(value), "'")
    if verb == "U":
        return f"U+{value:04X}"
    return None


def _float(value: float, spec: _Spec) -> str | None:
    if spec.verb not in "eEfFgG":
        return None
    if spec.verb in "gG" and spec.precision < 0:
        body = float_text(value)
        return _signed(body.upper() if spec.verb == "G" else body, spec)
    return _signed(format(value, f".{spec.precision if spec.precision >= 0 else 6}{spec.verb}"), spec)


def _text(value: str, spec: _Spec) -> str | None:
    verb = spec.verb
    if spec.precision >= 0 and verb in "sq":
        value = value[: spec.precision]
    if verb == "s":
        return value
    if verb == "q":
        if "#" in spec.flags and "`" not in value:
            return f"`{value}`"
        return quote(value, ascii_only="+" in spec.flags)
    if verb in "xX":
        digits = value.encode("utf-8", "surrogateescape").hex()
        if " " in spec.flags:
            digits = " ".join(digits[at : at + 2] for at in range(0, len(digits), 2))
        return str(digits.upper() if verb == "X" else digits)
    return None
