"""How a build is shown while it runs: lines that stay (`plain`), or a picture on a terminal, drawn anew (`tty`)."""

from __future__ import annotations

import base64
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

_TAIL = 6  # lines of a running step's output that a terminal shows
_KEPT = 40  # that are shown of a step that failed
_REDRAW = 0.08  # seconds


class Step:
    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.started = 0
        self.ended = 0
        self.cached = False
        self.error = ""
        self.lines: list[str] = []
        self.partial = ""
        self.moving: dict[str, str] = {}  # transfers that are under way

    def take(self, data: bytes) -> list[str]:
        """The lines that are complete now."""
        *whole, self.partial = (self.partial + data.decode("utf-8", "replace")).split("\n")
        shown = [line.rpartition("\r")[2] if "\r" in line.rstrip("\r") else line.rstrip("\r") for line in whole]
        self.lines = (self.lines + shown)[-_KEPT:]
        return shown

    @property
    def seconds(self) -> float:
        until = self.ended or time.time_ns()
        return (until - self.started) / 1e9 if self.started else 0.0


class Display:
    """Knows the steps; subclasses show them. `tell` takes the engine's messages."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self.began = time.monotonic()
        self.warnings: list[str] = []

    def tell(self, message: Json) -> None:
        kind = message["type"]
        if kind == "planned":
            if message["name"]:
                self.steps.setdefault(message["vertex"], Step(len(self.steps) + 1, message["name"]))
            return
        if kind == "warned":
            self.warnings.append(message["text"])
            return
        if kind == "pulled":
            self.pulled(message["reference"], message["message"])
            return
        step = self.steps.get(message.get("vertex", ""))
        if step is None:
            return
        if kind == "started":
            step.started = message["time"]
            self.started(step)
        elif kind == "written":
            self.wrote(step, step.take(base64.b64decode(message["data"])))
        elif kind == "moved":
            step.moving[message["id"]] = _moved(message["id"], message["current"], message.get("total", 0))
        elif kind == "ended" and not step.ended:
            step.ended = message["time"]
            step.cached = message.get("cached", False)
            step.error = message.get("error", "")
            self.ended(step)

    def started(self, step: Step) -> None: ...
    def wrote(self, step: Step, lines: list[str]) -> None: ...
    def ended(self, step: Step) -> None: ...
    def pulled(self, reference: str, message: Json) -> None: ...

    def close(self) -> None:
        """Once nothing more comes. Idempotent."""

    def _warn(self) -> None:
        """Below everything else what the engine warned of."""
        if self.warnings:
            count = len(self.warnings)
            head = "\n 1 warning found:" if count == 1 else f"\n {count} warnings found:"
            sys.stderr.write("\n - ".join([head, *self.warnings]) + "\n")
        self.warnings = []

    def failed(self) -> str:
        """What the step that failed wrote last, to be shown below everything else."""
        for step in self.steps.values():
            if step.error and step.lines:
                return "\n".join(["------", f" > {step.name}:", *step.lines, "------"]) + "\n"
        return ""


class Plain(Display):
    """A line for each happening, in the form that other tools read: `#3 [2/4] RUN make`, `#3 DONE 1.2s`."""

    def __init__(self) -> None:
        super().__init__()
        self._last = 0

    def _say(self, step: Step, text: str) -> None:
        out = sys.stderr
        if step.number != self._last:
            if self._last:
                out.write("\n")
            self._last = step.number
            if not text.startswith("["):
                out.write(f"#{step.number} {step.name}\n")
        out.write(f"#{step.number} {text}\n")
        out.flush()

    def started(self, step: Step) -> None:
        self._say(step, step.name if step.name.startswith("[") else "begins")

    def wrote(self, step: Step, lines: list[str]) -> None:
        for line in lines:
            self._say(step, f"{step.seconds:.3f} {line}")

    def ended(self, step: Step) -> None:
        if step.partial:
            self.wrote(step, step.take(b"\n"))
        if step.error:
            self._say(step, f"ERROR: {step.error}")
        else:
            self._say(step, "CACHED" if step.cached else f"DONE {step.seconds:.1f}s")

    def close(self) -> None:
        self._warn()

    def pulled(self, reference: str, message: Json) -> None:
        if "progressDetail" not in message or not message["progressDetail"]:
            sys.stderr.write(f"{reference}: {message.get('id', '')} {message.get('status', '')}\n".replace(":  ", ": "))


class Terminal(Display):
    """Every step with its time, the last lines of those that run; what is done folds into one line."""

    def __init__(self) -> None:
        super().__init__()
        self._drawn = 0
        self._at = 0.0
        self._closed = False

    def tell(self, message: Json) -> None:
        super().tell(message)
        now = time.monotonic()
        if now - self._at >= _REDRAW or message["type"] == "ended":
            self._at = now
            self._draw()

    def close(self) -> None:
        if not self._closed:
            self._draw(last=True)
            self._warn()
        self._closed = True

    def _draw(self, *, last: bool = False) -> None:
        width, height = _size()
        known = [step for step in self.steps.values() if step.started or step.ended]
        done = sum(bool(step.ended) for step in self.steps.values())
        head = f"[+] Building {time.monotonic() - self.began:.1f}s ({done}/{len(self.steps)})"
        lines = [head + (" FINISHED" if last else "")]
        for step in known:
            lines.append(_row(step, width))
            if step.started and not step.ended and not last:
                below = [*step.lines, *step.moving.values()][-_TAIL:]
                lines += [f" => => # {line}"[: width - 1] for line in below]
        if not last and len(lines) > height - 1:
            lines = [lines[0], *lines[-(height - 2) :]]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        sys.stderr.write(f"{up}\r\x1b[J" + "\n".join(lines) + "\n")
        sys.stderr.flush()
        self._drawn = len(lines)


def _moved(id: str, current: int, total: int) -> str:
    from wherry.cli.humanize import human_size

    return f"{id} {human_size(current)}" + (f" / {human_size(total)}" if total else "")


def _row(step: Step, width: int) -> str:
    mark = "ERROR " if step.error else "CACHED " if step.cached else ""
    time_shown = f"{step.seconds:.1f}s"
    left = f" => {mark}{step.name}"
    room = max(10, width - len(time_shown) - 2)
    return f"{left[:room]:<{room}} {time_shown}"


def _size() -> tuple[int, int]:
    try:
        found = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        return 80, 24
    return max(found.columns, 20), max(found.lines, 5)


def display(kind: str) -> Display:
    """By the name that --progress takes. Raises ValueError."""
    if kind == "auto":
        kind = "tty" if sys.stderr.isatty() else "plain"
    if kind == "tty" and not sys.stderr.isatty():
        raise ValueError("--progress tty needs a terminal")
    return {"plain": Plain, "tty": Terminal, "quiet": Display, "none": Display}[kind]()
