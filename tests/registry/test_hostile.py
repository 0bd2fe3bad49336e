"""Registries that lie, stall, break off, ask too much, or try to be told what is not for them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import ssl
import threading
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from tests.registry.conftest import FAST
from tests.support.certificates import Authority
from tests.support.registries import PASSWORD, USER, Handler, Scripted, Tokens, raw_server, scripted, server_context
from wherry.errors import NotFound, WherryError
from wherry.model.credentials import Credentials
from wherry.model.manifests import MEDIA_INDEX, MEDIA_MANIFEST, Descriptor
from wherry.model.proxies import Proxies
from wherry.model.reference import Reference
from wherry.model.registry_options import RegistryOptions
from wherry.registry.client import RegistryClient, RegistrySettings, Repository
from wherry.registry.errors import RegistryError, Untrusted
from wherry.registry.logins import log_in
from wherry.registry.retrying import Retries

CREDENTIALS = Credentials(username=USER, password=PASSWORD)
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
MANIFEST = b'{"schemaVersion":2,"mediaType":"%s","config":{},"layers":[]}' % MEDIA_MANIFEST.encode()
BLOB = bytes(range(256)) * 4096  # 1 MiB


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


DESCRIPTOR = Descriptor(digest=digest(BLOB), size=len(BLOB))
BLOB_PATH = f"/v2/x/blobs/{DESCRIPTOR.digest}"


@pytest.fixture
async def registry() -> AsyncIterator[Scripted]:
    async with scripted() as registry:
        yield registry


@pytest.fixture
def repository(client: RegistryClient, registry: Scripted) -> Repository:
    return client.repository(Reference(registry.host, "x"))


async def read(repository: Repository, descriptor: Descriptor = DESCRIPTOR, offset: int = 0) -> bytes:
    return b"".join([piece async for piece in repository.blob(descriptor, offset)])


# --- manifests


async def test_a_manifest_that_is_another(registry: Scripted, repository: Repository) -> None:
    wanted = digest(b"something else")
    registry.answer("GET", f"/v2/x/manifests/{wanted}", MANIFEST, Content_Type=MEDIA_MANIFEST)
    with pytest.raises(Untrusted, match=f"manifest verification failed for digest {wanted}"):
        await repository.manifest(wanted)
    assert len(registry.requests(f"/v2/x/manifests/{wanted}")) == 1  # a lie is not asked for again


async def test_a_tag_whose_digest_is_a_lie(registry: Scripted, repository: Repository) -> None:
    wrong = digest(b"something else")
    registry.answer("GET", "/v2/x/manifests/1", MANIFEST, Content_Type=MEDIA_MANIFEST, Docker_Content_Digest=wrong)
    with pytest.raises(Untrusted, match=f"manifest verification failed for digest {wrong}"):
        await repository.manifest("1")


async def test_a_head_whose_digest_is_a_lie(registry: Scripted, repository: Repository) -> None:
    registry.answer("HEAD", f"/v2/x/manifests/{digest(MANIFEST)}", Docker_Content_Digest=digest(b"else"))
    with pytest.raises(Untrusted, match="manifest verification failed"):
        await repository.head(digest(MANIFEST))


async def test_a_head_that_tells_nothing(registry: Scripted, repository: Repository) -> None:
    """Then the manifest itself is asked."""
    registry.answer("HEAD", "/v2/x/manifests/1")
    registry.answer("GET", "/v2/x/manifests/1", MANIFEST, Content_Type=MEDIA_MANIFEST)
    found = await repository.head("1")
    assert found == Descriptor(media_type=MEDIA_MANIFEST, digest=digest(MANIFEST), size=len(MANIFEST))


async def test_a_manifest_served_as_another_kind(registry: Scripted, repository: Repository) -> None:
    registry.answer("GET", "/v2/x/manifests/1", MANIFEST, Content_Type=MEDIA_INDEX)
    with pytest.raises(Untrusted, match="mediaType in manifest should be"):
        await repository.manifest("1")


@pytest.mark.parametrize("long", [False, True])
async def test_a_long_manifest_is_not_read_on_the_loop(
    registry: Scripted, repository: Repository, monkeypatch: pytest.MonkeyPatch, long: bool
) -> None:
    """It is hashed in a thread, and of what it holds no objects are made only to see what kind it calls itself."""
    body = b'{"mediaType":"%s","pad":"%s"}' % (MEDIA_MANIFEST.encode(), b"x" * (1 << 16 if long else 9))
    threads: list[threading.Thread] = []

    def like(algorithm: str, data: bytes) -> str:
        threads.append(threading.current_thread())
        return digest(data)

    monkeypatch.setattr("wherry.registry.manifests.digest_like", like)
    registry.answer("GET", "/v2/x/manifests/1", body, Content_Type="text/plain")
    fetched = await repository.manifest("1")
    assert (fetched.media_type, fetched.digest, fetched.data) == (MEDIA_MANIFEST, digest(body), body)
    assert [thread is threading.main_thread() for thread in threads] == [not long]


async def test_a_manifest_served_as_text(registry: Scripted, repository: Repository) -> None:
    registry.answer("GET", "/v2/x/manifests/1", MANIFEST, Content_Type="text/plain; charset=utf-8")
    assert (await repository.manifest("1")).media_type == MEDIA_MANIFEST


@pytest.mark.parametrize("announced", [True, False])
async def test_a_manifest_without_end(registry: Scripted, repository: Repository, announced: bool) -> None:
    sent = 0

    @registry.on("GET", "/v2/x/manifests/1")
    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": MEDIA_MANIFEST})
        if announced:
            response.content_length = 1 << 40
        await response.prepare(request)
        while sent < 1 << 30:
            await response.write(b" " * 65536)
            sent += 65536
        return response

    with pytest.raises(Untrusted, match="the manifest is larger than 4194304 bytes"):
        await repository.manifest("1")
    assert sent < 64 << 20


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000]
)
async def test_a_manifest_that_is_no_manifest(registry: Scripted, repository: Repository, body: bytes) -> None:
    registry.answer("GET", "/v2/x/manifests/1", body, Content_Type=MEDIA_MANIFEST)
    try:
        fetched = await repository.manifest("1")
    except Untrusted as error:
        assert "not JSON" in str(error)
    else:  # a newer Python reads it; what it is is then told by whoever parses it
        assert fetched.data == body


async def test_an_error_page_without_end(registry: Scripted, repository: Repository) -> None:
    @registry.on("GET", "/v2/x/manifests/1")
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=404)
        await response.prepare(request)
        for _ in range(10_000):
            await response.write(b"<html>" * 10_000)
        return response

    with pytest.raises(RegistryError) as told:
        await repository.manifest("1")
    assert len(str(told.value)) < 2000


async def test_headers_without_end(client: RegistryClient) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(100_000):
            writer.write(b"X-Header: " + b"y" * 8000 + b"\r\n")
            await writer.drain()

    async with raw_server(talk) as host:
        with pytest.raises(WherryError):
            await client.repository(Reference(host, "x")).manifest("1")


# --- blobs


@pytest.mark.parametrize("told", [0, len(BLOB) - 1, len(BLOB) + 1, 1 << 50])
async def test_a_blob_whose_length_is_a_lie(registry: Scripted, repository: Repository, told: int) -> None:
    @registry.on("GET", BLOB_PATH)
    async def blob(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(told)})
        await response.prepare(request)
        await response.write(BLOB[:told])
        return response

    with pytest.raises(Untrusted, match=f"the blob has {told} bytes where its manifest says {len(BLOB)}"):
        await read(repository)
    assert len(registry.requests(BLOB_PATH)) == 1


async def test_a_blob_that_does_not_end(registry: Scripted, repository: Repository) -> None:
    @registry.on("GET", BLOB_PATH)
    async def blob(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(BLOB)
        return response

    got = 0
    with pytest.raises(Untrusted, match=f"longer than the {len(BLOB)} bytes"):
        async for piece in repository.blob(DESCRIPTOR):
            got += len(piece)
    assert got <= len(BLOB)


async def test_a_blob_that_ends_early(registry: Scripted, repository: Repository) -> None:
    """Chunked, so that only the manifest knows. It is asked for the rest, and in the end given up."""

    @registry.on("GET", BLOB_PATH)
    async def blob(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        if "Range" not in request.headers:
            await response.write(BLOB[:1000])
        await response.write_eof()
        return response

    with pytest.raises(RegistryError, match="unexpected EOF"):
        await read(repository)
    ranges = [seen.headers.get("Range") for seen in registry.requests(BLOB_PATH)]
    assert ranges == [None, *["bytes=1000-"] * 4]


def ranged(registry: Scripted, most: int, *, honour: bool = True) -> None:
    """A registry that closes after `most` bytes of each answer."""

    @registry.on("GET", BLOB_PATH)
    async def blob(request: web.Request) -> web.StreamResponse:
        start = request.http_range.start or 0 if honour else 0
        response = web.StreamResponse(status=206 if start else 200)
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(BLOB) - 1}/{len(BLOB)}"
        response.content_length = len(BLOB) - start
        await response.prepare(request)
        await response.write(BLOB[start : start + most])
        if start + most < len(BLOB):
            assert request.transport is not None
            request.transport.close()
        return response


async def test_a_connection_that_breaks_is_resumed(registry: Scripted, repository: Repository) -> None:
    ranged(registry, 400_000)
    assert await read(repository) == BLOB
    starts = [seen.headers.get("Range", "") for seen in registry.requests(BLOB_PATH)]
    assert starts == ["", "bytes=400000-", "bytes=800000-"]


async def test_a_connection_that_closes_at_each_byte(registry: Scripted, repository: Repository) -> None:
    ranged(registry, 1)
    with pytest.raises(RegistryError, match="EOF"):
        await read(repository)
    assert len(registry.requests(BLOB_PATH)) == 5  # max-download-attempts


@pytest.mark.parametrize("cut", range(1, 40))
async def test_a_connection_that_closes_within_the_headers(client: RegistryClient, cut: int) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head[:cut])
        await writer.drain()

    async with raw_server(talk) as host:
        with pytest.raises(WherryError):
            await client.repository(Reference(host, "x")).manifest("1")


async def test_a_registry_without_ranges(registry: Scripted, repository: Repository) -> None:
    ranged(registry, len(BLOB), honour=False)
    assert await read(repository, offset=700_000) == BLOB[700_000:]


@pytest.mark.parametrize("told", ["bytes 0-1048575/1048576", "bytes 10-1048575/99", "nonsense", ""])
async def test_a_range_that_is_another(registry: Scripted, repository: Repository, told: str) -> None:
    registry.answer("GET", BLOB_PATH, BLOB[10:], status=206, Content_Range=told)
    with pytest.raises(Untrusted, match="asked for a blob from byte 10 on"):
        await read(repository, offset=10)


async def test_a_body_in_another_encoding_is_not_decoded(registry: Scripted, repository: Repository) -> None:
    """A registry that says gzip sends what it was asked for all the same: decoding would be a bomb's way in."""
    registry.answer("GET", BLOB_PATH, BLOB, Content_Encoding="gzip")
    assert await read(repository) == BLOB


