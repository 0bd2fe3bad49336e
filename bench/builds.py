"""Builds: by the stock client through the classic endpoint, by BuildKit's client where it is there, by `wherry build`.

Every context is new where a first build is measured: its files are given other bytes. What BuildKit and Wherry keep in
their build caches is removed by ID at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from bench.arithmetic import Item
from bench.engine import IMAGE, Engine, milliseconds
from bench.http import Failed
from bench.settling import Keep, forget, settle

FOLDERS = 5
STEPS = 20
STAGES = 4
_NAME = "wherry-bench-built"
_PIECE = 53_687  # bytes of a file: 20,000 are 1 GB
_MOMENT = 2.1  # seconds after which a client may trust a file's time
_COUNT = "i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done"  # work for one CPU

_GIGABYTE = "1 GB in 20,000 files"
NOOP_OWN = Item("build-noop-own", f"no-op rebuild, {_GIGABYTE}: wherry build, classic builder", "ms", 0.10)
NOOP_KIT = Item("build-noop-buildkit", f"no-op rebuild, {_GIGABYTE}: wherry build, BuildKit", "ms", 0.5)
NOOP_STOCK = Item("build-noop-stock", f"no-op rebuild, {_GIGABYTE}: stock client, classic builder", "ms", 0.35)
FIRST_OWN = Item("build-first-own", f"first build, {FOLDERS} COPY of 1 GB: wherry build, classic builder", "ms", 0.25)
FIRST_STOCK = Item("build-first-stock", f"first build, {FOLDERS} COPY of 1 GB: stock client, classic builder", "ms")
FIRST_KIT = Item("build-first-buildkit", f"first build, {FOLDERS} COPY of 1 GB: wherry build, BuildKit", "ms")
RUNS_KIT = Item("build-runs-buildkit", f"{STEPS} small RUN steps: wherry build, BuildKit", "ms", 0.35)
RUNS_STOCK = Item("build-runs-stock", f"{STEPS} small RUN steps: stock client, classic builder", "ms")
PARALLEL = Item(
    "build-stages",
    f"{STAGES} stages of CPU work beside two such steps one after the other, on two cores",
    "ms",
    1.15,
    columns=("two in turn", "four stages"),
)


@dataclass(frozen=True)
class Builder:
    """A client and the engine that it talks to. `own` is wherry build, `kit` BuildKit."""

    engine: Engine
    command: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)

    def build(self, folder: Path, name: str = _NAME) -> float:
        """Milliseconds. Raises RuntimeError with the client's output."""
        began = time.perf_counter()
        done = subprocess.run(
            [*self.command, "build", "-q", "-t", name, str(folder)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.variables},
        )
        taken = milliseconds(began)
        if done.returncode != 0:
            raise RuntimeError(f"{self.engine.name}: {' '.join(self.command)} build: {done.stderr.strip()}")
        return taken


def classic(engine: Engine) -> Builder:
    return Builder(engine, ("docker", "-H", engine.address), {"DOCKER_BUILDKIT": "0", "DOCKER_CLI_HINTS": "false"})


def kit(engine: Engine) -> Builder | None:
    """BuildKit in an engine, by buildx as a program of its own."""
    found = os.environ.get("PEER_BUILDX") or shutil.which("docker-buildx")
    return Builder(engine, (found,), {"DOCKER_HOST": engine.address}) if found else None


def own(engine: Engine) -> Builder | None:
    found = shutil.which("wherry")
    if found is None or engine.api.call("GET", "/version").get("Platform", {}).get("Name") != "Wherry":
        return None
    return Builder(engine, (found, "-H", engine.address))


def measure(engines: Sequence[Engine], rounds: int, files: int, keep: Keep) -> None:
    """Everything of this file. The first engine is the one that others are compared with."""
    base, others = engines[0], engines[1:]
    buildkit = kit(base)
    if buildkit is None:
        print("... no buildx (PEER_BUILDX or docker-buildx in PATH): nothing beside BuildKit", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="bench-build-") as name, _cache_as_it_was(engines):
        folder = Path(name)
        for _ in range(rounds):
            _large(folder / "large", files)
            _first_and_again(folder / "large", base, others, buildkit, keep)
            shutil.rmtree(folder / "large")
        for number in range(rounds + 1):
            _steps(folder / f"steps-{number}", base, others, buildkit, keep if number else _nowhere)
        for number in range(rounds + 1):
            for engine in others:
                if (builder := own(engine)) is not None:
                    _stages(folder / f"stages-{number}", builder, keep if number else _nowhere)


