"""The whole protocol against the distribution's own registry: open, with a password, with TLS by a private CA."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.registries import PASSWORD, USER, Registry, debian_registry, put_manifest
from wherry.errors import NotFound, WherryError
from wherry.model.credentials import Credentials
from wherry.model.manifests import MEDIA_MANIFEST, Descriptor
from wherry.model.reference import Reference
from wherry.model.registry_options import RegistryOptions
from wherry.registry.client import RegistryClient, RegistrySettings, Repository
from wherry.registry.errors import RegistryError

CREDENTIALS = Credentials(username=USER, password=PASSWORD)
DATA = os.urandom(3_000_000)


def describe(data: bytes) -> Descriptor:
    return Descriptor(digest=f"sha256:{hashlib.sha256(data).hexdigest()}", size=len(data))


async def send(repository: Repository, data: bytes) -> Descriptor:
    told: list[int] = []

    async def read(offset: int) -> AsyncIterator[bytes]:
        for at in range(offset, len(data), 100_000):
            yield data[at : at + 100_000]

    await repository.upload(describe(data), read, told.append)
    assert told[0] == 0 and told[-1] == len(data)
    return describe(data)


async def fetch(repository: Repository, descriptor: Descriptor, offset: int = 0) -> bytes:
    return b"".join([piece async for piece in repository.blob(descriptor, offset)])


def trust(settings: RegistrySettings, registry: Registry, authority: Authority) -> Path:
    folder = settings.certificate_folders[0] / registry.host
    folder.mkdir(parents=True)
    shutil.copy(authority.cert, folder / "ca.crt")
    return folder


async def round_trip(client: RegistryClient, registry: Registry, credentials: Credentials | None = None) -> None:
    repository = client.repository(Reference(registry.host, "wt/round"), credentials)
    config = await send(repository, b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}')
    layer = await send(repository, DATA)
    assert await repository.has_blob(layer.digest)
    assert not await repository.has_blob("sha256:" + "0" * 64)
    assert await fetch(repository, layer) == DATA
    assert await fetch(repository, layer, 1_000_001) == DATA[1_000_001:]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MEDIA_MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config.digest,
                "size": config.size,
            },
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.digest, "size": layer.size}
            ],
        }
    ).encode()
    digest = await repository.put_manifest("one", MEDIA_MANIFEST, manifest)
    assert digest == describe(manifest).digest
    for ref in ("one", digest):
        fetched = await repository.manifest(ref)
        assert (fetched.media_type, fetched.digest, fetched.data) == (MEDIA_MANIFEST, digest, manifest)
        found = await repository.head(ref)
        assert found is not None
        assert (found.media_type, found.digest, found.size) == (MEDIA_MANIFEST, digest, len(manifest))
    assert await repository.head("none") is None
    assert await repository.tags() == ["one"]
    other = client.repository(Reference(registry.host, "wt/other"), credentials)
    assert await other.mount(layer.digest, "wt/round")
    assert await fetch(other, layer) == DATA
    assert not await other.mount("sha256:" + "1" * 64, "wt/round")
    with pytest.raises(NotFound, match=f"^manifest for {registry.host}/wt/round:none not found: manifest unknown: "):
        await repository.manifest("none")


async def test_open(client: RegistryClient, open_registry: Registry) -> None:
    await round_trip(client, open_registry)


async def test_password(client: RegistryClient, password_registry: Registry) -> None:
    await round_trip(client, password_registry, CREDENTIALS)


async def test_tls(
    client: RegistryClient, settings: RegistrySettings, tls_registry: Registry, authority: Authority
) -> None:
    trust(settings, tls_registry, authority)
    await round_trip(client, tls_registry, CREDENTIALS)


async def test_while_all_threads_of_the_engine_wait_for_bytes(
    settings: RegistrySettings, tls_registry: Registry, authority: Authority
) -> None:
    """Consumers of downloads take threads until their bytes have come: fetching these must need none of them."""
    folder = trust(settings, tls_registry, authority)
    released = threading.Event()
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as executor:
        loop.set_default_executor(executor)
        waiting = loop.run_in_executor(None, released.wait, 60)
        try:
            async with RegistryClient(settings=settings) as client:
                named = tls_registry.host.replace("127.0.0.1", "localhost")
                shutil.copytree(folder, folder.with_name(named))
                repository = client.repository(Reference(named, "wt/threads"), CREDENTIALS)
                assert await repository.head("none") is None
                assert not waiting.done()
        finally:
            released.set()
            await waiting


async def test_without_and_with_wrong_password(client: RegistryClient, password_registry: Registry) -> None:
    reference = Reference(password_registry.host, "wt/x")
    with pytest.raises(RegistryError) as none:
        await client.repository(reference).manifest("1")
    url = f"http://{password_registry.host}/v2/wt/x/manifests/1"
    assert str(none.value) == f'Head "{url}": no basic auth credentials'
    with pytest.raises(RegistryError) as wrong:
        await client.repository(reference, Credentials(username=USER, password="wrong")).manifest("1")
    assert str(wrong.value) == "unauthorized: authentication required"
    assert wrong.value.status == 401 and wrong.value.request == f"GET {url}" and not wrong.value.retryable


async def test_unknown_authority_is_refused_and_plain_http_not_tried(
    tls_registry: Registry, settings: RegistrySettings
) -> None:
    """Loopback alone is exempt: by the name of a host that is not, the certificate counts."""
    from wherry.registry.hosts import read_endpoints
    from wherry.registry.sessions import Session

    async with RegistryClient(settings=settings) as client:
        endpoint = (
            await asyncio.to_thread(read_endpoints, tls_registry.host, settings.certificate_folders, {}, False)
        )[0]
        assert not endpoint.plain_base
        session = Session(endpoint, CREDENTIALS, client.transport, client.authorizer, client.greetings)
        with pytest.raises(RegistryError) as refused:
            await session.greet()
        assert str(refused.value) == (
            f'Get "https://{tls_registry.host}/v2/": tls: failed to verify certificate: x509: certificate signed by'
            " unknown authority"
        )


async def test_client_certificate(
    client: RegistryClient, settings: RegistrySettings, tmp_path: Path, authority: Authority
) -> None:
    clients = Authority(tmp_path / "clients", "wt-clients")
    with debian_registry(tmp_path / "registry", authority=authority, client_authority=clients) as registry:
        folder = trust(settings, registry, authority)
        repository = client.repository(Reference(registry.host, "wt/x"))
        with pytest.raises(WherryError, match=r"remote error: tls: (bad certificate|certificate required)$"):
            await repository.tags()
        pair = clients.issue("client")
        shutil.copy(pair.cert, folder / "client.cert")
        shutil.copy(pair.key, folder / "client.key")
        await send(client.repository(Reference(registry.host, "wt/x")), b"data")


async def test_a_key_without_its_certificate(client: RegistryClient, settings: RegistrySettings) -> None:
    folder = settings.certificate_folders[0] / "127.0.0.1:1"
    folder.mkdir(parents=True)
    (folder / "client.cert").write_text("x")
    with pytest.raises(WherryError, match=r"missing key client\.key for client certificate client\.cert"):
        await client.repository(Reference("127.0.0.1:1", "x")).tags()
    (folder / "client.key").write_text("x")
    with pytest.raises(WherryError, match=r"client.cert cannot be read"):
        await client.repository(Reference("127.0.0.1:1", "x")).tags()


async def test_nobody_there(client: RegistryClient) -> None:
    with pytest.raises(RegistryError) as refused:
        await client.repository(Reference("127.0.0.1:1", "x")).manifest("1")
    assert str(refused.value) == 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'
    with pytest.raises(RegistryError) as unknown:
        await client.repository(Reference("nohost.invalid", "x")).manifest("1")
    assert str(unknown.value) == 'Get "https://nohost.invalid/v2/": dial tcp: lookup nohost.invalid: no such host'


async def test_all_tags_of_many(client: RegistryClient, open_registry: Registry) -> None:
    repository = client.repository(Reference(open_registry.host, "wt/many"))
    config = await send(repository, b"{}")
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MEDIA_MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config.digest,
                "size": config.size,
            },
            "layers": [],
        }
    ).encode()
    for number in range(5):
        put_manifest(open_registry.host, "wt/many", f"t{number}", MEDIA_MANIFEST, manifest)
    assert sorted(await repository.tags()) == [f"t{number}" for number in range(5)]


async def test_an_insecure_registry_by_name(
    settings: RegistrySettings, tls_registry: Registry, authority: Authority
) -> None:
    options = RegistryOptions(insecure=(tls_registry.host,))
    async with RegistryClient(lambda: options, settings) as client:
        await round_trip_tags(client, tls_registry)


async def round_trip_tags(client: RegistryClient, registry: Registry) -> None:
    repository = client.repository(Reference(registry.host, "wt/insecure"), CREDENTIALS)
    await send(repository, b"something")
    assert await fetch(repository, describe(b"something")) == b"something"