# --- slowness


def impatient(settings: RegistrySettings) -> RegistryClient:
    options = RegistryOptions(max_download_attempts=1)
    return RegistryClient(lambda: options, replace(settings, silence_seconds=0.3, retries=Retries(most=1)))


async def test_a_registry_that_never_answers(settings: RegistrySettings) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.read(-1)

    async with raw_server(talk) as host, impatient(settings) as client:
        with pytest.raises(RegistryError, match="timeout awaiting response headers"):
            await client.repository(Reference(host, "x")).manifest("1")


@pytest.mark.parametrize("what", ["manifest", "blob"])
async def test_a_registry_that_answers_slowly_for_ever(
    registry: Scripted, settings: RegistrySettings, what: str
) -> None:
    """A byte now and then keeps no timeout of silence from passing: it is the pace that counts."""
    path = "/v2/x/manifests/1" if what == "manifest" else BLOB_PATH

    @registry.on("GET", path)
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": MEDIA_MANIFEST})
        response.content_length = len(BLOB)
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)

    async with impatient(settings) as client:
        repository = client.repository(Reference(registry.host, "x"))
        with pytest.raises(RegistryError, match="comes too slowly"):
            await (repository.manifest("1") if what == "manifest" else read(repository))


# --- who is told what


@pytest.fixture
async def stranger() -> AsyncIterator[Scripted]:
    """Another host."""
    async with scripted(address="127.0.0.2") as stranger:
        yield stranger


