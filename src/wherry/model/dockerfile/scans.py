"""Which trees of a build an SBOM is to tell of beside the result (BuildKit's documentation, "SBOMs")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wherry.model.dockerfile.instructions import Arg, Instruction
from wherry.model.dockerfile.state import State

CONTEXT, STAGE = "BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"


def asked(key: str, state: State, instructions: Iterable[Instruction], before: Mapping[str, str]) -> bool:
    """Whether one of the two arguments has a value that means the stage: true, or a list of names with its own.

    Its own ARG counts before one `before` the first FROM.
    """
    own = any(item.key == key for each in instructions if isinstance(each, Arg) for item in each.definitions)
    value = before.get(key, "")
    if own:
        value = next((item.value or "" for item in reversed(state.arguments) if item.key == key), "")
    if value.lower() in ("1", "t", "true", "0", "f", "false"):
        return value.lower() in ("1", "t", "true")
    return bool(value) and state.name in [name.strip() for name in value.split(",")]
