"""What an administrator may change while the engine runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wherry.model.container_defaults import ContainerDefaults
from wherry.model.registry_options import RegistryOptions


@dataclass
class Settings:
    """Services look here each time (`lambda: settings.registries`); a reload of the daemon writes here."""

    registries: RegistryOptions = field(default_factory=RegistryOptions)
    defaults: ContainerDefaults = field(default_factory=ContainerDefaults)
    runtimes: Mapping[str, Path] = field(default_factory=dict)  # beside the host's
    default_runtime: str = ""  # "" is the host's best
    debug: bool = False
    labels: tuple[str, ...] = ()  # of the engine, `key=value`
    warnings: tuple[str, ...] = ()  # of how the daemon is run
