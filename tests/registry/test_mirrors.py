"""Mirrors: Docker Hub's by the daemon's option, any registry's by hosts.toml; and proxies."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.certificates import Authority
from tests.support.registries import PASSWORD, USER, Scripted, free_port, scripted, server_context
from wherry.engine.registries import read_small
from wherry.errors import InvalidParameter, WherryError
from wherry.model.credentials import Credentials
from wherry.model.manifests import MEDIA_MANIFEST, Descriptor
from wherry.model.proxies import Proxies
from wherry.model.reference import Reference, parse
from wherry.model.registry_options import RegistryOptions
from wherry.registry.client import RegistryClient, RegistrySettings
from wherry.registry.search import search

CREDENTIALS = Credentials(username=USER, password=PASSWORD)
MANIFEST = b'{"schemaVersion":2,"mediaType":"%s","config":{},"layers":[]}' % MEDIA_MANIFEST.encode()
DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
BLOB = b"0123456789" * 1000
DESCRIPTOR = Descriptor(digest=f"sha256:{hashlib.sha256(BLOB).hexdigest()}", size=len(BLOB))


def stock(registry: Scripted, repository: str = "x", prefix: str = "/v2") -> None:
    for ref in ("1", DIGEST):
        registry.answer("GET", f"{prefix}/{repository}/manifests/{ref}", MANIFEST, Content_Type=MEDIA_MANIFEST)
    registry.answer("GET", f"{prefix}/{repository}/blobs/{DESCRIPTOR.digest}", BLOB)


def asked(registry: Scripted) -> list[str]:
    """Paths, without greetings."""
    return [seen.path for seen in registry.seen if seen.path not in ("/v2/", "/")]


def configure(settings: RegistrySettings, host: str, text: str) -> Path:
    folder = settings.certificate_folders[0] / host
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text(text)
    return folder


@pytest.fixture
async def registry() -> AsyncIterator[Scripted]:
    async with scripted() as registry:
        stock(registry)
        yield registry


@pytest.fixture
async def mirror() -> AsyncIterator[Scripted]:
    async with scripted(address="127.0.0.3") as mirror:
        yield mirror


async def read(client: RegistryClient, reference: Reference, credentials: Credentials | None = None) -> bytes:
    return b"".join([piece async for piece in client.repository(reference, credentials).blob(DESCRIPTOR)])


# --- Docker Hub


@pytest.mark.parametrize(("name", "path"), [("mysql", "library/mysql"), ("user/name", "user/name")])
async def test_docker_hub_through_a_mirror(settings: RegistrySettings, mirror: Scripted, name: str, path: str) -> None:
    stock(mirror, path)
    options = RegistryOptions(mirrors=(f"{mirror.url}/",))
    async with RegistryClient(lambda: options, settings) as client:
        repository = client.repository(parse(name), CREDENTIALS)
        assert (await repository.manifest("1")).data == MANIFEST
        assert await read(client, parse(name), CREDENTIALS) == BLOB
    assert asked(mirror) == [f"/v2/{path}/manifests/1", f"/v2/{path}/blobs/{DESCRIPTOR.digest}"]
    assert not any(seen.authorization for seen in mirror.seen)  # a password for Docker Hub is nobody else's


async def test_a_mirror_on_loopback_may_have_a_certificate_of_anybodys(
    settings: RegistrySettings, authority: Authority
) -> None:
    async with scripted(server_context(authority, "DNS:elsewhere.test"), address="127.0.0.3") as mirror:
        stock(mirror, "library/mysql")
        options = RegistryOptions(mirrors=(f"{mirror.url}/",))
        async with RegistryClient(lambda: options, settings) as client:
            assert (await client.repository(parse("mysql"), CREDENTIALS).manifest("1")).data == MANIFEST
        assert not any(seen.authorization for seen in mirror.seen)


async def test_a_mirror_of_docker_hub_is_no_other_registrys(
    settings: RegistrySettings, registry: Scripted, mirror: Scripted
) -> None:
    options = RegistryOptions(mirrors=(f"{mirror.url}/",))
    async with RegistryClient(lambda: options, settings) as client:
        assert await read(client, Reference(registry.host, "x")) == BLOB
    assert not mirror.seen


async def test_mirrors_in_their_order(settings: RegistrySettings, mirror: Scripted) -> None:
    """One that is down, one that does not have it, one that has it."""
    async with scripted(address="127.0.0.4") as second:
        stock(second, "library/mysql")
        options = RegistryOptions(mirrors=(f"http://127.0.0.1:{free_port()}/", f"{mirror.url}/", f"{second.url}/"))
        async with RegistryClient(lambda: options, settings) as client:
            assert (await client.repository(parse("mysql")).manifest("1")).data == MANIFEST
            assert await read(client, parse("mysql")) == BLOB
    assert len(asked(mirror)) == len(asked(second)) == 2


# --- hosts.toml


async def test_a_mirror_of_any_registry(
    client: RegistryClient, settings: RegistrySettings, registry: Scripted, mirror: Scripted
) -> None:
    stock(mirror)
    configure(settings, registry.host, f'server = "{registry.url}"\n[host."{mirror.url}"]\n')
    assert (await client.repository(Reference(registry.host, "x"), CREDENTIALS).manifest("1")).data == MANIFEST
    assert await read(client, Reference(registry.host, "x"), CREDENTIALS) == BLOB
    namespace = registry.host.replace(":", "%3A")
    assert asked(mirror) == [f"/v2/x/manifests/1?ns={namespace}", f"/v2/x/blobs/{DESCRIPTOR.digest}?ns={namespace}"]
    assert not asked(registry)


@pytest.mark.parametrize("trouble", ["down", "empty", "ill", "lying"])
async def test_falling_back_to_the_registry(
    client: RegistryClient, settings: RegistrySettings, registry: Scripted, mirror: Scripted, trouble: str
) -> None:
    url = f"http://127.0.0.1:{free_port()}" if trouble == "down" else mirror.url
    path = f"/v2/x/manifests/{DIGEST}"
    if trouble == "ill":
        mirror.answer("GET", path, status=500)
        mirror.answer("GET", f"/v2/x/blobs/{DESCRIPTOR.digest}", status=500)
    if trouble == "lying":
        mirror.answer("GET", path, b'{"another":"manifest"}')
        mirror.answer("GET", f"/v2/x/blobs/{DESCRIPTOR.digest}", b"too short")
    configure(settings, registry.host, f'server = "{registry.url}"\n[host."{url}"]\n')
    assert (await client.repository(Reference(registry.host, "x")).manifest(DIGEST)).data == MANIFEST
    assert await read(client, Reference(registry.host, "x")) == BLOB
    assert len(asked(registry)) == 2


async def test_a_mirror_that_gives_another_blob(
    client: RegistryClient,
    settings: RegistrySettings,
    registry: Scripted,
    mirror: Scripted,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who hashes it says so, and gets it from the next host; the administrator is told who did it."""
    mirror.answer("GET", f"/v2/x/blobs/{DESCRIPTOR.digest}", bytes(len(BLOB)))
    configure(settings, registry.host, f'server = "{registry.url}"\n[host."{mirror.url}"]\n')
    repository = client.repository(Reference(registry.host, "x"))
    assert await read_small(repository, DESCRIPTOR, len(BLOB)) == BLOB
    assert f"{mirror.host} gave other bytes for blob {DESCRIPTOR.digest}" in caplog.text
    assert not repository.distrust(DESCRIPTOR.digest), "the registry itself is the last"


