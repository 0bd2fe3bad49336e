"""Load, save and rmi of a large image, with the stock client.

An engine may answer `rmi` before it has deleted the files; so the time until it does nothing any more is measured too.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.arithmetic import Item
from bench.engine import Engine, milliseconds
from bench.images import LARGE, large_archive
from bench.processes import listener
from bench.settling import Keep, cpu_seconds, forget, peak_memory, reset_peak, settle

_WHAT = "1.1 GB in 57,000 files"
LOAD = Item("load", f"load, {_WHAT}", "ms", 0.6)
SAVE = Item("save", f"save, {_WHAT}", "ms", 0.8)
REMOVE = Item("rmi", f"rmi, {_WHAT}", "ms", 0.8)
DELETED = Item("rmi-deleted", f"rmi until its files are deleted, {_WHAT}", "ms")
PEAK = Item("load-peak", f"peak memory of the daemon while loading {_WHAT}", "MB")
_QUIET = 0.5  # seconds without work after which an engine is taken to have ended it


def measure(engines: list[Engine], rounds: int, keep: Keep) -> None:
    archive = str(large_archive())
    for number in range(rounds + 1):
        for engine in engines:
            forget(engine, LARGE)
            reset_peak(engine)
            costs = {LOAD: _timed(lambda engine=engine: engine.client("load", "-qi", archive))}  # type: ignore[misc]
            costs[PEAK] = peak_memory(engine)
            settle(engine)
            costs[SAVE] = _timed(lambda engine=engine: engine.client_discarding("save", LARGE))  # type: ignore[misc]
            settle(engine)
            began = time.perf_counter()
            engine.client("rmi", LARGE)
            costs[REMOVE] = milliseconds(began)
            costs[DELETED] = _quiet_since(engine, began)
            if number:
                for item, cost in costs.items():
                    keep(item, engine.name, cost)


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return milliseconds(began)


def _quiet_since(engine: Engine, began: float) -> float:
    """Milliseconds from `began` until the daemon last did something."""
    pid = listener(engine.socket)
    used, last = cpu_seconds(pid), time.perf_counter()
    while time.perf_counter() - last < _QUIET:
        time.sleep(0.02)
        if (now := cpu_seconds(pid)) > used:
            used, last = now, time.perf_counter()
    return (last - began) * 1000
