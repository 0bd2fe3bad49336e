"""HTTP to registries: one request with its redirects, within bounds of time and size. No authorization, no retries.

Nothing that proves who the user is leaves for another host: a redirect elsewhere goes without Authorization, without
headers of `hosts.toml`, and without client certificates.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from wherry.model.proxies import Proxies, proxy_for
from wherry.model.registry_hosts import TlsFiles
from wherry.registry.errors import RegistryError, Untrusted, network_error, redacted, untrusted
from wherry.registry.threads import Resolver, Threads
from wherry.registry.tls import TlsContexts

CONNECT_SECONDS = 30.0
SILENCE_SECONDS = 60.0
IDLE_SECONDS = 2.0  # that a connection is kept for the next request: no longer than one pull or push needs it
LEAST_BYTES = 16 * 1024  # as many at least in so many seconds of waiting, or the other side is as good as gone
READ_BUFFER = 1 << 20
MAX_REDIRECTS = 10
NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
"""OpenSSL's reasons for an answer that is no TLS."""
REDIRECTS = (301, 302, 303, 307, 308)

Body = bytes | Callable[[], AsyncIterator[bytes]] | None


@dataclass(frozen=True)
class Target:
    """Whom a request is for: TLS, headers that only this host gets, how long connecting may take (0: the default)."""

    tls: TlsFiles = field(default_factory=TlsFiles)
    headers: tuple[tuple[str, str], ...] = ()
    connect_seconds: float = 0.0
    plain_allowed: bool = False  # redirects of an HTTPS host to plain HTTP are followed


class Transport:
    """Connection pools. An async context manager."""

    def __init__(self, proxies: Proxies, user_agent: str, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._proxies = proxies
        self._user_agent = user_agent
        self._silence = silence_seconds
        self.threads = Threads()
        self._contexts = TlsContexts(self.threads)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Transport:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                limit_per_host=0,
                ttl_dns_cache=30,
                keepalive_timeout=IDLE_SECONDS,
                resolver=Resolver(self.threads),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            trust_env=False,  # it would also take passwords from ~/.netrc
            read_bufsize=READ_BUFFER,
            skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
            max_line_size=64 * 1024,
            max_field_size=64 * 1024,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)
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
        secrets, tls = True, target.tls
        for _ in range(MAX_REDIRECTS + 1):
            sent = CIMultiDict(headers or {})
            sent["User-Agent"] = self._user_agent
            sent["Accept-Encoding"] = "identity"
            if length is not None:
                sent["Content-Length"] = str(length)
            if secrets:
                for name, value in target.headers:
                    sent[name] = value
                if authorization:
                    sent["Authorization"] = authorization
            response = await self._request(method, url, sent, tls, target.connect_seconds, body)
            try:
                location = response.headers.get("Location", "")
                if not (follow and method in ("GET", "HEAD") and response.status in REDIRECTS and location):
                    yield Answer(response, method, url, self._silence)
                    return
            finally:
                response.release()  # to the pool, if it was read to its end
            url = _redirected(method, url, location, target)
            parts = urlsplit(url)
            if (parts.scheme, parts.netloc) != (first.scheme, first.netloc):
                secrets = False  # for good: a third host must not send us back with a forged address
                tls = TlsFiles(target.tls.authorities, (), target.tls.verify)
        raise network_error(method, url, f"stopped after {MAX_REDIRECTS} redirects", retryable=False)

    async def _request(
        self,
        method: str,
        url: str,
        headers: CIMultiDict[str],
        tls: TlsFiles,
        connect_seconds: float,
        body: Body,
    ) -> aiohttp.ClientResponse:
        assert self._session is not None
        parts = URL(url, encoded=True)
        proxy = proxy_for(self._proxies, parts.scheme, parts.host or "", parts.port or 0)
        context: ssl.SSLContext | bool = True
        if parts.scheme == "https":
            context = await self._contexts.get(tls)
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_seconds or CONNECT_SECONDS, sock_read=self._silence
        )
        try:
            return await self._session.request(
                method,
                parts,
                headers=headers,
                data=body() if callable(body) else body,
                allow_redirects=False,
                ssl=context,
                proxy=proxy or None,
                timeout=timeout,
            )
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise _failure(method, url, error) from error