@pytest.mark.parametrize("there", [b"", bytes(len(BLOB))])
async def test_a_layer_that_registries_may_not_have(
    client: RegistryClient, registry: Scripted, mirror: Scripted, there: bytes
) -> None:
    """The registry has none, or another; the address that the manifest names is told nothing of who asks."""
    if there:
        registry.answer("GET", f"/v2/y/blobs/{DESCRIPTOR.digest}", there)
    registry.answer("GET", "/v2/", status=401, WWW_Authenticate='Basic realm="x"')
    mirror.answer("GET", "/layers/base", BLOB)
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    urls = ["file:///etc/passwd", f"{mirror.url}/layers/base"]
    foreign = Descriptor(kind, DESCRIPTOR.digest, DESCRIPTOR.size, urls=urls)
    repository = client.repository(Reference(registry.host, "y"), CREDENTIALS)
    assert await read_small(repository, foreign, len(BLOB)) == BLOB
    assert registry.requests(f"/v2/y/blobs/{DESCRIPTOR.digest}")[0].authorization
    assert [seen.authorization for seen in mirror.seen] == [""]
    with pytest.raises(WherryError):
        await read_small(repository, Descriptor("any", foreign.digest, foreign.size, urls=urls), len(BLOB))


async def test_a_mirror_that_breaks_in_the_middle(
    client: RegistryClient, settings: RegistrySettings, registry: Scripted, mirror: Scripted
) -> None:
    """The registry is asked for the rest alone."""

    @mirror.on("GET", f"/v2/x/blobs/{DESCRIPTOR.digest}")
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(BLOB)
        await response.prepare(request)
        await response.write(BLOB[:4000])
        assert request.transport is not None
        request.transport.close()
        return response

    @registry.on("GET", f"/v2/x/blobs/{DESCRIPTOR.digest}")
    async def rest(request: web.Request) -> web.StreamResponse:
        assert request.headers["Range"] == "bytes=4000-"
        span = f"bytes 4000-{len(BLOB) - 1}/{len(BLOB)}"
        return web.Response(status=206, body=BLOB[4000:], headers={"Content-Range": span})

    configure(settings, registry.host, f'server = "{registry.url}"\n[host."{mirror.url}"]\n')
    assert await read(client, Reference(registry.host, "x")) == BLOB


