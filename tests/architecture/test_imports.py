"""Imports flow one way. An edge that does not is shown with the chain of imports that leads to it."""

import ast
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"

_KERNEL = {"linux", "model", "errors"}
_ADAPTERS = {"runtime", "registry", "storage"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "model": {"errors"},
    "linux": {"model", "errors"},
    "runtime": _KERNEL,
    "registry": _KERNEL,
    "storage": _KERNEL,
    "engine": _ADAPTERS | _KERNEL,
    "api": {"engine"} | _ADAPTERS | _KERNEL,
    "daemon": {"api", "engine"} | _ADAPTERS | _KERNEL,
    "client": {"model", "errors"},
    "cli": {"client", "model", "errors"},
}
"""Which layers each layer may import, besides itself; each is the name right under `wherry`."""

ONLY_IN_LINUX = {"ctypes"}
NOT_IN_MODEL = {"asyncio", "ctypes", "shutil", "socket", "sqlite3", "subprocess", "tempfile", "threading"}
NOT_IN_CLIENT = {"aiohttp", "pyroute2", "sqlite3"}
"""The daemon's heavy parts, which would make the command start slowly."""


def layer(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(path: Path, module: str) -> Iterator[str]:
    """Every module named by an import statement of the file, wherever it stands, also under TYPE_CHECKING."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(), path)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=name, names=names, level=level):
                base = name or ""
                if level:
                    parent = ".".join(package.split(".")[: len(package.split(".")) - level + 1])
                    base = f"{parent}.{base}".rstrip(".")
                yield base
                yield from (f"{base}.{alias.name}" for alias in names)


def import_graph(source: Path) -> dict[str, set[str]]:
    """Module -> what it imports: our own modules, and others by their dotted names."""
    modules: dict[str, Path] = {}
    for path in source.rglob("*.py"):
        parts = path.relative_to(source).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {
        module: {name for name in imports(path, module) if name in modules or not name.startswith("wherry")} - {module}
        for module, path in modules.items()
    }


def offending_edges(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    return sorted(
        (module, target)
        for module, targets in graph.items()
        for target in targets
        if target in graph and layer(target) and layer(module)
        if layer(target) != layer(module) and layer(target) not in MAY_IMPORT[layer(module)]
    )


def chain(graph: dict[str, set[str]], end: tuple[str, str]) -> str:
    """The shortest way by imports from a module that nobody imports to the offending edge."""
    imported = set().union(*graph.values())
    ways = deque([module] for module in graph if module not in imported or module == end[0])
    shortest = [end[0]]
    seen: set[str] = set()
    while ways:
        way = ways.popleft()
        if way[-1] == end[0]:
            shortest = way
            if len(way) > 1 or end[0] not in imported:
                break
            continue
        for target in sorted(graph.get(way[-1], set()) - seen):
            seen.add(target)
            ways.append([*way, target])
    return " -> ".join([*shortest, end[1]])


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return import_graph(SOURCE)


def test_every_module_belongs_to_a_layer(graph: dict[str, set[str]]) -> None:
    assert {layer(module) for module in graph} - {""} <= set(MAY_IMPORT)


def test_imports_flow_one_way(graph: dict[str, set[str]]) -> None:
    chains = [chain(graph, edge) for edge in offending_edges(graph)]
    assert not chains, "imports against the direction of the layers:\n" + "\n".join(chains)


def test_ctypes_is_only_in_linux(graph: dict[str, set[str]]) -> None:
    assert not [m for m, targets in graph.items() if layer(m) != "linux" and ONLY_IN_LINUX & roots(targets)]


def test_model_does_no_input_or_output(graph: dict[str, set[str]]) -> None:
    assert not [
        (m, NOT_IN_MODEL & roots(t)) for m, t in graph.items() if layer(m) == "model" and NOT_IN_MODEL & roots(t)
    ]


def test_the_command_does_not_load_the_daemons_heavy_parts(graph: dict[str, set[str]]) -> None:
    ours = sorted(module for module in graph if layer(module) in {"cli", "client"})
    script = f"import sys, {', '.join(ours)}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not NOT_IN_CLIENT & set(loaded)


def roots(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def test_the_test_itself_sees_an_offence_and_shows_the_chain(tmp_path: Path) -> None:
    for name, text in {
        "wherry/__init__.py": "",
        "wherry/cli/__init__.py": "",
        "wherry/cli/main.py": "from wherry.cli import table",
        "wherry/cli/table.py": "def f():\n    from ..storage.database import Database",
        "wherry/storage/__init__.py": "",
        "wherry/storage/database.py": "import sqlite3",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    graph = import_graph(tmp_path)
    (edge,) = offending_edges(graph)
    assert chain(graph, edge) == "wherry.cli.main -> wherry.cli.table -> wherry.storage.database"
