"""HTTP to registries: one request with its redirects, within bounds of time and size. No authorization, no retries.

Nothing that proves who the user is leaves for another host: a redirect elsewhere goes without Authorization, without
headers of `hosts.toml`, and without client certificates.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from wherry.model.proxies import Proxies, proxy_for
from wherry.model.registry_hosts import TlsFiles
from wherry.registry.errors import RegistryError, Untrusted, network_error, redacted, untrusted
from wherry.registry.threads import Threads
from wherry.registry.tls import TlsContexts

if TYPE_CHECKING:
    from wherry.registry.connections import Connections, Response

SILENCE_SECONDS = 60.0
LEAST_BYTES = 16 * 1024  # as many at least in so many seconds of waiting, or the other side is as good as gone
MAX_REDIRECTS = 10
REDIRECTS = (301, 302, 303, 307, 308)

Body = bytes | Callable[[], AsyncIterator[bytes]] | None


@dataclass(frozen=True)
class Target:
    """Whom a request is for: TLS, headers that only this host gets, how long connecting may take (0: the default)."""

    tls: TlsFiles = field(default_factory=TlsFiles)
    headers: tuple[tuple[str, str], ...] = ()
    connect_seconds: float = 0.0
    plain_allowed: bool = False  # redirects of an HTTPS host to plain HTTP are followed

    def elsewhere(self) -> Target:
        """For another host that this one sends us to: whom we trust stays, who we are does not go along."""
        return Target(TlsFiles(self.tls.authorities, (), self.tls.verify), plain_allowed=self.plain_allowed)


class Transport:
    """All requests to registries. An async context manager."""

    def __init__(self, proxies: Proxies, user_agent: str, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._proxies = proxies
        self._user_agent = user_agent
        self._silence = silence_seconds
        self.threads = Threads()
        self._contexts = TlsContexts(self.threads)
        self._connections: Connections | None = None
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connections is not None:
            await self._connections.close()
        self.threads.close()

    @asynccontextmanager
    async def send(
        self,
        method: str,
        url: str,
        target: Target,
        *,
        headers: Mapping[str, str] | None = None,
        authorization: str = "",
        body: Body = None,
        length: int | None = None,
        follow: bool = True,
    ) -> AsyncIterator[Answer]:
        """One request; redirects of GET and HEAD are followed. Raises RegistryError where no answer comes.

        A streamed body (`body()` gives it) needs its `length` in bytes.
        """
        first = urlsplit(url)
        now = target
        for _ in range(MAX_REDIRECTS + 1):
            sent = [("User-Agent", self._user_agent), ("Accept-Encoding", "identity"), *(headers or {}).items()]
            if length is not None:
                sent.append(("Content-Length", str(length)))
            sent += [each for each in now.headers if not (authorization and each[0].lower() == "authorization")]
            if authorization:
                sent.append(("Authorization", authorization))
            response = await self._request(method, url, sent, now.tls, now.connect_seconds, body)
            try:
                location = next(iter(response.headers("Location")), "")
                if not (follow and method in ("GET", "HEAD") and response.status in REDIRECTS and location):
                    yield Answer(response, method, url, self._silence)
                    return
            finally:
                response.release()
            url = _redirected(method, url, location, target)
            parts = urlsplit(url)
            if (parts.scheme, parts.netloc) != (first.scheme, first.netloc):
                now, authorization = target.elsewhere(), ""  # for good: nobody sends us back with a forged address
        raise network_error(method, url, f"stopped after {MAX_REDIRECTS} redirects", retryable=False)

    async def _request(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        tls: TlsFiles,
        connect_seconds: float,
        body: Body,
    ) -> Response:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        connections = await self._connect()
        return await connections.request(
            method,
            url,
            headers,
            context=await self._contexts.get(tls) if parts.scheme == "https" else None,
            proxy=proxy_for(self._proxies, parts.scheme, parts.hostname or "", port),
            connect_seconds=connect_seconds,
            silence_seconds=self._silence,
            body=body,
        )

    async def _connect(self) -> Connections:
        """Pools, made when they are first needed."""
        async with self._connecting:
            if self._connections is None:
                module = await self.threads.run(importlib.import_module, "wherry.registry.connections")
                self._connections = module.Connections(self.threads)
            return self._connections


class Answer:
    """The head of an answer, and its body within bounds."""

    def __init__(self, response: Response, method: str, url: str, silence_seconds: float) -> None:
        self._response = response
        self._silence = silence_seconds
        self.method = method
        self.url = url  # where it came from in the end
        self.status = response.status

    def header(self, name: str) -> str:
        return next(iter(self._response.headers(name)), "")

    def headers(self, name: str) -> list[str]:
        return self._response.headers(name)

    @property
    def length(self) -> int | None:
        """What Content-Length says, if anything."""
        text = self.header("Content-Length")
        return int(text) if text.isascii() and text.isdigit() else None

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Raises RegistryError where it breaks off, or comes too slowly to be meant."""
        loop = asyncio.get_running_loop()
        waited, got = 0.0, 0
        while True:
            began = loop.time()
            try:
                async with asyncio.timeout(self._silence - waited):
                    piece = await self._response.piece()
            except TimeoutError:
                raise network_error(
                    self.method,
                    self.url,
                    f"the answer comes too slowly: fewer than {LEAST_BYTES} bytes in {self._silence:.0f} seconds",
                ) from None
            if not piece:
                return
            yield piece
            got += len(piece)
            waited += loop.time() - began if got < LEAST_BYTES else 0.0
            if got >= LEAST_BYTES:
                waited, got = 0.0, 0

    async def read(self, most: int, what: str) -> bytes:
        """The whole body, at most so many bytes of it, within a time that suits small things."""
        if (length := self.length) is not None and length > most and self.method != "HEAD":
            raise self.untrusted(f"the {what} is larger than {most} bytes")
        found = bytearray()
        try:
            async with asyncio.timeout(2 * self._silence):
                async for piece in self.pieces():
                    found += piece
                    if len(found) > most:
                        raise self.untrusted(f"the {what} is larger than {most} bytes")
        except TimeoutError:
            raise network_error(self.method, self.url, f"the {what} did not come in time") from None
        return bytes(found)

    async def read_some(self, most: int) -> bytes:
        """The beginning of a body whose rest does not matter: what an error says."""
        found = bytearray()
        try:
            async with asyncio.timeout(min(self._silence, 10.0)):
                async for piece in self.pieces():
                    found += piece
                    if len(found) >= most:
                        break
        except (TimeoutError, RegistryError):
            pass
        return bytes(found[:most])

    def untrusted(self, reason: str) -> Untrusted:
        return untrusted(self.method, self.url, reason)


def _redirected(method: str, url: str, location: str, target: Target) -> str:
    """Where a redirect leads. Raises RegistryError where it must not be followed."""
    new = location
    try:
        new = urljoin(url, location).partition("#")[0]
        parts = urlsplit(new)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise network_error(method, url, f"redirected to an address that is none: {location[:200]!r}", retryable=False)
    if urlsplit(url).scheme == "https" and parts.scheme == "http" and not target.plain_allowed:
        raise network_error(
            method, url, f"redirected from HTTPS to plain HTTP, which is not followed: {redacted(new)}", retryable=False
        )
    return new
