"""The Authorization header for a request: basic, or a bearer token from the realm that the registry names.

Tokens are kept until shortly before they end, and one request for a token serves all who need it at that moment.

Source: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from wherry.model.challenges import Challenge, merge_scopes, parse
from wherry.model.credentials import Credentials, join_auth
from wherry.model.registry_errors import problems
from wherry.registry.errors import RegistryError, answer_error, network_error, redacted
from wherry.registry.retrying import Retries, retry_after
from wherry.registry.transport import Answer, Target, Transport

CLIENT_ID = "docker"  # registries allow known clients only: the name is Docker's
TOKEN_BYTES = 1 << 20
ERROR_BYTES = 64 * 1024
SHORTEST_LIFE = 60.0  # seconds; also what a token without expires_in lives (the specification)
EARLY = 10.0  # seconds before its end at which a token is renewed
_KEPT = 1000

NOT_BASIC = "no basic auth credentials"


@dataclass(frozen=True)
class Token:
    """A bearer token. `refresh` is an identity token, where one was asked for."""

    value: str
    ends: float  # time.monotonic()
    refresh: str = ""


_Key = tuple[str, str, tuple[str, ...], Credentials]


class Authorizer:
    """Tokens of all registries. One for each `RegistryClient`."""

    def __init__(self, transport: Transport, retries: Retries) -> None:
        self._transport = transport
        self._retries = retries
        self._tokens: dict[_Key, Token] = {}
        self._fetching: dict[_Key, asyncio.Task[Token]] = {}

    async def authorize(
        self,
        url: str,
        challenges: Sequence[Challenge],
        scopes: Sequence[str],
        credentials: Credentials,
        target: Target,
        *,
        renew: bool = False,
    ) -> str:
        """The header's value, "" where the registry asks for none. `url` is what was asked; `renew` drops a kept token.

        Raises RegistryError: the realm refuses, or must not be shown the credentials.
        """
        if not challenges:
            return ""
        if credentials.registry_token:
            return f"Bearer {credentials.registry_token}"
        for challenge in challenges:
            if challenge.scheme == "bearer" and challenge["realm"]:
                wanted = merge_scopes([*scopes, *challenge["scope"].split()] if renew else scopes)
                token = await self._token(url, challenge, wanted, credentials, target, renew)
                return f"Bearer {token.value}"
        if any(challenge.scheme == "basic" for challenge in challenges):
            if not (credentials.username and credentials.password):
                raise RegistryError(NOT_BASIC, code="", detail=NOT_BASIC)
            return f"Basic {join_auth(credentials.username, credentials.password)}"
        return ""

    async def _token(
        self,
        url: str,
        challenge: Challenge,
        scopes: tuple[str, ...],
        credentials: Credentials,
        target: Target,
        renew: bool,
    ) -> Token:
        key = (challenge["realm"], challenge["service"], scopes, credentials)
        kept = self._tokens.get(key)
        if kept is not None and not renew and kept.ends > time.monotonic():
            return kept
        task = self._fetching.get(key)
        if task is None:
            task = asyncio.create_task(self.fetch(url, challenge, scopes, credentials, target))
            self._fetching[key] = task
            task.add_done_callback(lambda done: self._fetched(key, done))
        return await asyncio.shield(task)

    def _fetched(self, key: _Key, task: asyncio.Task[Token]) -> None:
        del self._fetching[key]
        if task.cancelled() or task.exception() is not None:
            self._tokens.pop(key, None)
            return
        while len(self._tokens) >= _KEPT:
            self._tokens.pop(next(iter(self._tokens)))
        self._tokens[key] = task.result()

    async def fetch(
        self,
        url: str,
        challenge: Challenge,
        scopes: Sequence[str],
        credentials: Credentials,
        target: Target,
        *,
        offline: bool = False,
    ) -> Token:
        """Ask the realm. `offline` also asks for an identity token. Raises RegistryError."""
        realm = challenge["realm"]
        given = bool(credentials.username or credentials.identity_token)
        _check_realm(url, realm, given)
        realm_target = target if _same_host(url, realm) else replace(target.elsewhere(), plain_allowed=not given)

        def ask() -> Awaitable[Token]:
            if credentials.identity_token:
                return self._exchange(realm, challenge["service"], scopes, credentials, realm_target)
            return self._get(realm, challenge["service"], scopes, credentials, realm_target, offline)

        return await self._retries.run(ask)

    async def _get(
        self,
        realm: str,
        service: str,
        scopes: Sequence[str],
        credentials: Credentials,
        target: Target,
        offline: bool,
    ) -> Token:
        query = [("account", credentials.username)] if credentials.username else []
        query += [("scope", scope) for scope in scopes]
        query += [("service", service)] if service else []
        if offline:
            query += [("offline_token", "true"), ("client_id", CLIENT_ID)]
        address = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}" if query else realm
        authorization = ""
        if credentials.username:
            authorization = f"Basic {join_auth(credentials.username, credentials.password)}"
        async with self._transport.send("GET", address, target, authorization=authorization) as answer:
            return await _read_token(answer)

    async def _exchange(
        self, realm: str, service: str, scopes: Sequence[str], credentials: Credentials, target: Target
    ) -> Token:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": credentials.identity_token,
            "service": service,
            "client_id": CLIENT_ID,
            "scope": " ".join(scopes),
        }
        body = urlencode(form).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        async with self._transport.send("POST", realm, target, headers=headers, body=body) as answer:
            return await _read_token(answer)


async def failure(answer: Answer) -> RegistryError:
    """The error that an answer with an error status is."""
    challenges = parse(answer.headers("WWW-Authenticate"))
    body = b"" if answer.method == "HEAD" else await answer.read_some(ERROR_BYTES)
    told = problems(answer.status, challenges, body)
    return answer_error(answer.method, answer.url, answer.status, told, retry_after(answer.header("Retry-After")))


async def _read_token(answer: Answer) -> Token:
    if answer.status != 200:
        raise await failure(answer)
    data = await answer.read(TOKEN_BYTES, "token")
    try:
        value: Any = await asyncio.to_thread(msgspec.json.decode, data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _no_token(answer, "unable to decode token response: it is not JSON") from None
    found = value if isinstance(value, dict) else {}
    token = found.get("token") or found.get("access_token") or ""
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise _no_token(answer, "authorization server did not include a token in the response")
    lives = found.get("expires_in")
    seconds = float(lives) if isinstance(lives, int | float) and 0 < lives < 1e9 else 0.0
    seconds = max(seconds, SHORTEST_LIFE)
    refresh = found.get("refresh_token")
    return Token(token, time.monotonic() + seconds - EARLY, refresh if isinstance(refresh, str) else "")


def _no_token(answer: Answer, reason: str) -> RegistryError:
    return RegistryError(reason, request=f"{answer.method} {redacted(answer.url)}")


def _check_realm(url: str, realm: str, secrets: bool) -> None:
    """Credentials for a registry on HTTPS travel over HTTPS only."""
    parts = urlsplit(realm)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise network_error(
            "GET", url, f"the registry names a token realm that is no address: {redacted(realm)}", retryable=False
        )
    if secrets and urlsplit(url).scheme == "https" and parts.scheme == "http":
        raise network_error(
            "GET",
            url,
            f"the registry wants the credentials sent over plain HTTP, to {redacted(realm)}: refused",
            retryable=False,
        )


def _same_host(first: str, second: str) -> bool:
    one, other = urlsplit(first), urlsplit(second)
    return (one.scheme, one.netloc) == (other.scheme, other.netloc)
