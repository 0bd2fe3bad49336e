"""The work that is measured: each piece does one thing once and says what it cost."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench import archives, builds, files, transfers
from bench.arithmetic import Item, turns
from bench.engine import IMAGE, LABEL, Engine, milliseconds
from bench.http import Connection
from bench.processes import weigh

MANY = 20  # containers in "start 20" and "rm -f 20"
MEASURED = 50  # containers in "stats"
LISTS = 20  # requests for one figure of "GET /containers/json": a single one takes less than waking up does
OWN_CLIENT = Item("own-client", "wherry ps beside python3 -c pass", "ms", 3.0, columns=("python3", "wherry"))


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    rounds: int
    many_rounds: int
    clients: tuple[int, ...]
    runs: int  # a measurement of runs per second
    levels: tuple[int, ...]  # idle containers
    build_rounds: int
    build_files: int  # of a large context

    @classmethod
    def full(cls, rounds: int) -> Plan:
        return cls(rounds, max(3, rounds // 4), (1, 2, 4, 8), 24, (0, 20, 200), max(2, rounds // 7), 20_000)

    @classmethod
    def quick(cls) -> Plan:
        return cls(3, 1, (1, 2), 6, (0, 5), 1, 500)


Report = Callable[[Item, str, float], None]
ALL = ("run", "alone", "exec", "many", "rate", "stats", "files", "idle", "client", "store", "registry", "build")


class Work:
    """Everything that can be measured, against `engines`, interleaved; each sample goes to `report`."""

    def __init__(self, engines: Sequence[Engine], plan: Plan, report: Report) -> None:
        self.engines = {engine.name: engine for engine in engines}
        self.plan = plan
        self.report = report

    def do(self, names: Sequence[str]) -> None:
        for name in ALL:
            if name in names:
                getattr(self, name)()

    def run(self) -> None:
        """`run --rm IMAGE true` with the stock client."""
        for network, at_most, reach in (("default", 0.2, 0.12), ("none", 0.2, 0.14), ("host", 0.25, 0.17)):
            title = f"run --rm IMAGE true, client, {network} network"
            options = () if network == "default" else ("--network", network)
            self._repeat(
                Item(f"run-{network}", title, "ms", at_most, reach),
                lambda engine, options=options: _timed(  # type: ignore[misc]
                    lambda: engine.client("run", "--rm", "--label", LABEL, *options, IMAGE, "true")
                ),
            )

    def alone(self) -> None:
        """The engine alone: create, start, wait, remove over one kept-alive connection."""
        item = Item("alone", "create, start, wait, remove: engine alone", "ms", 0.15, 0.06)
        self._repeat(item, lambda engine: _timed(lambda: _run_once(engine)))

    def exec(self) -> None:
        """`exec true` in a running container."""
        containers = {}
        for engine in self.engines.values():
            containers[engine.name] = engine.create("sleep", "1000000")
            engine.api.call("POST", f"/containers/{containers[engine.name]}/start")
        self._repeat(
            Item("exec-client", "exec true, client", "ms", 0.6, 0.4),
            lambda engine: _timed(lambda: engine.client("exec", containers[engine.name], "true")),
        )
        self._repeat(
            Item("exec-alone", "exec true: engine alone", "ms", 0.4, 0.15),
            lambda engine: _timed(lambda: _exec_once(engine, containers[engine.name])),
        )
        for engine in self.engines.values():
            engine.remove_all()

    def many(self) -> None:
        """Start and remove twenty with the stock client."""
        start = Item("start-many", f"start {MANY} detached, client", "ms", 0.2, 0.1)
        remove = Item("remove-many", f"rm -f {MANY}, client", "ms", 0.35, 0.15)
        for number, name in turns(list(self.engines), self.plan.many_rounds):
            engine = self.engines[name]
            began = time.perf_counter()
            started = [
                engine.client("run", "-d", "--label", LABEL, IMAGE, "sleep", "1000000").strip() for _ in range(MANY)
            ]
            start_cost = milliseconds(began)
            remove_cost = _timed(lambda engine=engine, started=started: engine.client("rm", "-f", *started))  # type: ignore[misc]
            if number:
                self.report(start, name, start_cost)
                self.report(remove, name, remove_cost)

    def rate(self) -> None:
        """Runs a second, so many clients at once."""
        for clients in self.plan.clients:
            item = Item(f"rate-{clients}", f"run --rm a second, {clients} stock client(s) at once", "1/s", 0.25, 0.15)
            for number, name in turns(list(self.engines), self.plan.many_rounds):
                engine = self.engines[name]
                runs = self.plan.runs if number else min(self.plan.runs, 2 * clients)

                def once(_: int, engine: Engine = engine) -> None:
                    engine.client("run", "--rm", "--label", LABEL, IMAGE, "true")

                began = time.perf_counter()
                with ThreadPoolExecutor(clients) as pool:
                    list(pool.map(once, range(runs)))
                if number:
                    self.report(item, name, runs / (time.perf_counter() - began))

    def stats(self) -> None:
        """Readings of fifty containers: with the stock client, and one after the other without waiting a second."""
        for engine in self.engines.values():
            engine.keep_idle(MEASURED)
        self._repeat(
            Item("stats-client", f"stats --no-stream of {MEASURED}, client", "ms", 0.5),
            lambda engine: _timed(lambda: engine.client("stats", "--no-stream", *engine.idle)),
        )
        self._repeat(
            Item("stats-alone", f"{MEASURED} one-shot readings: engine alone", "ms", 0.5),
            lambda engine: _timed(lambda: [_read_once(engine, container) for container in engine.idle]),
        )
        for engine in self.engines.values():
            engine.remove_all()

    def idle(self) -> None:
        """Memory of all engine processes, and ps, with so many idle containers."""
        goals = dict(zip((0, 20, 200), (0.5, 0.35, 0.25), strict=True))
        for level in self.plan.levels:
            for engine in self.engines.values():
                engine.keep_idle(level)
            time.sleep(3)
            item = Item(f"pss-{level}", f"PSS of all engine processes, {level} idle containers", "MB", goals.get(level))
            for _ in range(3):
                for engine in self.engines.values():
                    self.report(item, engine.name, weigh(engine.socket).megabytes)
            self._repeat(
                Item(f"ps-client-{level}", f"ps with {level} containers, client", "ms", 1.1, 1.0),
                lambda engine: _timed(lambda: engine.client("ps")),
            )
            self._repeat(
                Item(f"ps-alone-{level}", f"{LISTS} GET /containers/json with {level}: engine alone", "ms", 0.7, 0.4),
                lambda engine: _timed(lambda: [engine.api.call("GET", "/containers/json") for _ in range(LISTS)]),
            )
        for engine in self.engines.values():
            engine.remove_all()

    def store(self) -> None:
        """Load, save and rmi of a large image."""
        archives.measure(list(self.engines.values()), self.plan.many_rounds, self.report)

    def files(self) -> None:
        """cp, export and commit."""
        files.measure(list(self.engines.values()), self.plan.many_rounds, self.report)

    def registry(self) -> None:
        """Pull and push; only where docker-registry is installed."""
        if not transfers.available():
            return
        engines = list(self.engines.values())
        transfers.measure(engines, self.plan.many_rounds, self.report)
        transfers.pushes_of_loaded(engines, self.plan.many_rounds, self.report)

    def build(self) -> None:
        """Builds, by each builder that there is."""
        builds.measure(list(self.engines.values()), self.plan.build_rounds, self.plan.build_files, self.report)

    def client(self) -> None:
        """`wherry ps` beside `python3 -c pass`; only where the command is installed."""
        command = shutil.which("wherry")
        if command is None:
            return
        engine = list(self.engines.values())[-1]
        for number in range(self.plan.rounds + 1):
            python = _timed(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))
            ps = _timed(lambda: subprocess.run([command, "-H", engine.address, "ps"], check=True, capture_output=True))
            if number:
                self.report(OWN_CLIENT, "python3", python)
                self.report(OWN_CLIENT, "wherry", ps)

    def _repeat(self, item: Item, once: Callable[[Engine], float]) -> None:
        for number, name in turns(list(self.engines), self.plan.rounds):
            cost = once(self.engines[name])
            if number:
                self.report(item, name, cost)


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return milliseconds(began)


def _run_once(engine: Engine) -> None:
    container = engine.create("true")
    engine.api.call("POST", f"/containers/{container}/start")
    ended = engine.api.call("POST", f"/containers/{container}/wait")
    if ended["StatusCode"] != 0:
        raise RuntimeError(f"{engine.name}: true ended with {ended}")
    engine.api.call("DELETE", f"/containers/{container}")


def _read_once(engine: Engine, container: str) -> None:
    engine.api.call("GET", f"/containers/{container}/stats?stream=0&one-shot=1")


def _exec_once(engine: Engine, container: str) -> None:
    body = {"Cmd": ["true"], "AttachStdout": True, "AttachStderr": True}
    made = engine.api.call("POST", f"/containers/{container}/exec", body)["Id"]
    with Connection(engine.socket) as attached:  # its output ends when the process does
        attached.stream("POST", f"/exec/{made}/start", {"Detach": False, "Tty": False})
    while (code := engine.api.call("GET", f"/exec/{made}/json")["ExitCode"]) is None:
        pass
    if code != 0:
        raise RuntimeError(f"{engine.name}: exec true ended with {code}")