def redirect(registry: Scripted, path: str, target: str, status: int = 307) -> None:
    registry.answer("GET", path, status=status, Location=target)


def secret(registry: Scripted) -> None:
    registry.answer("GET", "/v2/", status=401, WWW_Authenticate='Basic realm="x"')


async def test_a_redirect_to_a_blob_store_goes_without_credentials(
    client: RegistryClient, registry: Scripted, stranger: Scripted, settings: RegistrySettings
) -> None:
    folder = settings.certificate_folders[0] / registry.host
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text(f'server = "{registry.url}"\n[header]\nX-Secret = "for the registry alone"\n')
    secret(registry)
    redirect(registry, BLOB_PATH, f"{stranger.url}/store?signature=abc")
    stranger.answer("GET", "/store", BLOB)
    repository = client.repository(Reference(registry.host, "x"), CREDENTIALS)
    assert await read(repository) == BLOB
    (asked,) = registry.requests(BLOB_PATH)
    assert asked.authorization == BASIC and asked.headers["X-Secret"]
    (stored,) = stranger.requests("/store")
    assert not stored.authorization and "X-Secret" not in stored.headers and "Cookie" not in stored.headers


async def test_a_redirect_goes_without_the_client_certificate(
    client: RegistryClient, settings: RegistrySettings, authority: Authority
) -> None:
    """Both servers ask for one, and are content without."""
    shown: dict[str, bool] = {}

    def asking(name: str, body: web.Response) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            shown[name] = bool(request.transport.get_extra_info("peercert"))
            return body

        return answer

    contexts = [server_context(authority, f"IP:{address}") for address in ("127.0.0.1", "127.0.0.2")]
    for context in contexts:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(authority.cert)
    async with scripted(contexts[0]) as secure, scripted(contexts[1], "127.0.0.2") as store:
        folder = settings.certificate_folders[0] / secure.host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(authority.cert.read_bytes())
        pair = authority.issue("client")
        (folder / "me.cert").write_bytes(pair.cert.read_bytes())
        (folder / "me.key").write_bytes(pair.key.read_bytes())
        moved = web.Response(status=307, headers={"Location": f"{store.url}/store"})
        secure.on("GET", BLOB_PATH)(asking("registry", moved))
        store.on("GET", "/store")(asking("store", web.Response(body=BLOB)))
        assert await read(client.repository(Reference(secure.host, "x"))) == BLOB
    assert shown == {"registry": True, "store": False}


