"""The API's paths of objects that people name."""

from __future__ import annotations

from wherry.cli.errors import Failure
from wherry.model.gotext import escape

_SAFE = {"image": "/:@", "plugin": "/:@"}


def of(kind: str, name: str, verb: str = "") -> str:
    """`/containers/NAME/VERB` for kind "container"; images keep their slashes. Raises Failure for an empty name."""
    name = name.strip()
    if not name:
        raise Failure(f"invalid {kind} name or ID: value is empty")
    return f"/{kind}s/{escape(name, _SAFE.get(kind, ''))}" + (f"/{verb}" if verb else "")


def container(name: str, verb: str = "") -> str:
    return of("container", name, verb)
