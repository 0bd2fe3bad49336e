"""Registries to test against: the distribution's own program in three kinds, and one that does as it is told."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.certificates import Authority

USER, PASSWORD = "tourist", "sesame"


@dataclass(frozen=True)
class Registry:
    """One that runs. `host` is its address and port, as image names have it."""

    host: str
    authority: Path | None = None
    log: Path | None = None


@contextmanager
def debian_registry(
    folder: Path,
    *,
    password: bool = False,
    authority: Authority | None = None,
    client_authority: Authority | None = None,
) -> Iterator[Registry]:
    """docker-registry on a free port of 127.0.0.1; its files are in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    http: dict[str, Any] = {"addr": f"127.0.0.1:{port}"}
    if authority is not None:
        pair = authority.issue("registry", "IP:127.0.0.1", "DNS:localhost")
        http["tls"] = {"certificate": str(pair.cert), "key": str(pair.key)}
        if client_authority is not None:
            http["tls"]["clientcas"] = [str(client_authority.cert)]
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}, "delete": {"enabled": True}},
        "http": http,
    }
    if password:
        (folder / "htpasswd").write_text(htpasswd(USER, PASSWORD))
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        _await_port(port, process, log)
        yield Registry(f"127.0.0.1:{port}", authority.cert if authority else None, log)
    finally:
        process.kill()
        process.wait()


def htpasswd(user: str, password: str) -> str:
    done = subprocess.run(["htpasswd", "-Bbn", "-C", "4", user, password], capture_output=True, text=True, check=True)
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.02)


@dataclass
class Seen:
    """A request that a scripted registry got."""

    method: str
    path: str  # with its query
    headers: dict[str, str]
    body: bytes = b""

    @property
    def authorization(self) -> str:
        return self.headers.get("Authorization", "")


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Scripted:
    """An HTTP server whose answers a test writes: `on(method, path)(handler)`; whatever else is asked is 404.

    `GET /v2/` answers 200 unless told otherwise. All requests are in `seen`.
    """

    host: str = ""
    scheme: str = "http"
    seen: list[Seen] = field(default_factory=list)
    handlers: dict[tuple[str, str], Handler] = field(default_factory=dict)

    def on(self, method: str, path: str) -> Callable[[Handler], Handler]:
        def keep(handler: Handler) -> Handler:
            self.handlers[method, path] = handler
            return handler

        return keep

    def answer(self, method: str, path: str, body: bytes = b"", status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def handler(request: web.Request) -> web.StreamResponse:
            return web.Response(status=status, body=body, headers=named)

        self.handlers[method, path] = handler

    def requests(self, path: str, method: str = "GET") -> list[Seen]:
        """Those for a path, whatever their query."""
        return [seen for seen in self.seen if seen.path.partition("?")[0] == path and seen.method == method]

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        handler = self.handlers.get((request.method, request.path))
        seen = Seen(request.method, request.raw_path, dict(request.headers))
        self.seen.append(seen)
        if handler is None:
            if request.path == "/v2/":
                return web.Response(text="{}")
            return web.json_response(
                {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}, status=404
            )
        if request.method in ("POST", "PUT") and request.can_read_body and (request.content_length or 0) < 1 << 20:
            seen.body = await request.read()
        return await handler(request)


@asynccontextmanager
async def scripted(context: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> AsyncIterator[Scripted]:
    """A scripted registry on a free port of a loopback address."""
    registry = Scripted(scheme="https" if context else "http")
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{rest:.*}", registry._serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, address, 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    registry.host = f"{address}:{port}"
    try:
        yield registry
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_server(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]],
) -> AsyncIterator[str]:
    """A TCP server below HTTP: `talk` gets each connection and its number. Yields host:port.

    Whoever speaks TLS is hung up on. The first byte of a request is gone when `talk` begins.
    """
    count = 0
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            if await reader.read(1) in (b"", b"\x16"):
                return
            await talk(reader, writer, count)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.close()
        ending = list(tasks)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await asyncio.sleep(0)  # the loop tells aborted transports that they are closed


def server_context(authority: Authority, *names: str) -> ssl.SSLContext:
    """For a server of these names (`DNS:…`, `IP:…`)."""
    pair = authority.issue("server", *names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    return context


class Tokens:
    """A token server in the manner of Docker Hub's, on a scripted registry: `/token` gives one for each scope asked."""

    def __init__(
        self, registry: Scripted, *, service: str = "test", user: str = USER, password: str = PASSWORD
    ) -> None:
        self.registry = registry
        self.issued: list[tuple[str, ...]] = []  # scopes
        self.answer: dict[str, Any] = {}  # fields to add to an answer
        self.realm = f"{registry.url}/token"
        self.service = service
        self._user, self._password = user, password
        registry.on("GET", "/token")(self._get)
        registry.on("POST", "/token")(self._post)

    @property
    def challenge(self) -> str:
        return f'Bearer realm="{self.realm}",service="{self.service}"'

    def protect(self, method: str, path: str, handler: Handler) -> None:
        """The handler answers only requests with a token of ours."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            if not request.headers.get("Authorization", "").startswith("Bearer token-"):
                return self.refusal()
            return await handler(request)

        self.registry.on(method, path)(guarded)

    def refusal(self) -> web.Response:
        return web.json_response(
            {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]},
            status=401,
            headers={"WWW-Authenticate": self.challenge},
        )

    async def _get(self, request: web.Request) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if given and given != f"Basic {_basic(self._user, self._password)}":
            return web.json_response({"details": "incorrect username or password"}, status=401)
        return self._issue(request.query.getall("scope", []))

    async def _post(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        if form.get("refresh_token") != "identity":
            return web.json_response({"details": "invalid refresh token"}, status=401)
        return self._issue(str(form.get("scope", "")).split(), "access_token")

    def _issue(self, scopes: Sequence[str], name: str = "token") -> web.Response:
        self.issued.append(tuple(scopes))
        return web.json_response({name: f"token-{len(self.issued)}", "expires_in": 300, **self.answer})


def _basic(user: str, password: str) -> str:
    import base64

    return base64.b64encode(f"{user}:{password}".encode()).decode()


def put_blob(host: str, repository: str, data: bytes, digest: str) -> None:
    """Store a blob in an open registry, without our client."""
    begun = urllib.request.urlopen(
        urllib.request.Request(f"http://{host}/v2/{repository}/blobs/uploads/", data=b"", method="POST")
    )
    location = begun.headers["Location"]
    mark = "&" if "?" in location else "?"
    urllib.request.urlopen(
        urllib.request.Request(
            f"{location}{mark}digest={digest}",
            data=data,
            method="PUT",
            headers={"Content-Type": "application/octet-stream"},
        )
    )


def put_manifest(host: str, repository: str, ref: str, media_type: str, data: bytes) -> None:
    urllib.request.urlopen(
        urllib.request.Request(
            f"http://{host}/v2/{repository}/manifests/{ref}",
            data=data,
            method="PUT",
            headers={"Content-Type": media_type},
        )
    )
