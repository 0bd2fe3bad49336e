"""wherryd with a stopwatch around its functions, for `bench trace --spans`.

    python -m bench.inside SPANS -H unix:///run/wherry/docker.sock --data-root ...

runs the daemon with the arguments after SPANS and appends to that file one line for each call that took `LEAST` or
longer: when it began and ended (CLOCK_MONOTONIC, ns), in which thread, and which function it was. The daemon itself
knows nothing of it: functions and methods of its packages are replaced after they were imported. It costs some
microseconds a call, so that a run measured this way is a little slower than it is.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGES = ("wherry.api", "wherry.engine", "wherry.runtime", "wherry.storage", "wherry.linux")
LEAST = 50_000  # ns
_WRITE_EVERY = 0.1  # seconds

Function = Callable[..., Any]


class Spans:
    """Collects spans in memory and appends them to a file now and then, from a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1024 * 1024)
        self._lines: list[str] = []
        threading.Thread(target=self._write, daemon=True).start()

    def add(self, began: int, name: str) -> None:
        ended = time.monotonic_ns()
        if ended - began >= LEAST:
            self._lines.append(f"{began} {ended} {threading.get_native_id()} {name}\n")

    def _write(self) -> None:
        while True:
            time.sleep(_WRITE_EVERY)
            lines, self._lines = self._lines, []
            self._file.writelines(lines)
            self._file.flush()


def timed(function: Function, name: str, spans: Spans) -> Function:
    """`function` with its calls noted; what a coroutine function notes ends when its coroutine does."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def noted_async(*args: Any, **kwargs: Any) -> Any:
            began = time.monotonic_ns()
            try:
                return await function(*args, **kwargs)
            finally:
                spans.add(began, name)

        return noted_async

    @functools.wraps(function)
    def noted(*args: Any, **kwargs: Any) -> Any:
        began = time.monotonic_ns()
        try:
            return function(*args, **kwargs)
        finally:
            spans.add(began, name)

    return noted


def instrument(packages: tuple[str, ...], spans: Spans) -> None:
    """Replace the functions of all modules of `packages`, wherever they were imported to."""
    modules = [module for package in packages for module in _modules(package)]
    replaced: dict[Function, Function] = {}
    for module in modules:
        for owner, name, function in _functions(module):
            if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
                continue
            label = f"{module.__name__.removeprefix('wherry.')}.{function.__qualname__}"
            replaced[function] = wrapper = timed(function, label, spans)
            if owner is not module:
                setattr(owner, name, wrapper)
    for module in [loaded for name, loaded in sys.modules.items() if name.startswith("wherry")]:
        for name, value in list(vars(module).items()):
            if inspect.isfunction(value) and value in replaced:
                setattr(module, name, replaced[value])


def _modules(package: str) -> Iterator[ModuleType]:
    parent = importlib.import_module(package)
    yield parent
    for found in pkgutil.walk_packages(parent.__path__, f"{package}."):
        yield importlib.import_module(found.name)


def _functions(module: ModuleType) -> Iterator[tuple[Any, str, Function]]:
    for name, value in list(vars(module).items()):
        if inspect.isfunction(value) and value.__module__ == module.__name__:
            yield module, name, value
        elif inspect.isclass(value) and value.__module__ == module.__name__:
            for attribute, method in list(vars(value).items()):
                if inspect.isfunction(method) and not attribute.startswith("__"):
                    yield value, attribute, method


def main() -> int:
    path, *arguments = sys.argv[1:]
    instrument(PACKAGES, Spans(Path(path)))
    from wherry.daemon import main as daemon

    sys.argv = ["wherryd", *arguments]
    daemon()
    return 0


if __name__ == "__main__":
    sys.exit(main())
