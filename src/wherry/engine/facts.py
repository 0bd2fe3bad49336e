"""What an engine tells of itself: values gathered once when it opens, and a few that are asked each time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry.engine.settings import Settings
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
    default_runtime: Callable[[], str]
    runtimes: Callable[[], Mapping[str, Path]]
    features: Callable[[Path], str]  # of a runtime, as JSON; "" of one that does not tell. Blocking the first time
    programs: Sequence[Program]
    runtime_commit: str
    settings: Settings
    containers: Callable[[], Sequence[Container]]
    image_count: Callable[[], int]
    listeners: Callable[[], int]
    tasks: Callable[[], int]
    warnings: Callable[[], Sequence[str]]
    commit: str = ""
    build_time: str = ""
