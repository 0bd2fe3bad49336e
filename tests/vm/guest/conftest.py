"""One daemon for all tests of the virtual machine."""

from collections.abc import Iterator

import pytest

from tests.support.daemon import Wherryd, temporary_folder
from tests.support.engine import Engine


@pytest.fixture(scope="session")
def daemon() -> Iterator[Wherryd]:
    daemon = Wherryd(temporary_folder())
    daemon.start("--debug")
    yield daemon
    daemon.dispose()


@pytest.fixture(scope="session")
def prepared(daemon: Wherryd) -> Engine:
    engine = Engine("wherry", daemon.socket)
    engine.prepare()
    return engine


@pytest.fixture
def engine(prepared: Engine) -> Iterator[Engine]:
    yield prepared
    prepared.tidy()
