"""BuildKit for the tests that compare with it: PEER_DOCKER_HOST names the real engine, PEER_BUILDX its buildx."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.buildkit import BUILDX, BuildKit
from tests.support.engines import PEER


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
