"""What an engine tells of itself: values gathered once when it opens, and a few that are asked each time."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wherry.linux import host as probing
from wherry.model.container import Container
from wherry.model.host import Host


@dataclass(frozen=True)
class Program:
    """A program of the host that the engine runs."""

    name: str
    version: str
    commit: str = ""


@dataclass(frozen=True)
class Facts:
    """See `wherry.api.system` for how they are shown."""

    host: Host
    id: str  # of this data root, a UUID
    operating_system: str
    os_version: str
    backing_filesystem: str
    default_runtime: str
    runtimes: Mapping[str, Path]
    programs: Sequence[Program]
    runtime_commit: str
    debug: bool
    containers: Callable[[], Sequence[Container]]
    image_count: Callable[[], int]
    listeners: Callable[[], int]
    tasks: Callable[[], int]
    warnings: Callable[[], Sequence[str]]
    commit: str = ""
    build_time: str = ""


class ARuntime(Protocol):
    @property
    def path(self) -> Path: ...


class SomeRuntimes(Protocol):
    @property
    def default(self) -> str: ...
    @property
    def by_name(self) -> Mapping[str, ARuntime]: ...


class Settings(Protocol):
    @property
    def data_root(self) -> Path: ...
    @property
    def debug(self) -> bool: ...


class Networking(Protocol):
    def warnings(self) -> Sequence[str]:
        """What is in the way of the networks, one sentence each."""
        ...


def gather(
    host: Host,
    runtimes: SomeRuntimes,
    settings: Settings,
    *,
    containers: Callable[[], Sequence[Container]],
    images: Callable[[], Sequence[object]],
    networks: Networking,
    listeners: Callable[[], int] = lambda: 0,
) -> Facts:
    """Look at programs and file systems once. Blocking: runs conmon and the default runtime with `--version`."""
    programs = [
        _program("conmon", host.binaries.conmon),
        _program(runtimes.default, runtimes.by_name[runtimes.default].path),
        _program("init", host.binaries.init),
    ]
    system, version = probing.operating_system()
    return Facts(
        host=host,
        id=_engine_id(settings.data_root / "engine-id"),
        operating_system=system,
        os_version=version,
        backing_filesystem=probing.file_system(settings.data_root),
        default_runtime=runtimes.default,
        runtimes={name: runtime.path for name, runtime in runtimes.by_name.items()},
        programs=[program for program in programs if program.version],
        runtime_commit=programs[1].commit,
        debug=settings.debug,
        containers=containers,
        image_count=lambda: len(images()),
        listeners=listeners,
        tasks=lambda: len(asyncio.all_tasks()),
        warnings=lambda: [*host.warnings, *networks.warnings()],
    )


def _program(name: str, path: Path | None) -> Program:
    numbers, commit = probing.program_version(path)
    return Program(path.name if path and name == "init" else name, ".".join(map(str, numbers)), commit)


def _engine_id(path: Path) -> str:
    """A UUID that stays with the data root."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        made = str(uuid.uuid4())
        path.write_text(made + "\n", encoding="ascii")
        return made