async def test_credentials_do_not_come_back_after_a_detour(
    client: RegistryClient, registry: Scripted, stranger: Scripted
) -> None:
    secret(registry)
    redirect(registry, BLOB_PATH, f"{stranger.url}/away")
    redirect(stranger, "/away", f"{registry.url}/back")
    registry.answer("GET", "/back", BLOB)
    assert await read(client.repository(Reference(registry.host, "x"), CREDENTIALS)) == BLOB
    assert not registry.requests("/back")[0].authorization


async def test_a_stranger_that_asks_for_credentials(
    client: RegistryClient, registry: Scripted, stranger: Scripted
) -> None:
    secret(registry)
    redirect(registry, BLOB_PATH, f"{stranger.url}/store")
    stranger.answer("GET", "/store", status=401, WWW_Authenticate='Basic realm="x"')
    with pytest.raises(WherryError, match="unauthorized"):
        await read(client.repository(Reference(registry.host, "x"), CREDENTIALS))
    assert not any(seen.authorization for seen in stranger.seen)


async def test_redirects_in_a_circle(registry: Scripted, repository: Repository) -> None:
    redirect(registry, "/v2/x/manifests/1", "/v2/x/manifests/1")
    with pytest.raises(RegistryError, match="stopped after 10 redirects"):
        await repository.manifest("1")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://x/y", "http://[", "http://x:99999/"])
async def test_redirects_to_nowhere(registry: Scripted, repository: Repository, target: str) -> None:
    redirect(registry, "/v2/x/manifests/1", target)
    with pytest.raises(RegistryError, match="redirected to an address that is none"):
        await repository.manifest("1")


async def test_an_upload_elsewhere_goes_without_credentials(
    client: RegistryClient, registry: Scripted, stranger: Scripted
) -> None:
    secret(registry)
    registry.answer("POST", "/v2/x/blobs/uploads/", status=202, Location=f"{stranger.url}/upload")
    stranger.answer("PUT", "/upload", status=201)
    await upload(client.repository(Reference(registry.host, "x"), CREDENTIALS))
    (sent,) = stranger.requests("/upload", "PUT")
    assert not sent.authorization
    assert registry.requests("/v2/x/blobs/uploads/", "POST")[0].authorization == BASIC


@pytest.mark.parametrize("verb", ["POST", "PATCH"])
async def test_an_upload_is_not_taken_to_plain_http(
    settings: RegistrySettings, authority: Authority, stranger: Scripted, verb: str
) -> None:
    """Neither the blob nor a password: at the beginning, and where a broken upload is gone on with."""
    async with scripted(server_context(authority, "IP:127.0.0.1")) as secure:
        folder = settings.certificate_folders[0] / "registry.test"
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(authority.cert.read_bytes())
        (folder / "hosts.toml").write_text(f'server = "{secure.url}"\nca = "ca.crt"\n')
        started = f"{stranger.url}/upload" if verb == "POST" else "/upload"
        secure.answer("POST", "/v2/x/blobs/uploads/", status=202, Location=started)
        secure.answer("PUT", "/upload", status=503)
        secure.answer("GET", "/upload", status=204, Range="0-9", Location=f"{stranger.url}/upload")
        async with RegistryClient(settings=settings) as client:
            with pytest.raises(RegistryError, match=f"sends us to plain HTTP, at {stranger.url}/upload.*: refused"):
                await upload(client.repository(Reference("registry.test", "x"), CREDENTIALS))
    assert not stranger.seen


