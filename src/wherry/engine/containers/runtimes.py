"""Which OCI runtime runs a container."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from wherry.engine.settings import Settings
from wherry.errors import InvalidParameter
from wherry.model.container import Container
from wherry.runtime.oci import Runtime


class Runtimes:
    """The host's runtimes and those of the settings, which may change while containers run.

    What containers have been started with is kept in the file `used` until the host's next boot: one that is configured
    no longer is still the one to pause, exec in and clear away after them, also for the next daemon.
    """

    def __init__(self, hosts: Mapping[str, Runtime], default: str, state: Path, settings: Settings, used: Path) -> None:
        """`hosts` by name, `default` where the settings name none, `state` the directory in which all keep theirs."""
        self._hosts = hosts
        self._default = default
        self._state = state
        self._settings = settings
        self._file = used
        self._used: dict[str, str] = json.loads(used.read_text()) if used.exists() else {}

    @property
    def default(self) -> str:
        """The name used when a container names none."""
        return self._settings.default_runtime or self._default

    @property
    def by_name(self) -> dict[str, Runtime]:
        """What a container may name."""
        return {**self._hosts, **{name: self._given(name, path) for name, path in self._settings.runtimes.items()}}

    def known(self) -> Iterable[Runtime]:
        """Those of `by_name`, and those that may have left something."""
        former = [self._given(name, path) for name, path in self._used.items() if name not in self.by_name]
        return [*self.by_name.values(), *former]

    def of(self, container: Container) -> Runtime:
        """The one that has what the container left, or would have."""
        name = container.host.runtime or self.default
        found = self.by_name.get(name)
        if found is None and name in self._used:
            return self._given(name, self._used[name])
        return found or self.by_name[self.default]

    def check(self, container: Container) -> None:
        """Before a start. Raises InvalidParameter for a name that is not configured (any more)."""
        name = container.host.runtime or self.default
        if name not in self.by_name:
            raise InvalidParameter(f"unknown or invalid runtime name: {name}")
        if name in self._settings.runtimes and self._used.get(name) != (path := str(self._settings.runtimes[name])):
            self._used[name] = path
            written = self._file.with_suffix(".new")
            written.write_text(json.dumps(self._used))
            written.replace(self._file)

    def _given(self, name: str, path: Path | str) -> Runtime:
        return Runtime(name, Path(path), self._state)
