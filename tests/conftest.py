"""For every test: a call that blocks the event loop fails it (warnings do too, see pyproject.toml)."""

import os
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster
from hypothesis import HealthCheck, settings

import wherry
from tests.support.engines import engine, session_engine

__all__ = ["engine", "no_blocking_call_on_the_loop", "session_engine"]

# No deadline and no check of how fast examples are made, since no test asserts on time. In continuous integration the
# same examples each time: what random ones find should be found by who wrote it.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

ON_THE_LOOP_BY_DECISION = ("sqlite3.", "os.", "io.")
"""Kinds of call that our code may make on the loop, because they take microseconds where we make them.

SQLite: a commit is one small write, cheaper than a thread hop (wherry.storage.database). Files: single operations on
names and small files of /proc, /sys and /run, which lie in memory. What stays forbidden: sleeping, waiting for a lock,
blocking sockets, and walking directories (below).
"""
NEVER_ON_THE_LOOP = ("os.scandir", "os.listdir", "os.sendfile", "os.statvfs")


@pytest.fixture(autouse=True)
def no_blocking_call_on_the_loop() -> Iterator[None]:
    buster = BlockBuster(scanned_modules=wherry)
    for name, function in buster.functions.items():
        if name in NEVER_ON_THE_LOOP or not name.startswith(ON_THE_LOOP_BY_DECISION):
            function.activate()
    yield
    buster.deactivate()
