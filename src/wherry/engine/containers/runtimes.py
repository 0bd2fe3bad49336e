"""Which OCI runtime runs a container."""

from __future__ import annotations

from dataclasses import dataclass

from wherry.errors import InvalidParameter
from wherry.model.container import Container
from wherry.runtime.oci import Runtime


@dataclass(frozen=True)
class Runtimes:
    """The runtimes by name, and the name used when a container names none."""

    by_name: dict[str, Runtime]
    default: str

    def of(self, container: Container) -> Runtime:
        return self.named(container.host.runtime)

    def named(self, name: str) -> Runtime:
        """Raises InvalidParameter for a name that is not configured."""
        try:
            return self.by_name[name or self.default]
        except KeyError:
            raise InvalidParameter(f"unknown or invalid runtime name: {name}") from None
