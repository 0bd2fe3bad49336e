"""The `--flags` of an instruction, checked against those it knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from wherry.model.dockerfile.source import DockerfileError, suggesting

Kind = Literal["bool", "text", "texts"]


class Flags:
    """What was given of the flags that an instruction has. Raises DockerfileError in BuildKit's words."""

    def __init__(self, given: Iterable[str], **known: Kind) -> None:
        """Names are written with `_` for `-`, and one at the end where Python would not have the name."""
        self._texts: dict[str, list[str]] = {}
        kinds = {name.rstrip("_").replace("_", "-"): kind for name, kind in known.items()}
        for word in given:
            name, equals, value = word.removeprefix("--").partition("=")
            kind = kinds.get(name)
            if kind is None:
                raise DockerfileError(suggesting(f"unknown flag: {name}", name, kinds))
            if name in self._texts and kind != "texts":
                raise DockerfileError(f"duplicate flag specified: {name}")
            if kind == "bool":
                if equals and not value:
                    raise DockerfileError(f"missing a value on flag: {name}")
                if value.lower() not in ("", "true", "false"):
                    raise DockerfileError(f"expecting boolean value for flag {name}, not: {value}")
                value = value.lower() or "true"
            elif not equals:
                raise DockerfileError(f"missing a value on flag: {name}")
            self._texts.setdefault(name, []).append(value)

    def text(self, name: str) -> str:
        return self._texts.get(name, [""])[-1]

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(self._texts.get(name, ()))

    def true(self, name: str) -> bool:
        return self.text(name) == "true"

    def choice(self, name: str) -> bool | None:
        """None if it was not given."""
        return self.true(name) if name in self._texts else None