def _first_and_again(
    folder: Path, base: Engine, others: Sequence[Engine], buildkit: Builder | None, keep: Keep
) -> None:
    """A first build, and twice the same with nothing changed, by every builder in turn."""

    def both(builder: Builder, first: Sequence[Item], again: Sequence[Item]) -> None:
        _stir(folder)
        forget(builder.engine, _NAME)
        time.sleep(_MOMENT)
        _keep_all(keep, first, builder, builder.build(folder))
        settle(builder.engine)
        for _ in range(2):
            _keep_all(keep, again, builder, builder.build(folder))
        forget(builder.engine, _NAME)

    both(classic(base), (FIRST_OWN, FIRST_STOCK), (NOOP_OWN, NOOP_STOCK))
    if buildkit is not None:
        both(buildkit, (FIRST_KIT,), (NOOP_KIT,))
    for engine in others:
        both(classic(engine), (FIRST_STOCK,), (NOOP_STOCK,))
        if (builder := own(engine)) is not None:
            compared = buildkit is not None
            both(builder, (FIRST_OWN, FIRST_KIT)[: 1 + compared], (NOOP_OWN, NOOP_KIT)[: 1 + compared])


def _steps(folder: Path, base: Engine, others: Sequence[Engine], buildkit: Builder | None, keep: Keep) -> None:
    """Small RUN steps that nobody has in a cache."""

    def once(builder: Builder, item: Item) -> None:
        _dockerfile(folder, [f"FROM {IMAGE}", *(f"RUN echo {_unlike()} > /step-{step}" for step in range(STEPS))])
        settle(builder.engine)
        keep(item, builder.engine.name, builder.build(folder))
        forget(builder.engine, _NAME)

    once(classic(base), RUNS_STOCK)
    if buildkit is not None:
        once(buildkit, RUNS_KIT)
    for engine in others:
        once(classic(engine), RUNS_STOCK)
        if buildkit is not None and (builder := own(engine)) is not None:
            once(builder, RUNS_KIT)


def _stages(folder: Path, builder: Builder, keep: Keep) -> None:
    work = [f"RUN {_COUNT}; echo {_unlike()} > /done-{step}" for step in range(2)]
    _dockerfile(folder, [f"FROM {IMAGE}", *work])
    settle(builder.engine)
    keep(PARALLEL, PARALLEL.columns[0], builder.build(folder))
    lines = []
    for stage in range(STAGES):
        lines += [f"FROM {IMAGE} AS s{stage}", f"RUN {_COUNT}; echo {_unlike()} > /done-{stage}"]
    lines += [f"FROM {IMAGE}", *(f"COPY --from=s{stage} /done-{stage} /" for stage in range(STAGES))]
    _dockerfile(folder, lines)
    settle(builder.engine)
    keep(PARALLEL, PARALLEL.columns[1], builder.build(folder))
    forget(builder.engine, _NAME)


def _keep_all(keep: Keep, items: Sequence[Item], builder: Builder, taken: float) -> None:
    for item in items:
        keep(item, builder.engine.name, taken)


def _nowhere(item: Item, engine: str, sample: float) -> None:
    """A first time, to warm up."""


# contexts


def _large(folder: Path, files: int) -> None:
    """Files in five folders of twenty folders each, a COPY for each of the five."""
    content = os.urandom(_PIECE)
    for number in range(files):
        below = folder / f"part{number % FOLDERS}" / f"d{number // FOLDERS % 20}"
        below.mkdir(parents=True, exist_ok=True)
        (below / f"f{number}").write_bytes(number.to_bytes(16, "big") + content[16:])
    _dockerfile(folder, [f"FROM {IMAGE}", *(f"COPY part{part} /app/part{part}" for part in range(FOLDERS))])


def _stir(folder: Path) -> None:
    """Other files of the same names and sizes: nobody has seen them."""
    for path, _, names in os.walk(folder):
        for name in names:
            if name != "Dockerfile":
                with open(os.path.join(path, name), "r+b") as file:
                    file.write(os.urandom(8))


def _dockerfile(folder: Path, lines: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Dockerfile").write_text("\n".join(lines) + "\n")


def _unlike() -> str:
    """What no cache has."""
    return os.urandom(8).hex()


# the caches of builds


@contextmanager
def _cache_as_it_was(engines: Sequence[Engine]) -> Iterator[None]:
    """What is in the engines' build caches at the end and was not before goes, one by one."""
    before = {engine.name: _cached(engine) for engine in engines}
    try:
        yield
    finally:
        for engine in engines:
            forget(engine, _NAME)
            _remove(engine, lambda engine=engine: _cached(engine) - before[engine.name])  # type: ignore[misc]


def _cached(engine: Engine) -> set[str]:
    found = engine.api.call("GET", "/system/df?type=build-cache").get("BuildCache") or []
    return {entry["ID"] for entry in found}


def _remove(engine: Engine, left: Callable[[], set[str]]) -> None:
    """Again and again: one that others stand on goes after them."""
    while remaining := left():
        for record in remaining:
            filters = quote(json.dumps({"id": {record: True}}))
            with suppress(Failed):
                engine.api.call("POST", f"/build/prune?all=1&filters={filters}")
        if left() == remaining:
            print(f"... {engine.name} keeps {len(remaining)} entries of its build cache", file=sys.stderr)
            return
