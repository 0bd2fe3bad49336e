"""Progress messages of load, pull and import: a stream of JSON, one line a layer where there is a terminal."""

from __future__ import annotations

from wherry.cli.errors import Failure
from wherry.model import jsontext
from wherry.model.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from wherry.client.connection import Response


def show(response: Response, out: TextIO, *, quiet: bool = False, code: int = 1) -> None:
    """Print the messages of `response` as they come. Raises Failure for the error that ends them."""
    lines = Lines(out)
    for line in response.lines():
        if not line.strip():
            continue
        message = jsontext.loads(line)
        if message.get("error") or message.get("errorDetail"):
            raise Failure(visible(str(message.get("error") or message["errorDetail"].get("message"))), code)
        if not quiet:
            lines.show(message)


_BAR_COLUMNS = 110


class Lines:
    """Where each layer's line is on the terminal, so that it can be written over."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._rows: dict[str, int] = {}
        self._live = out.isatty()

    def show(self, message: dict[str, Any]) -> None:
        if "stream" in message:
            self._out.write(visible(message["stream"]))
        elif message.get("status") is not None:
            identifier, bar = message.get("id", ""), self._bar(message)
            if bar and not self._live:
                return
            text = f"{identifier}: " if identifier else ""
            text = visible(text + message["status"], lines=False) + (f" {bar}" if bar else "")
            row = bar or message.get("progressDetail") is not None  # an empty one says: no bar, but a line that stays
            self._line(identifier if row else "", text)
        self._out.flush()

    def _line(self, identifier: str, text: str) -> None:
        if not (self._live and identifier):
            self._rows = {}
            self._out.write(text + "\n")
            return
        if identifier not in self._rows:
            self._rows[identifier] = len(self._rows)
            self._out.write("\n")
        up = len(self._rows) - self._rows[identifier]
        self._out.write(f"\x1b[{up}A\x1b[2K\r{text}\r\x1b[{up}B")

    def _wide(self) -> bool:
        """There is room for a bar: a line that is wrapped cannot be written over."""
        import os

        try:
            return os.get_terminal_size(self._out.fileno()).columns > _BAR_COLUMNS
        except OSError:
            return False

    def _bar(self, message: dict[str, Any]) -> str:
        from wherry.cli.humanize import human_size

        detail = message.get("progressDetail") or {}
        current, total = detail.get("current", 0), detail.get("total", 0)
        if current <= 0 and total <= 0:
            return ""
        if total <= 0 or current > total:
            return f"{human_size(current):>8}"
        if not self._wide():
            return f"{human_size(current):>8}/{human_size(total)}"
        filled = current * 50 // total
        bar = "=" * filled + (">" if filled < 50 else "") + " " * max(0, 49 - filled)
        return f"[{bar}]  {human_size(current):>8}/{human_size(total)}"