async def upload(repository: Repository, data: bytes = BLOB) -> list[int]:
    told: list[int] = []

    async def pieces(offset: int) -> AsyncIterator[bytes]:
        for at in range(offset, len(data), 65536):
            yield data[at : at + 65536]

    await repository.upload(Descriptor(digest=digest(data), size=len(data)), pieces, told.append)
    return told


async def test_a_list_of_tags_that_goes_on_elsewhere(
    client: RegistryClient, registry: Scripted, stranger: Scripted
) -> None:
    secret(registry)
    registry.answer("GET", "/v2/x/tags/list", b'{"tags":["a"]}', Link=f'<{stranger.url}/v2/x/tags/list>; rel="next"')
    with pytest.raises(Untrusted, match="at another registry, or in a circle"):
        await client.repository(Reference(registry.host, "x"), CREDENTIALS).tags()
    assert not stranger.seen


async def test_a_list_of_tags_in_a_circle(registry: Scripted, repository: Repository) -> None:
    registry.answer("GET", "/v2/x/tags/list", b'{"tags":["a"]}', Link='</v2/x/tags/list?n=1000>; rel="next"')
    with pytest.raises(Untrusted, match="in a circle"):
        await repository.tags()


async def test_pages_of_tags(registry: Scripted, repository: Repository) -> None:
    @registry.on("GET", "/v2/x/tags/list")
    async def page(request: web.Request) -> web.StreamResponse:
        number = int(request.query.get("last", "0"))
        headers = {"Link": f'</v2/x/tags/list?last={number + 1}&n=2>; rel="next"'} if number < 3 else {}
        return web.json_response({"name": "x", "tags": [f"a{number}", f"b{number}"]}, headers=headers)

    assert await repository.tags() == [f"{letter}{number}" for number in range(4) for letter in "ab"]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"tags":5}', b'{"tags":{"a":1}}', b"null", b'{"tags":[1,null,"a"]}'])
async def test_tags_that_are_none(registry: Scripted, repository: Repository, body: bytes) -> None:
    registry.answer("GET", "/v2/x/tags/list", body)
    try:
        assert set(await repository.tags()) <= {"a"}
    except Untrusted as error:
        assert "not a list of tags" in str(error)


# --- tokens


async def tokens_for(registry: Scripted, path: str = "/v2/x/manifests/1") -> Tokens:
    tokens = Tokens(registry)
    registry.on("GET", "/v2/")(lambda request: _now(tokens.refusal()))
    tokens.protect("GET", path, lambda request: _now(web.Response(body=MANIFEST, content_type=MEDIA_MANIFEST)))
    return tokens


async def _now(response: web.Response) -> web.StreamResponse:
    return response


async def test_a_token_is_kept(client: RegistryClient, registry: Scripted) -> None:
    tokens = await tokens_for(registry)
    repository = client.repository(Reference(registry.host, "x"), CREDENTIALS)
    await asyncio.gather(*[repository.manifest("1") for _ in range(5)])
    await repository.manifest("1")
    assert tokens.issued == [("repository:x:pull",)]
    (asked,) = registry.requests("/token")
    assert asked.authorization == BASIC and "account=tourist" in asked.path and "service=test" in asked.path
    anonymous = client.repository(Reference(registry.host, "x"))
    await anonymous.manifest("1")
    assert len(tokens.issued) == 2 and not registry.requests("/token")[1].authorization


