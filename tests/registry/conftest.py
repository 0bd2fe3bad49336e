"""What the tests of the registry client share: registries of three kinds, and a client that gives up fast."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.registries import Registry, debian_registry
from wherry.model.proxies import Proxies
from wherry.model.registry_options import RegistryOptions
from wherry.registry.client import RegistryClient, RegistrySettings
from wherry.registry.retrying import Retries

FAST = Retries(most=4, first=0.01, longest=0.02, patience=2.0)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with debian_registry(tmp_path_factory.mktemp("open")) as registry:
        yield registry


@pytest.fixture(scope="session")
def password_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with debian_registry(tmp_path_factory.mktemp("password"), password=True) as registry:
        yield registry


@pytest.fixture(scope="session")
def tls_registry(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Registry]:
    """With a private CA, and a password."""
    with debian_registry(tmp_path_factory.mktemp("tls"), authority=authority, password=True) as registry:
        yield registry


@pytest.fixture
def options() -> RegistryOptions:
    return RegistryOptions()


@pytest.fixture
def settings(tmp_path: Path) -> RegistrySettings:
    return RegistrySettings(
        proxies=Proxies(), certificate_folders=(tmp_path / "certs.d",), retries=FAST, silence_seconds=20.0
    )


@pytest.fixture
async def client(options: RegistryOptions, settings: RegistrySettings) -> AsyncIterator[RegistryClient]:
    async with RegistryClient(lambda: options, settings) as client:
        yield client
