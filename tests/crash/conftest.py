"""A daemon that tests kill: one data root for all of them, and what its host looks like when nothing runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support import inventory
from tests.support.daemon import Wherryd, temporary_folder
from tests.support.engine import Engine
from tests.support.inventory import Inventory


@dataclass
class Box:
    """The daemon, its engine, and its clean state: the base image and nothing else."""

    daemon: Wherryd
    engine: Engine
    clean: Inventory

    def crash(self) -> None:
        """`kill -9` the daemon and start the next."""
        self.daemon.kill()
        self.daemon.start()

    def tidy(self) -> None:
        """Remove everything through the API; the host must be as it was."""
        self.engine.tidy()
        assert self.engine.http.post("/build/prune", all=1).status == 200
        for image in self.engine.http.get("/images/json").json():
            for tag in image["RepoTags"] or [image["Id"]]:
                if tag != "wt-base:latest":
                    assert self.engine.http.delete(f"/images/{tag}", force=1).status == 200
        assert self.engine.http.get("/containers/json", all=1).json() == []
        self.assert_nothing_left()

    def assert_nothing_left(self) -> None:
        volumes = self.engine.http.get("/volumes").json()["Volumes"]
        assert volumes in (None, []), "volumes without a container"
        inventory.assert_nothing_beyond(self.clean, self.daemon)


@pytest.fixture(scope="session")
def session_box() -> Iterator[Box]:
    daemon = Wherryd(temporary_folder())
    try:
        daemon.start()
        engine = Engine("wherry", daemon.socket)
        engine.prepare()
        engine.exec(engine.idle(), ["true"])  # makes what is made once: folders, parents of cgroups
        engine.tidy()
        daemon.stop()
        daemon.start()
        box = Box(daemon, engine, inventory.take(daemon))
        yield box
    finally:
        daemon.dispose()


@pytest.fixture
def box(session_box: Box) -> Iterator[Box]:
    """A running daemon with nothing but the base image, before and after."""
    process = session_box.daemon.process
    if process is None or process.poll() is not None:
        session_box.daemon.start()
    yield session_box
    process = session_box.daemon.process
    if process is None or process.poll() is not None:
        session_box.daemon.start()
    session_box.tidy()
