"""Creation: everything is checked and resolved first; then the record says CREATING, things are made, the record is shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wherry.engine.containers.announce import Announcer
from wherry.engine.containers.index import Index
from wherry.engine.containers.layout import Layout
from wherry.engine.containers.needs import ImageSource, SnapshotStore, VolumeStore
from wherry.engine.containers.removing import Remover
from wherry.engine.containers.runtimes import Runtimes
from wherry.errors import InvalidParameter
from wherry.linux import cgroups, mounts
from wherry.model.config import Config, EndpointConfig, HostConfig, NetworkingConfig
from wherry.model.container import Container, Endpoint, MountPoint, Sandbox, State
from wherry.model.failpoints import failpoint
from wherry.model.host import Host
from wherry.model.ids import new_id
from wherry.model.merge import command, merge
from wherry.model.states import Happening, Status, after


@dataclass(frozen=True)
class Created:
    """A new container's ID, and what the user should know of its configuration."""

    id: str
    warnings: list[str]
