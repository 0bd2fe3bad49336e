"""Texts as Go's standard library writes them: quoted strings, title case, escaped parts of URLs."""

from __future__ import annotations

_SHORT = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\"}


def quote(text: str, mark: str = '"', *, ascii_only: bool = False) -> str:
    """strconv.Quote (QuoteToASCII with `ascii_only`)."""
    if text.isascii() and text.isprintable() and mark not in text and "\\" not in text:
        return f"{mark}{text}{mark}"
    out = []
    for char in text:
        code = ord(char)
        if char in _SHORT:
            out.append(_SHORT[char])
        elif char == mark:
            out.append("\\" + char)
        elif char.isprintable() and not (ascii_only and code > 126):
            out.append(char)
        elif code < 0x80:
            out.append(f"\\x{code:02x}")
        elif 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8
            out.append(f"\\x{code - 0xDC00:02x}")
        elif code < 0x10000:
            out.append(f"\\u{code:04x}")
        else:
            out.append(f"\\U{code:08x}")
    return mark + "".join(out) + mark


def unquote(literal: str) -> str:
    """The text of a Go string literal, "..." or `...`. Raises ValueError."""
    mark, body = literal[0], literal[1:-1]
    if mark == "`":
        return body.replace("\r", "")
    out = []
    position = 0
    simple = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34}
    while position < len(body):
        char = body[position]
        if char != "\\":
            out.append(char)
            position += 1
            continue
        kind = body[position + 1 : position + 2]
        length = {"x": 2, "u": 4, "U": 8}.get(kind, 0)
        if kind in simple and kind not in "'\"":
            out.append(chr(simple[kind]))
        elif kind == mark and kind:
            out.append(kind)
        elif length:
            digits = body[position + 2 : position + 2 + length]
            if len(digits) != length:
                raise ValueError("invalid syntax")
            out.append(chr(int(digits, 16)))
        elif kind and kind in "01234567":
            digits = body[position + 1 : position + 4]
            out.append(chr(int(digits, 8)))
            length = 2
        else:
            raise ValueError("invalid syntax")
        position += 2 + length
    return "".join(out)


def title(text: str) -> str:
    """strings.Title: the first letter of each word in title case, the rest as it is."""
    out, start = [], True
    for char in text:
        out.append(char.title() if start and char.isalpha() else char)
        start = not (char.isalnum() or char == "_" or char in "'\u2019")
    return "".join(out)


_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")


def escape(text: str, safe: str = "") -> str:
    """Percent-encode everything but unreserved characters and `safe`."""
    if all(c in _SAFE or c in safe for c in text):
        return text
    data = text.encode("utf-8", "surrogateescape")
    return "".join([chr(b) if chr(b) in _SAFE or chr(b) in safe else f"%{b:02X}" for b in data])
