"""docs/api.md tells of every operation what the routes do."""

import re
from pathlib import Path
from typing import Any, cast

import pytest

from wherry.api import (
    build_cache,
    build_session,
    builds,
    containers,
    disk_usage,
    events,
    execs,
    files,
    images,
    networks,
    registries,
    resources,
    system,
    unsupported,
    volumes,
)
from wherry.api.app import App, Route
from wherry.errors import NotFound

DOCUMENT = Path(__file__).parents[3] / "docs" / "api.md"
ROW = re.compile(r"\| `(?P<method>[A-Z]+)` \| `(?P<path>/[^`]*)` \| (?P<state>\w+) \|")


def rows() -> list[tuple[str, str, str]]:
    return [(row["method"], row["path"], row["state"]) for row in ROW.finditer(DOCUMENT.read_text())]


def done() -> list[Route]:
    nothing = cast(Any, None)  # routes are looked up here, never called
    return [
        *system.routes(nothing),
        *containers.routes(nothing, nothing, nothing, nothing),
        *resources.routes(nothing, nothing, nothing, nothing),
        *execs.routes(nothing),
        *files.routes(nothing, nothing),
        *registries.routes(nothing),
        *images.routes(nothing, nothing, nothing, nothing),
        *volumes.routes(nothing),
        *networks.routes(nothing, nothing, nothing),
        *events.routes(nothing),
        *disk_usage.routes(nothing, nothing, nothing),
        *builds.routes(nothing, nothing),
        *build_cache.routes(nothing),
        *build_session.routes(nothing),
    ]


def routed(app: App, method: str, path: str) -> bool:
    try:
        app.find(method, re.sub(r"{\w+}", "x", path))
    except NotFound:
        return False
    return True


def test_all_public_operations_are_there() -> None:
    assert len(rows()) > 100


@pytest.mark.parametrize(("method", "path", "state"), rows())
def test_row(method: str, path: str, state: str) -> None:
    if state in ("done", "partly") and path != "/plugins":
        assert routed(App(done()), method, path)
    assert routed(App([*done(), *unsupported.routes(lambda name: None)]), method, path)