async def test_capabilities(
    client: RegistryClient, settings: RegistrySettings, registry: Scripted, mirror: Scripted
) -> None:
    """A mirror that may only pull is not asked what a tag means, nor pushed to."""
    stock(mirror)
    configure(
        settings,
        registry.host,
        f'server = "{registry.url}"\n[host."{mirror.url}"]\ncapabilities = ["pull"]\n',
    )
    repository = client.repository(Reference(registry.host, "x"))
    await repository.manifest("1")
    assert not asked(mirror)
    await repository.manifest(DIGEST)
    assert len(asked(mirror)) == 1
    registry.answer("PUT", "/v2/x/manifests/1", status=201)
    await repository.put_manifest("1", MEDIA_MANIFEST, MANIFEST)
    assert len(asked(mirror)) == 1


async def test_nobody_may(client: RegistryClient, settings: RegistrySettings, registry: Scripted) -> None:
    configure(settings, registry.host, f'server = "{registry.url}"\ncapabilities = ["pull", "resolve"]\n')
    with pytest.raises(InvalidParameter, match="has the capability push"):
        await client.repository(Reference(registry.host, "x")).put_manifest("1", MEDIA_MANIFEST, MANIFEST)


async def test_a_path_of_its_own(
    client: RegistryClient, settings: RegistrySettings, registry: Scripted, mirror: Scripted
) -> None:
    stock(mirror, prefix="/proxy/hub")
    configure(
        settings,
        registry.host,
        f'server = "{registry.url}"\n[host."{mirror.url}/proxy/hub"]\noverride_path = true\n',
    )
    await client.repository(Reference(registry.host, "x")).manifest("1")
    assert [path.partition("?")[0] for path in asked(mirror)] == ["/proxy/hub/", "/proxy/hub/x/manifests/1"]


async def test_headers_and_authority_of_a_mirror(
    client: RegistryClient, settings: RegistrySettings, registry: Scripted, authority: Authority
) -> None:
    async with scripted(server_context(authority, "IP:127.0.0.5"), "127.0.0.5") as mirror:
        stock(mirror)
        folder = configure(
            settings,
            registry.host,
            f'server = "{registry.url}"\n[host."{mirror.url}"]\nca = "mirror.pem"\n'
            f'[host."{mirror.url}".header]\nX-Key = "k"\nAuthorization = "Basic bWlycm9y"\n',
        )
        (folder / "mirror.pem").write_bytes(authority.cert.read_bytes())
        await client.repository(Reference(registry.host, "x"), CREDENTIALS).manifest("1")
        assert mirror.seen
        assert all(seen.headers["X-Key"] == "k" and seen.authorization == "Basic bWlycm9y" for seen in mirror.seen)
    assert not asked(registry)


async def test_a_default_for_all(
    client: RegistryClient, settings: RegistrySettings, registry: Scripted, mirror: Scripted
) -> None:
    stock(mirror)
    configure(settings, "_default", f'[host."{mirror.url}"]\n')
    await client.repository(Reference("registry.invalid", "x")).manifest("1")
    assert asked(mirror) == ["/v2/x/manifests/1?ns=registry.invalid"]


async def test_a_directory_without_a_colon(
    client: RegistryClient, settings: RegistrySettings, registry: Scripted, mirror: Scripted
) -> None:
    stock(mirror)
    host, _, port = registry.host.partition(":")
    configure(settings, f"{host}_{port}_", f'server = "{registry.url}"\n[host."{mirror.url}"]\n')
    await client.repository(Reference(registry.host, "x")).manifest("1")
    assert len(asked(mirror)) == 1


async def test_a_change_counts_at_once(
    client: RegistryClient, settings: RegistrySettings, registry: Scripted, mirror: Scripted
) -> None:
    await client.repository(Reference(registry.host, "x")).manifest("1")
    stock(mirror)
    configure(settings, registry.host, f'server = "{registry.url}"\n[host."{mirror.url}"]\n')
    await client.repository(Reference(registry.host, "x")).manifest("1")
    assert len(asked(mirror)) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", r"hosts\.toml: "),
        ("srever = 'x'", "unknown key srever"),
        ("[host.'http://x']\ncapabilities = ['fly']", "capabilities must be a list of pull, push, resolve"),
        ("[host.'ftp://x']", r"'ftp://x' must be http\[s\]://host"),
        ("[host.'http://user:secret@x']", r"must be http\[s\]://host"),
        ("skip_verify = 'yes'", "skip_verify must be true or false"),
        ("ca = 5", "ca must be a path or a list of paths"),
        ("client = [['a','b','c']]", "client must be a path"),
        ('[header]\nX = "a\\r\\nb"', "header X must be"),
        ("dial_timeout = 'soon'", "dial_timeout must be a duration"),
    ],
)
async def test_a_file_that_is_wrong(
    client: RegistryClient, settings: RegistrySettings, registry: Scripted, text: str, words: str
) -> None:
    configure(settings, registry.host, text)
    with pytest.raises(InvalidParameter, match=words):
        await client.repository(Reference(registry.host, "x")).manifest("1")
    assert not registry.seen


