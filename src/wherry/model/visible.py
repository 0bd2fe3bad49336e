"""Texts of strangers for a terminal or a log: what would steer it, or reorder what is read, is shown and not obeyed."""

from __future__ import annotations

_CONTROLS = (*range(0x20), *range(0x7F, 0xA0))  # C0, DEL, C1 (ECMA-48)
_REORDERING = (
    0x061C,
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)  # bidirectional (UAX 9)
_SHOWN = {code: f"\\x{code:02x}" for code in _CONTROLS} | {code: f"\\u{code:04x}" for code in _REORDERING}
_LINES = {code: text for code, text in _SHOWN.items() if chr(code) not in "\n\t"}


def visible(text: str, *, lines: bool = True) -> str:
    r"""The text with an escape (`\x1b`) for each such character. Line feeds and tabs stay if it may have `lines`."""
    return text if text.isascii() and text.isprintable() else text.translate(_LINES if lines else _SHOWN)
