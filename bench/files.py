"""Moving files between the host and containers: cp, export and commit, with the stock client."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.arithmetic import Item, turns
from bench.engine import IMAGE, LABEL, Engine, milliseconds

GIGABYTE = 1 << 30  # bytes of the file that is copied, and of that in a container that is exported and committed
SMALL = 5000  # files of a container with many
MANY = f"mkdir /d; i=0; while [ $i -lt {SMALL} ]; do echo $i > /d/$i; i=$((i+1)); done"
COMMITTED = "bench-committed"

Keep = Callable[[Item, str, float], None]

INTO = Item("cp-in", "cp of 1 GB into a container, client", "ms", 0.7)
OUT = Item("cp-out", "cp of 1 GB out of it, client", "ms", 0.7)
EXPORT_BIG = Item("export-big", "export of a container with 1 GB in one file, client", "ms", 0.8)
EXPORT_MANY = Item("export-many", f"export of a container with {SMALL} small files, client", "ms", 0.8)
COMMIT_BIG = Item("commit-big", "commit of a container with 1 GB in one file, client", "ms", 0.8)
COMMIT_MANY = Item("commit-many", f"commit of a container with {SMALL} small files, client", "ms", 0.8)


def measure(engines: list[Engine], rounds: int, keep: Keep) -> None:
    """Everything of this file, the engines in turns; the disk has settled before each sample."""
    by_name = {engine.name: engine for engine in engines}
    with tempfile.TemporaryDirectory(prefix="bench-files-") as name:
        folder = Path(name)
        with (folder / "big").open("wb") as file:
            for _ in range(64):
                file.write(os.urandom(GIGABYTE // 64))
        copied = {engine.name: engine.create("sleep", "1000000") for engine in engines}
        large = {engine.name: _running(engine, f"head -c {GIGABYTE} /dev/urandom > /large") for engine in engines}
        many = {engine.name: _running(engine, MANY) for engine in engines}
        for number, name_ in turns(list(by_name), rounds):
            for item, cost in _samples(by_name[name_], folder, copied[name_], large[name_], many[name_]):
                if number:
                    keep(item, name_, cost)
        for engine in engines:
            engine.remove_all()


def _samples(engine: Engine, folder: Path, copied: str, large: str, many: str) -> Iterator[tuple[Item, float]]:
    yield INTO, _timed(lambda: engine.client("cp", str(folder / "big"), f"{copied}:/big"))
    with _gone_afterwards(folder / "out") as out:
        yield OUT, _timed(lambda: engine.client("cp", f"{copied}:/big", out))
    for exported, committed, container in ((EXPORT_BIG, COMMIT_BIG, large), (EXPORT_MANY, COMMIT_MANY, many)):
        with _gone_afterwards(folder / "exported") as out:
            yield exported, _timed(lambda out=out, container=container: engine.client("export", "-o", out, container))  # type: ignore[misc]
        yield committed, _timed(lambda container=container: engine.client("commit", container, COMMITTED))  # type: ignore[misc]
        engine.client("rmi", COMMITTED)


def _running(engine: Engine, script: str) -> str:
    """A container that has done what the script says, and idles."""
    command = ("sh", "-c", f"{script}; echo made; sleep 1000000")
    container = engine.client("run", "-d", "--label", LABEL, IMAGE, *command).strip()
    while "made" not in engine.client("logs", container):
        time.sleep(0.1)
    return container


@contextmanager
def _gone_afterwards(path: Path) -> Iterator[str]:
    yield str(path)
    path.unlink()


def _timed(action: Callable[[], object]) -> float:
    os.sync()
    began = time.perf_counter()
    action()
    return milliseconds(began)
