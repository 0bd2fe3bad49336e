"""Requests to one endpoint: whether it speaks HTTPS or HTTP, what it asks of us, authorization, errors told.

An endpoint is greeted once (`GET /v2/`); what that showed is kept for a while, and forgotten when a connection fails.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

from wherry.model.challenges import Challenge, parse
from wherry.model.credentials import Credentials
from wherry.model.registry_hosts import Endpoint
from wherry.registry.authorization import Authorizer, failure
from wherry.registry.errors import RegistryError, Untrusted, network_error, redacted
from wherry.registry.transport import Answer, Body, Target, Transport

KEPT_SECONDS = 300.0
_KEPT = 1000


@dataclass(frozen=True)
class Greeting:
    """What an endpoint showed when it was greeted. `base` is the one of its two addresses that answers."""

    base: str
    challenges: tuple[Challenge, ...]
    until: float


class Greetings:
    """What is known of all endpoints."""

    def __init__(self) -> None:
        self._known: dict[Endpoint, Greeting] = {}

    def get(self, endpoint: Endpoint) -> Greeting | None:
        found = self._known.get(endpoint)
        return found if found is not None and found.until > time.monotonic() else None

    def keep(self, endpoint: Endpoint, base: str, challenges: Sequence[Challenge]) -> Greeting:
        while len(self._known) >= _KEPT:
            self._known.pop(next(iter(self._known)))
        greeting = Greeting(base, tuple(challenges), time.monotonic() + KEPT_SECONDS)
        self._known[endpoint] = greeting
        return greeting

    def forget(self, endpoint: Endpoint) -> None:
        self._known.pop(endpoint, None)


class Session:
    """One endpoint, as seen with certain credentials."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        transport: Transport,
        authorizer: Authorizer,
        greetings: Greetings,
    ) -> None:
        self.endpoint = endpoint
        self._credentials = credentials if endpoint.origin else Credentials()
        self._transport = transport
        self._authorizer = authorizer
        self._greetings = greetings
        self.target = Target(
            endpoint.tls, endpoint.headers, endpoint.connect_seconds, plain_allowed=bool(endpoint.plain_base)
        )

    @property
    def name(self) -> str:
        """For the administrator."""
        return self.endpoint.host

    async def greet(self) -> Greeting:
        """Raises RegistryError where nobody answers."""
        known = self._greetings.get(self.endpoint)
        if known is not None:
            return known
        bases = [self.endpoint.base, *([self.endpoint.plain_base] if self.endpoint.plain_base else [])]
        for base in bases:
            try:
                async with self._transport.send("GET", f"{base}/", self.target) as answer:
                    challenges = parse(answer.headers("WWW-Authenticate")) if answer.status == 401 else []
            except RegistryError as error:
                if base == bases[-1] or isinstance(error, Untrusted):  # TLS was spoken there: no plain HTTP then
                    raise
            else:
                return self._greetings.keep(self.endpoint, base, challenges)
        raise AssertionError("there is an address")

    @asynccontextmanager
    async def request(
        self,
        method: str,
        where: str,
        scopes: Sequence[str],
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        body: Body = None,
        length: int | None = None,
        accept: Sequence[int] = (200,),
        told_as: str = "",
    ) -> AsyncIterator[Answer]:
        """One request; its answer has a status in `accept`. `where` is a path below /v2, or an address it gave us.

        Raises RegistryError. A refusal that names another challenge is taken up once. `told_as` is the method that an
        error about missing credentials names.
        """
        greeting = await self.greet()
        url = self._address(greeting.base, where, query)
        ours = _origin(url) == _origin(greeting.base)
        if greeting.base.startswith("https:") and url.startswith("http:") and not self.target.plain_allowed:
            raise network_error(
                method, greeting.base, f"the registry sends us to plain HTTP, at {redacted(url)}: refused",
                retryable=False,
            )  # fmt: skip
        target = self.target if ours else self.target.elsewhere()
        challenges: Sequence[Challenge] = greeting.challenges if ours else ()
        for again in (False, True):
            authorization = await self._authorize(told_as or method, url, challenges, scopes, renew=again)
            try:
                async with self._transport.send(
                    method, url, target, headers=headers, authorization=authorization, body=body, length=length
                ) as answer:
                    if answer.status in accept:
                        yield answer
                        return
                    told = parse(answer.headers("WWW-Authenticate"))
                    if answer.status != 401 or again or not told or not ours or _origin(answer.url) != _origin(url):
                        raise await failure(answer)
                    challenges = told
                    self._greetings.keep(self.endpoint, greeting.base, told)
            except RegistryError as error:
                if not error.status:
                    self._greetings.forget(self.endpoint)
                raise

    async def _authorize(
        self, method: str, url: str, challenges: Sequence[Challenge], scopes: Sequence[str], *, renew: bool
    ) -> str:
        try:
            return await self._authorizer.authorize(
                url, challenges, scopes, self._credentials, self.target, renew=renew
            )
        except RegistryError as error:
            told = network_error(method, url, str(error), retryable=False)
            told.status = error.status
            raise told from error

    def _address(self, base: str, where: str, query: Mapping[str, str] | None) -> str:
        given = dict(query or {})
        if self.endpoint.namespace:
            given["ns"] = self.endpoint.namespace
        if where.startswith("/") or "://" in where:
            url = urljoin(base, where)
            if urlsplit(url).netloc == urlsplit(base).netloc and base.startswith("https:"):
                url = urlunsplit(("https", *urlsplit(url)[1:]))  # a proxy ends TLS and the registry does not know it
        else:
            url = f"{base}/{where}"
        if given:
            url += f"{'&' if '?' in url else '?'}{urlencode(given)}"
        return url


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
