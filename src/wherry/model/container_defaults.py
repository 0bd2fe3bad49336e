"""What containers get that say nothing of it themselves: the daemon's `--default-*` and `--log-*`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from wherry.model.config import LogConfig, Ulimit

SHM_SIZE = 64 << 20


@dataclass(frozen=True)
class ContainerDefaults:
    """Defaults are Docker's. Everything counts from the next create on, limits from the next start on."""

    shm_size: int = SHM_SIZE  # bytes
    ulimits: Mapping[str, Ulimit] = field(default_factory=dict)  # by name
    log_driver: str = "json-file"
    log_options: Mapping[str, str] = field(default_factory=dict)

    def log_config(self, given: LogConfig) -> LogConfig:
        """The driver and its options: the default's fill in for a container that takes the default driver."""
        driver = given.type or self.log_driver
        own = given.config or {}
        return LogConfig(driver, {**self.log_options, **own} if driver == self.log_driver else own)

    def limits(self, given: Iterable[Ulimit] | None) -> list[Ulimit]:
        """A container's limits, and the defaults of those it does not name."""
        own = list(given or ())
        named = {limit.name for limit in own}
        return [*own, *(limit for name, limit in self.ulimits.items() if name not in named)]