async def test_a_token_that_is_not_taken_any_more_is_renewed(client: RegistryClient, registry: Scripted) -> None:
    tokens = await tokens_for(registry)
    repository = client.repository(Reference(registry.host, "x"), CREDENTIALS)
    await repository.manifest("1")

    @registry.on("GET", "/v2/x/manifests/1")
    async def picky(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") == "Bearer token-1":
            return tokens.refusal()
        return web.Response(body=MANIFEST, content_type=MEDIA_MANIFEST)

    await repository.manifest("1")
    assert len(tokens.issued) == 2


async def test_a_token_is_renewed_before_it_ends(
    client: RegistryClient, registry: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = await tokens_for(registry)
    tokens.answer["expires_in"] = 100
    repository = client.repository(Reference(registry.host, "x"), CREDENTIALS)
    await repository.manifest("1")
    from wherry.registry import authorization

    now = authorization.time.monotonic()
    monkeypatch.setattr(authorization, "time", Clock(now + 80))
    await repository.manifest("1")
    assert len(tokens.issued) == 1
    monkeypatch.setattr(authorization, "time", Clock(now + 95))
    await repository.manifest("1")
    assert len(tokens.issued) == 2


class Clock:
    def __init__(self, now: float) -> None:
        self._now = now

    def monotonic(self) -> float:
        return self._now


async def test_refused_for_ever(client: RegistryClient, registry: Scripted) -> None:
    tokens = await tokens_for(registry)
    registry.on("GET", "/v2/x/manifests/1")(lambda request: _now(tokens.refusal()))
    with pytest.raises(RegistryError, match=r"^unauthorized: authentication required$"):
        await client.repository(Reference(registry.host, "x"), CREDENTIALS).manifest("1")
    assert len(registry.requests("/v2/x/manifests/1")) == 2
    assert len(tokens.issued) == 2


async def test_wrong_password_in_the_words_of_the_token_server(client: RegistryClient, registry: Scripted) -> None:
    await tokens_for(registry)
    with pytest.raises(RegistryError) as told:
        await client.repository(Reference(registry.host, "x"), Credentials(username="u", password="p")).manifest("1")
    assert str(told.value) == (f'Head "{registry.url}/v2/x/manifests/1": unauthorized: incorrect username or password')
    assert told.value.status == 401


async def test_identity_token(client: RegistryClient, registry: Scripted) -> None:
    tokens = await tokens_for(registry)
    await client.repository(Reference(registry.host, "x"), Credentials(identity_token="identity")).manifest("1")
    (asked,) = registry.requests("/token", "POST")
    assert tokens.issued == [("repository:x:pull",)]
    assert not asked.authorization and "?" not in asked.path


async def test_a_mount_asks_for_both_repositories(client: RegistryClient, registry: Scripted) -> None:
    tokens = await tokens_for(registry)
    tokens.protect("POST", "/v2/x/blobs/uploads/", lambda request: _now(web.Response(status=201)))
    assert await client.repository(Reference(registry.host, "x"), CREDENTIALS).mount(DESCRIPTOR.digest, "y")
    assert tokens.issued == [("repository:x:pull,push", "repository:y:pull")]


async def test_a_refused_mount_begins_an_upload_that_is_used(registry: Scripted, repository: Repository) -> None:
    registry.answer("POST", "/v2/x/blobs/uploads/", status=202, Location="/upload/1")
    registry.answer("PUT", "/upload/1", status=201)
    assert not await repository.mount(DESCRIPTOR.digest, "y")
    await upload(repository)
    assert len(registry.requests("/v2/x/blobs/uploads/", "POST")) == 1
    assert len(registry.requests("/upload/1", "PUT")) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "did not include a token"),
        (b'{"token":5}', "did not include a token"),
        (b'{"token":"a\\nb"}', "did not include a token"),
        (b'{"token":"' + b"a" * (1 << 20) + b'"}', "larger than 1048576 bytes"),
        (b"[" * 10_000, "not JSON"),
    ],
)
async def test_answers_of_a_token_server(client: RegistryClient, registry: Scripted, body: bytes, words: str) -> None:
    await tokens_for(registry)
    registry.answer("GET", "/token", body)
    with pytest.raises(WherryError, match=words):
        await client.repository(Reference(registry.host, "x"), CREDENTIALS).manifest("1")
    assert len(registry.requests("/token")) == 1


async def test_no_credentials_for_a_plain_realm_of_a_registry_on_tls(
    settings: RegistrySettings, authority: Authority, registry: Scripted
) -> None:
    tokens = Tokens(registry)
    async with scripted(server_context(authority, "IP:127.0.0.1")) as secure:
        folder = settings.certificate_folders[0] / secure.host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(authority.cert.read_bytes())
        secure.on("GET", "/v2/")(lambda request: _now(tokens.refusal()))
        tokens_path = "/v2/x/manifests/1"
        secure.answer("GET", tokens_path, MANIFEST, Content_Type=MEDIA_MANIFEST)
        async with RegistryClient(settings=settings) as client:
            with pytest.raises(RegistryError, match=r"sent over plain HTTP, to http://.*: refused"):
                await client.repository(Reference(secure.host, "x"), CREDENTIALS).manifest("1")
            assert not registry.requests("/token")
            with pytest.raises(RegistryError, match="sent over plain HTTP"):
                await client.repository(Reference(secure.host, "x"), Credentials(identity_token="i")).manifest("1")
            assert not registry.seen
            await client.repository(Reference(secure.host, "x")).manifest("1")
            assert [seen.authorization for seen in registry.requests("/token")] == [""]


