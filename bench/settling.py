"""Between two measurements: images removed, their files deleted, the disk with nothing left to write."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bench.arithmetic import Item
from bench.engine import Engine
from bench.http import Failed
from bench.processes import listener

Keep = Callable[[Item, str, float], None]
_SETTLE_SECONDS = 2.0
_BUSY = 0.2  # of one CPU: an engine that still deletes files takes more


def forget(engine: Engine, *images: str) -> None:
    for image in images:
        with suppress(Failed):
            engine.api.call("DELETE", f"/images/{image}?force=1")
    settle(engine)


def settle(engine: Engine) -> None:
    """Until the engine does nothing any more (files are deleted after the answer) and the disk has its data."""
    pid = listener(engine.socket)
    os.sync()
    while True:
        before = cpu_seconds(pid)
        time.sleep(_SETTLE_SECONDS / 4)
        if cpu_seconds(pid) - before < _BUSY * _SETTLE_SECONDS / 4:
            break
    os.sync()


def cpu_seconds(pid: int) -> float:
    """Seconds that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reset_peak(engine: Engine) -> None:
    """VmHWM counts from here (proc(5), clear_refs)."""
    Path(f"/proc/{listener(engine.socket)}/clear_refs").write_text("5")


def peak_memory(engine: Engine) -> float:
    """The daemon's own largest resident set since then, in MB."""
    status = Path(f"/proc/{listener(engine.socket)}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
