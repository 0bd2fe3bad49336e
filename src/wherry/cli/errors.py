"""How a command ends when it cannot do what was asked."""

from __future__ import annotations


class Failure(Exception):
    """`text` goes to standard error as it is, `code` is the exit code. An empty text prints nothing."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