async def test_a_realm_that_redirects_elsewhere_takes_no_password_along(
    client: RegistryClient, registry: Scripted, stranger: Scripted
) -> None:
    await tokens_for(registry)
    redirect(registry, "/token", f"{stranger.url}/token")
    stranger.answer("GET", "/token", b'{"token":"token-1"}')
    await client.repository(Reference(registry.host, "x"), CREDENTIALS).manifest("1")
    assert registry.requests("/token")[0].authorization == BASIC
    assert not stranger.requests("/token")[0].authorization


# --- too much, and later


async def test_too_many_requests(registry: Scripted, repository: Repository) -> None:
    registry.answer(
        "GET",
        "/v2/x/manifests/1",
        b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}',
        status=429,
        Retry_After="3600",
    )
    with pytest.raises(RegistryError) as told:
        await repository.manifest("1")
    assert str(told.value) == (
        "toomanyrequests: You have reached your pull rate limit. (wait 3600 seconds, log in to the registry for a"
        " higher limit, or pull through a mirror)"
    )
    assert told.value.status == 429 and told.value.retry_after == 3600
    assert len(registry.requests("/v2/x/manifests/1")) == 1


async def test_a_login_answered_with_a_status_that_has_no_name(client: RegistryClient, registry: Scripted) -> None:
    registry.answer("GET", "/v2/", status=520)
    with pytest.raises(RegistryError) as told:
        await log_in(client, Credentials(username=USER, password=PASSWORD, server_address=registry.host))
    assert str(told.value) == f"login attempt to {registry.url}/v2/ failed with status: 520"


async def test_too_many_requests_for_a_moment(registry: Scripted, repository: Repository) -> None:
    @registry.on("GET", "/v2/x/manifests/1")
    async def moment(request: web.Request) -> web.StreamResponse:
        if len(registry.requests("/v2/x/manifests/1")) < 3:
            return web.Response(status=429, headers={"Retry-After": "0"})
        return web.Response(body=MANIFEST, content_type=MEDIA_MANIFEST)

    assert (await repository.manifest("1")).data == MANIFEST


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_what_passes_is_tried_again(registry: Scripted, repository: Repository, status: int) -> None:
    @registry.on("GET", "/v2/x/manifests/1")
    async def flaky(request: web.Request) -> web.StreamResponse:
        if len(registry.requests("/v2/x/manifests/1")) < 3:
            return web.Response(status=status)
        return web.Response(body=MANIFEST, content_type=MEDIA_MANIFEST)

    assert (await repository.manifest("1")).data == MANIFEST


async def test_what_does_not_pass_is_given_up(registry: Scripted, repository: Repository) -> None:
    registry.answer("GET", "/v2/x/manifests/1", status=503)
    with pytest.raises(RegistryError, match=r"^received unexpected HTTP status: 503 Service Unavailable$"):
        await repository.manifest("1")
    assert len(registry.requests("/v2/x/manifests/1")) == FAST.most


@pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 501])
async def test_what_will_not_change_is_not_tried_again(registry: Scripted, repository: Repository, status: int) -> None:
    registry.answer("GET", "/v2/x/manifests/1", b'{"errors":[]}', status=status)
    with pytest.raises(WherryError):
        await repository.manifest("1")
    assert len(registry.requests("/v2/x/manifests/1")) == 1


