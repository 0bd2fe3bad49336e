"""An engine, our command on it, and BuildKit: PEER_DOCKER_HOST names the real engine, PEER_BUILDX its buildx."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.buildkit import BUILDX, BuildKit
from tests.build.client import Client, engine_with_base
from tests.build.wherry import Classic
from tests.support.daemon import Wherryd
from tests.support.engine import Engine
from tests.support.engines import PEER
from tests.support.registries import Registry, debian_registry


@pytest.fixture(scope="module")
def daemon() -> Iterator[Wherryd]:
    with engine_with_base() as daemon:
        yield daemon


@pytest.fixture(scope="module")
def bases(daemon: Wherryd) -> None:
    """The daemon has the images that the cases build on."""
    Classic(daemon).prepare()


@pytest.fixture
def client(daemon: Wherryd, tmp_path: Path) -> Iterator[Client]:
    yield Client(daemon, tmp_path / "home")
    Engine("wherry", daemon.socket).tidy()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "context"
    made.mkdir()
    return made


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with debian_registry(tmp_path_factory.mktemp("registry"), password=True) as registry:
        yield registry


@pytest.fixture(scope="session")
def buildkit() -> Iterator[BuildKit]:
    if not PEER or not BUILDX:
        pytest.skip("probe buildkit: PEER_DOCKER_HOST names no engine, or there is no docker-buildx (PEER_BUILDX)")
    with Path("/tmp/wt-peer.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        peer = BuildKit()
        peer.prepare()
        yield peer
        peer.tidy()
