"""`python -m bench`: compare engines; `python -m bench trace`: where the time of one run goes."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

from bench import machine, report
from bench.arithmetic import Item
from bench.engine import Engine
from bench.trace import trace
from bench.work import ALL, Plan, Work

_EPILOG = """\
The first engine named is the base of the ratios, unless --base says otherwise. Engines must be idle: their processes,
containers and the machine's other load are part of what is measured. Needs root (memory of others' processes) and the
host's /bin/busybox (package busybox-static), from which the image is made.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, epilog=_EPILOG)
    parser.add_argument("what", nargs="?", choices=["compare", "trace"], default="compare")
    parser.add_argument("--engine", action="append", required=True, metavar="NAME=unix:///SOCKET", type=_engine)
    parser.add_argument("--base", metavar="NAME", help="the engine that the others are compared with")
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each work (default 15)")
    parser.add_argument("--quick", action="store_true", help="little of everything: does it run at all?")
    parser.add_argument("--only", default=",".join(ALL), help=f"comma-separated: {', '.join(ALL)}")
    parser.add_argument("--of", choices=["run", "exec"], default="run", help="trace: what is traced")
    parser.add_argument("--spans", type=Path, help="trace: the file of a daemon started by `python -m bench.inside`")
    parser.add_argument("--json", type=Path, help="write every sample and the machine here")
    parser.add_argument("--svg", type=Path, help="write a plot of the ratios here")
    options = parser.parse_args()
    names = [name for name, _ in options.engine]
    base = options.base or names[0]
    only = options.only.split(",")
    if base not in names or not set(only) <= set(ALL) or len(set(names)) != len(names):
        parser.error("--base must be one of the engines, --only of the known works, names of engines unique")
    try:
        engines = [Engine(name, address) for name, address in options.engine]
    except OSError as error:
        parser.error(f"an engine does not answer: {error}: {', '.join(address for _, address in options.engine)}")
    try:
        for engine in engines:
            engine.prepare()
        if options.what == "trace":
            for engine in engines:
                print(trace(engine, options.of, options.spans))
            return 0
        return _compare(engines, base, only, options)
    finally:
        for engine in engines:
            engine.clean()


def _compare(engines: list[Engine], base: str, only: list[str], options: argparse.Namespace) -> int:
    facts = machine.describe({engine.name: engine.version() for engine in engines})
    facts["containers_of_others"] = {
        engine.name: len(engine.api.call("GET", "/containers/json?all=1")) for engine in engines
    }
    print(json.dumps(facts, indent=2), flush=True)
    items: dict[str, Item] = {}
    results: dict[str, dict[str, list[float]]] = {}

    def keep(item: Item, engine: str, sample: float) -> None:
        if item.key not in items:
            items[item.key] = item
            print(f"... {item.title}", file=sys.stderr, flush=True)
        results.setdefault(item.key, {}).setdefault(engine, []).append(sample)

    names = [engine.name for engine in engines]
    plan = Plan.quick() if options.quick else Plan.full(options.rounds)
    try:
        Work(engines, plan, keep).do(only)
    finally:
        facts["load_at_end"] = os.getloadavg()[0]
        order = list(items.values())
        print(report.tables(order, results, names, base))
        if options.json:
            command = f"python -m bench {shlex.join(sys.argv[1:])}"
            found = report.as_json(order, results, names, base, facts, command)
            options.json.write_text(json.dumps(found, indent=1) + "\n")
        if options.svg:
            options.svg.write_text(report.svg(order, results, names, base))
    return 0


def _engine(text: str) -> tuple[str, str]:
    name, equals, address = text.partition("=")
    if not equals or not address.startswith("unix://"):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=unix:///SOCKET")
    return name, address


if __name__ == "__main__":
    sys.exit(main())