async def test_denied(registry: Scripted, repository: Repository) -> None:
    body = json.dumps(
        {"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]}
    ).encode()
    registry.answer("GET", "/v2/x/manifests/1", body, status=403)
    with pytest.raises(NotFound) as told:
        await repository.manifest("1")
    assert str(told.value) == (
        f"pull access denied for {registry.host}/x, repository does not exist or may require 'docker login': denied:"
        " requested access to the resource is denied"
    )
    assert isinstance(told.value.__cause__, RegistryError) and told.value.__cause__.code == "DENIED"


# --- uploads


async def test_an_upload_that_breaks_goes_on_where_it_was(registry: Scripted, repository: Repository) -> None:
    got = bytearray()
    registry.answer("POST", "/v2/x/blobs/uploads/", status=202, Location="/upload/1")

    @registry.on("PUT", "/upload/1")
    async def put(request: web.Request) -> web.StreamResponse:
        if not got:
            async for piece in request.content.iter_any():
                got.extend(piece)
                if len(got) > 300_000:
                    assert request.transport is not None
                    request.transport.abort()
                    break
            return web.Response()
        got.extend(await request.read())
        return web.Response(status=201)

    @registry.on("GET", "/upload/1")
    async def status(request: web.Request) -> web.StreamResponse:
        return web.Response(status=204, headers={"Location": "/upload/1?go=on", "Range": f"0-{len(got) - 1}"})

    @registry.on("PATCH", "/upload/1")
    async def patch(request: web.Request) -> web.StreamResponse:
        assert request.headers["Content-Range"] == f"{len(got)}-{len(BLOB) - 1}"
        got.extend(await request.read())
        return web.Response(status=202, headers={"Location": "/upload/1?last"})

    told = await upload(repository)
    assert bytes(got) == BLOB
    assert told[-1] == len(BLOB)
    assert (
        registry.requests("/upload/1", "PUT")[-1].path
        == f"/upload/1?last&digest={DESCRIPTOR.digest.replace(':', '%3A')}"
    )


async def test_an_upload_that_the_registry_forgets_begins_again(registry: Scripted, repository: Repository) -> None:
    registry.answer("POST", "/v2/x/blobs/uploads/", status=202, Location="/upload/1")

    @registry.on("PUT", "/upload/1")
    async def put(request: web.Request) -> web.StreamResponse:
        if len(registry.requests("/upload/1", "PUT")) == 1:
            return web.Response(status=503)
        assert await request.read() == BLOB
        return web.Response(status=201)

    await upload(repository)
    assert len(registry.requests("/v2/x/blobs/uploads/", "POST")) == 2


async def test_what_reading_raises_comes_out(registry: Scripted, repository: Repository) -> None:
    registry.answer("POST", "/v2/x/blobs/uploads/", status=202, Location="/upload/1")

    @registry.on("PUT", "/upload/1")
    async def put(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(status=201)

    async def broken(offset: int) -> AsyncIterator[bytes]:
        yield b"some"
        raise FileNotFoundError("the blob is gone")

    with pytest.raises(FileNotFoundError, match="the blob is gone"):
        await repository.upload(DESCRIPTOR, broken, lambda _: None)


async def test_a_manifest_stored_as_another(registry: Scripted, repository: Repository) -> None:
    registry.answer("PUT", "/v2/x/manifests/1", status=201, Docker_Content_Digest=digest(b"else"))
    with pytest.raises(Untrusted, match="instead of"):
        await repository.put_manifest("1", MEDIA_MANIFEST, MANIFEST)


@given(
    cuts=st.lists(st.integers(1, len(BLOB) // 3), min_size=1, max_size=6),
    ranges=st.lists(st.booleans(), min_size=1, max_size=4),
    offset=st.integers(0, len(BLOB) - 1),
)
@settings_of_hypothesis(max_examples=25)
def test_whatever_breaks_the_bytes_are_the_blobs(cuts: list[int], ranges: list[bool], offset: int) -> None:
    """Connections that break anywhere, of a registry that does ranges now and then: the bytes, or an error."""

    async def run() -> None:
        count = itertools.count()

        async with scripted() as registry:

            @registry.on("GET", BLOB_PATH)
            async def blob(request: web.Request) -> web.StreamResponse:
                number = next(count)
                start = (request.http_range.start or 0) if ranges[number % len(ranges)] else 0
                most = cuts[number] if number < len(cuts) else len(BLOB)
                response = web.StreamResponse(status=206 if start else 200)
                if start:
                    response.headers["Content-Range"] = f"bytes {start}-{len(BLOB) - 1}/{len(BLOB)}"
                response.content_length = len(BLOB) - start
                await response.prepare(request)
                await response.write(BLOB[start : start + most])
                if start + most < len(BLOB):
                    assert request.transport is not None
                    request.transport.close()
                return response

            options = RegistryOptions(max_download_attempts=len(cuts) + 1)
            fast = RegistrySettings(proxies=Proxies(), certificate_folders=(), retries=FAST)
            async with RegistryClient(lambda: options, fast) as client:
                assert await read(client.repository(Reference(registry.host, "x")), offset=offset) == BLOB[offset:]

    asyncio.run(run())
