"""The engines that the API tests run against: ours always, the real one too when PEER_DOCKER_HOST names its socket."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import inventory
from tests.support.daemon import Wherryd, temporary_folder
from tests.support.engine import Engine

PEER = os.environ.get("PEER_DOCKER_HOST", "")


@pytest.fixture(scope="session", params=["wherry", *(["docker"] if PEER else [])])
def session_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "docker":
        engine = Engine("docker", Path(PEER.removeprefix("unix://")))
        with Path("/tmp/wt-peer.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one run at a time: names are the same in all
            engine.prepare()
            yield engine
            engine.tidy()
            engine.tidy_images()
        return
    daemon = Wherryd(temporary_folder())
    daemon.start()
    try:
        engine = Engine("wherry", daemon.socket)
        engine.prepare()
        engine.exec(engine.idle(), ["true"])  # makes what is made once: folders, parents of cgroups
        engine.tidy()
        engine.tidy_images()
        clean = inventory.take(daemon)
        engine.prepare()
        yield engine
        engine.tidy()
        engine.tidy_images()
        inventory.assert_nothing_beyond(clean, daemon)
    finally:
        daemon.dispose()


@pytest.fixture
def engine(session_engine: Engine) -> Iterator[Engine]:
    """The engine with the base image; whatever containers and volumes a test makes are gone after it."""
    yield session_engine
    session_engine.tidy()
