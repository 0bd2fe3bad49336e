"""What an administrator may change while the engine runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from wherry.model.container_defaults import ContainerDefaults
from wherry.model.registry_options import RegistryOptions


@dataclass
class Settings:
    """Services look here each time (`lambda: settings.registries`); a reload of the daemon writes here."""

    registries: RegistryOptions = field(default_factory=RegistryOptions)
    defaults: ContainerDefaults = field(default_factory=ContainerDefaults)
    debug: bool = False
    labels: tuple[str, ...] = ()  # of the engine, `key=value`
    warnings: tuple[str, ...] = ()  # of how the daemon is run
