"""Where things go: the defaults suit a machine of its own, the environment moves them so that tests disturb nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""


@dataclass(frozen=True)
class Settings:
    """Where one engine is."""

    data_root: Path
    exec_root: Path
    log: Path
    bin: Path
    """Where links to `wherry` and `wherryd` are put."""
    bip: str
    """Address and prefix of the default bridge; "" leaves the choice to the engine."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Each path by its variable, or its default."""

        def path(variable: str, default: str) -> Path:
            return Path(environment.get(variable) or default)

        return cls(
            data_root=path("WHERRY_DATA_ROOT", "/var/lib/wherry"),
            exec_root=path("WHERRY_EXEC_ROOT", "/run/wherry"),
            log=path("WHERRY_LOG", "/var/log/wherryd.log"),
            bin=path("WHERRY_BIN", "/usr/local/bin"),
            bip=environment.get("WHERRY_BIP", ""),
        )

    @property
    def socket(self) -> Path:
        return self.exec_root / "wherry.sock"

    @property
    def pidfile(self) -> Path:
        return self.exec_root / "wherry.pid"
