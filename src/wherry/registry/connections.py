"""Connections to registries, by aiohttp, and its errors in Go's words, which are what Docker's users see.

Imported when the first registry is asked: it takes some 25 MB and a third of a second, which an engine that never pulls
need not spend.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from wherry.registry.errors import RegistryError, network_error, untrusted
from wherry.registry.threads import Threads

CONNECT_SECONDS = 30.0
IDLE_SECONDS = 2.0  # that a connection is kept for the next request: no longer than one pull or push needs it
READ_BUFFER = 1 << 20
HEADER_BYTES = 64 * 1024  # of one line
NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
"""OpenSSL's reasons for an answer that is no TLS."""


class Connections:
    """Pools for all hosts."""

    def __init__(self, threads: Threads) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                limit_per_host=0,
                ttl_dns_cache=30,
                keepalive_timeout=IDLE_SECONDS,
                resolver=_Resolver(threads),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            trust_env=False,  # it would also take passwords from ~/.netrc
            read_bufsize=READ_BUFFER,
            skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
        )

    async def close(self) -> None:
        await self._session.close()
        await asyncio.sleep(0)

    async def request(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        *,
        context: ssl.SSLContext | None,
        proxy: str,
        connect_seconds: float,
        silence_seconds: float,
        body: bytes | Callable[[], AsyncIterator[bytes]] | None,
    ) -> Response:
        """One request, one answer, no redirects. Raises RegistryError."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_seconds or CONNECT_SECONDS, sock_read=silence_seconds
        )
        try:
            response = await self._session.request(
                method,
                URL(url, encoded=True),
                headers=CIMultiDict(headers),
                data=body() if callable(body) else body,
                allow_redirects=False,
                ssl=context or True,
                proxy=proxy or None,
                timeout=timeout,
            )
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise request_failure(method, url, error) from error
        return Response(response, method, url)


class Response:
    """An answer whose body has yet to be read."""

    def __init__(self, response: aiohttp.ClientResponse, method: str, url: str) -> None:
        self._response = response
        self._method = method
        self._url = url
        self.status = response.status

    def headers(self, name: str) -> list[str]:
        return self._response.headers.getall(name, [])

    async def piece(self) -> bytes:
        """What has come of the body, b"" at its end. Raises RegistryError where it breaks off, TimeoutError."""
        try:
            return await self._response.content.readany()
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise request_failure(self._method, self._url, error) from error

    def release(self) -> None:
        """The connection goes back to the pool if the body was read to its end, and is closed otherwise."""
        self._response.release()


class _Resolver(AbstractResolver):
    """Names looked up in threads of ours (getaddrinfo(3): hosts file and DNS as everywhere)."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._threads.run(
            socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        return None


def request_failure(method: str, url: str, error: BaseException) -> RegistryError:
    """What aiohttp raised, told in the words of Go's client."""
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