class Answer:
    """The head of an answer, and its body within bounds."""

    def __init__(self, response: aiohttp.ClientResponse, method: str, url: str, silence_seconds: float) -> None:
        self._response = response
        self._silence = silence_seconds
        self.method = method
        self.url = url  # where it came from in the end
        self.status = response.status

    def header(self, name: str) -> str:
        return self._response.headers.get(name, "")

    def headers(self, name: str) -> list[str]:
        return self._response.headers.getall(name, [])

    @property
    def length(self) -> int | None:
        """What Content-Length says, if anything."""
        text = self.header("Content-Length")
        return int(text) if text.isascii() and text.isdigit() else None

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Raises RegistryError where it breaks off, or comes too slowly to be meant."""
        loop = asyncio.get_running_loop()
        content = self._response.content
        waited, got = 0.0, 0
        while True:
            began = loop.time()
            try:
                async with asyncio.timeout(self._silence - waited):
                    piece = await content.readany()
            except TimeoutError:
                raise network_error(
                    self.method,
                    self.url,
                    f"the answer comes too slowly: fewer than {LEAST_BYTES} bytes in {self._silence:.0f} seconds",
                ) from None
            except (aiohttp.ClientError, OSError) as error:
                raise _failure(self.method, self.url, error) from error
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


def _failure(method: str, url: str, error: BaseException) -> RegistryError:
    """A failed connection in Go's words, which are what Docker's users see."""
    host = URL(url, encoded=True)
    place = f"{host.host}:{host.port}"
    where = error.host if isinstance(error, aiohttp.ClientConnectorError) else host.host
    cause: Any = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return untrusted(method, url, _certificate_words(error.certificate_error))
        case aiohttp.ClientConnectorDNSError():
            return network_error(method, url, f"dial tcp: lookup {where}: no such host", retryable=False)
        case aiohttp.ClientProxyConnectionError():
            words = _connect_words(f"{error.host}:{error.port}", cause)
            return network_error(method, url, f"proxyconnect tcp: {words}", retryable=False)
        case aiohttp.ClientHttpProxyError():
            return network_error(method, url, f"proxy: {error.status} {error.message}", retryable=error.status >= 500)
        case aiohttp.ConnectionTimeoutError() | aiohttp.ServerTimeoutError() | TimeoutError():
            waiting = isinstance(error, aiohttp.ConnectionTimeoutError)
            reason = f"dial tcp {place}: i/o timeout" if waiting else "net/http: timeout awaiting response headers"
            return network_error(method, url, reason)
        case aiohttp.ServerDisconnectedError():
            return network_error(method, url, "EOF")
        case aiohttp.ClientPayloadError():
            return network_error(method, url, "unexpected EOF")
        case aiohttp.InvalidURL() | ValueError():
            return network_error(method, url, f"invalid address: {error}", retryable=False)
        case aiohttp.ClientResponseError():
            return network_error(method, url, f"malformed HTTP response: {error.message[:200]!r}", retryable=False)
    for each in (cause, error.__cause__):
        if isinstance(each, ssl.SSLError):
            return _tls_failure(method, url, each)
    if isinstance(error, aiohttp.ClientConnectorError):
        return network_error(method, url, _connect_words(place, cause), retryable=False)
    if isinstance(cause, ConnectionResetError | BrokenPipeError):
        return network_error(method, url, f"read tcp {place}: connection reset by peer")
    return network_error(method, url, str(error) or type(error).__name__)


def _connect_words(place: str, cause: OSError) -> str:
    reason = (cause.strerror or str(cause)).lower()
    if isinstance(cause, ConnectionRefusedError):
        reason = "connection refused"
    return f"dial tcp {place}: connect: {reason}"


def _tls_failure(method: str, url: str, cause: ssl.SSLError) -> RegistryError:
    """Untrusted where TLS was spoken and failed; otherwise nobody spoke it."""
    reason = cause.reason or str(cause)
    if reason in NOT_TLS:
        return network_error(method, url, "http: server gave HTTP response to HTTPS client", retryable=False)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return untrusted(method, url, _certificate_words(cause))
    alert = re.sub(r"^(SSL|TLS)V\d+_ALERT_", "", reason).lower().replace("_", " ")
    return untrusted(method, url, f"remote error: tls: {alert}")


def _certificate_words(error: BaseException) -> str:
    code = getattr(error, "verify_code", 0)
    message = getattr(error, "verify_message", "") or str(error)
    words = {
        10: "certificate has expired or is not yet valid",
        18: "certificate signed by unknown authority",
        19: "certificate signed by unknown authority",
        20: "certificate signed by unknown authority",
        21: "certificate signed by unknown authority",
        9: "certificate has expired or is not yet valid",
    }.get(code)
    return f"tls: failed to verify certificate: x509: {words or message}"