# --- proxies


async def test_through_a_proxy(settings: RegistrySettings) -> None:
    """Plain HTTP goes through it in absolute form, with the proxy's own password."""
    async with scripted() as proxy:
        seen: list[tuple[str, str]] = []

        @proxy.on("GET", "/v2/x/manifests/1")
        async def forward(request: web.Request) -> web.StreamResponse:
            seen.append((request.raw_path, request.headers.get("Proxy-Authorization", "")))
            return web.Response(body=MANIFEST, content_type=MEDIA_MANIFEST)

        with_proxy = replace(settings, proxies=Proxies(http=f"http://me:secret@{proxy.host}"))
        options = RegistryOptions(insecure=("registry.invalid",))
        async with RegistryClient(lambda: options, with_proxy) as client:
            configure(settings, "registry.invalid", 'server = "http://registry.invalid"\n')
            assert (await client.repository(Reference("registry.invalid", "x")).manifest("1")).data == MANIFEST
        assert seen == [("http://registry.invalid/v2/x/manifests/1", "Basic bWU6c2VjcmV0")]


async def test_a_proxy_that_is_down_is_told_without_its_password(settings: RegistrySettings) -> None:
    port = free_port()
    with_proxy = replace(settings, proxies=Proxies(https=f"http://me:secret@127.0.0.1:{port}"))
    async with RegistryClient(settings=with_proxy) as client:
        with pytest.raises(WherryError) as told:
            await client.repository(Reference("registry.invalid", "x")).manifest("1")
    assert str(told.value) == (
        f'Get "https://registry.invalid/v2/": proxyconnect tcp: dial tcp 127.0.0.1:{port}: connect: connection refused'
    )


async def test_a_proxy_that_refuses(settings: RegistrySettings) -> None:
    async with scripted() as proxy:
        with_proxy = replace(settings, proxies=Proxies(https=f"http://{proxy.host}"))
        async with RegistryClient(settings=with_proxy) as client:
            with pytest.raises(WherryError, match=r"registry\.invalid/v2/"):
                await client.repository(Reference("registry.invalid", "x")).manifest("1")


async def test_https_through_a_proxy(settings: RegistrySettings, authority: Authority) -> None:
    """A tunnel: the proxy is told the host, and the registry's password never."""
    told: list[bytes] = []

    async with scripted(server_context(authority, "DNS:registry.invalid")) as registry:
        stock(registry)
        registry.answer("GET", "/v2/", status=401, WWW_Authenticate='Basic realm="x"')

        async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            told.append(await reader.readuntil(b"\r\n\r\n"))
            host, _, port = registry.host.partition(":")
            beyond, into = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await asyncio.gather(copy(reader, into), copy(beyond, writer))

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            try:
                while piece := await source.read(65536):
                    target.write(piece)
            except ConnectionError:
                pass
            finally:
                target.close()

        folder = settings.certificate_folders[0] / "registry.invalid"
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(authority.cert.read_bytes())
        server = await asyncio.start_server(tunnel, "127.0.0.1", 0)
        async with server:
            proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with RegistryClient(settings=replace(settings, proxies=Proxies(https=proxy))) as client:
                repository = client.repository(Reference("registry.invalid", "x"), CREDENTIALS)
                assert (await repository.manifest("1")).data == MANIFEST
    assert told and all(head.startswith(b"CONNECT registry.invalid:443 ") for head in told)
    assert not any(b"Authorization" in head for head in told)
    assert all(seen.authorization for seen in registry.requests("/v2/x/manifests/1"))


async def test_a_search_of_docker_hub_takes_nothing_along_that_is_for_another_server(
    client: RegistryClient, settings: RegistrySettings, registry: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(settings, "docker.io", f'server = "{registry.url}"\n[header]\nX-Key = "of that server"\n')
    async with scripted(address="127.0.0.3") as index:
        index.answer("GET", "/v1/search", b'{"results": []}')
        monkeypatch.setattr("wherry.registry.search.HUB_INDEX", index.url)
        assert await search(client, "docker.io", "mysql", 5, CREDENTIALS) == []
        assert ["X-Key" in seen.headers for seen in index.seen] == [False]
