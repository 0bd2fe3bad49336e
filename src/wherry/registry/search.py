"""Searching: Docker Hub's API, a registry that answers as it does, or a plain registry's catalogue.

Source: Docker Registry API v1, "Search"; OCI distribution-spec's predecessor, "Listing Repositories" (`/v2/_catalog`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from wherry.errors import InvalidParameter
from wherry.model.credentials import Credentials, join_auth
from wherry.model.reference import DEFAULT_DOMAIN
from wherry.model.registry_hosts import HUB_REGISTRY
from wherry.model.search import Found
from wherry.registry.client import RegistryClient
from wherry.registry.errors import RegistryError
from wherry.registry.manifests import listing
from wherry.registry.retrying import Retries
from wherry.registry.sessions import Session
from wherry.registry.transport import Target

HUB_INDEX = "https://index.docker.io"
RESULT_BYTES = 4 << 20
CATALOG = ("registry:catalog:*",)
MOST_REPOSITORIES = 10_000


async def search(
    registries: RegistryClient, domain: str, term: str, limit: int, credentials: Credentials
) -> list[Found]:
    """What a registry finds, in its order. Raises RegistryError and InvalidParameter in Docker's words."""
    sessions = await registries.sessions(domain, credentials)
    session = next(session for session in reversed(sessions) if session.endpoint.origin)
    target = session.target
    if domain == DEFAULT_DOMAIN:  # what `hosts.toml` says of the registry's own server is not for the index
        base, target = HUB_INDEX, target.elsewhere() if session.endpoint.host == HUB_REGISTRY else Target()
    else:
        base = await _greet(registries, session)
    url = f"{base}/v1/search?{urlencode({'q': term, 'n': limit})}"
    found = await registries.settings.retries.run(lambda: _ask(registries, url, target, credentials))
    if found is not None:
        return found
    return await _catalogue(session, registries.settings.retries, term, limit)


async def _greet(registries: RegistryClient, session: Session) -> str:
    """The address that answers. Raises InvalidParameter in Docker's words, which tell how to trust a registry."""
    endpoint = session.endpoint
    failures = []
    for base in (endpoint.base, endpoint.plain_base):
        if base:
            root = base.removesuffix("/v2")
            try:
                async with registries.transport.send("GET", f"{root}/v1/_ping", session.target):
                    return root
            except RegistryError as error:
                failures.append(error)
    if len(failures) == 2:
        raise InvalidParameter(
            f'invalid registry endpoint "{endpoint.plain_base.removesuffix("/v2")}/v1/".'
            f" HTTPS attempt: {failures[0]}. HTTP attempt: {failures[1]}"
        ) from failures[1]
    host = endpoint.host
    raise InvalidParameter(
        f"invalid registry endpoint {endpoint.base.removesuffix('/v2')}/v1/: {failures[0]}. If this private registry"
        f" supports only HTTP or HTTPS with an unknown CA certificate, please add `--insecure-registry {host}` to the"
        " daemon's arguments. In the case of HTTPS, if you have access to the registry's CA certificate, no need for"
        f" the flag; simply place the CA certificate at /etc/docker/certs.d/{host}/ca.crt"
    ) from failures[0]


async def _ask(registries: RegistryClient, url: str, target: Target, credentials: Credentials) -> list[Found] | None:
    """None where the registry does not know how to search."""
    authorization = ""
    if credentials.username and credentials.password and url.startswith("https://"):
        authorization = f"Basic {join_auth(credentials.username, credentials.password)}"
    headers = {"Accept": "application/json", "X-Docker-Token": "true"}
    async with registries.transport.send("GET", url, target, headers=headers, authorization=authorization) as answer:
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise RegistryError(
                f"Unexpected status code {answer.status}",
                request=f"GET {url}",
                status=answer.status,
                retryable=answer.status in (502, 503, 504),
            )
        data = await answer.read(RESULT_BYTES, "list of what was found")
    try:
        return await asyncio.to_thread(_results, data)
    except (msgspec.DecodeError, ValueError, TypeError, KeyError, RecursionError):
        raise RegistryError("error decoding registry search results: it is not JSON of that kind") from None


async def _catalogue(session: Session, retries: Retries, term: str, limit: int) -> list[Found]:
    """Repositories with the term in their names; the registry knows nothing else about them."""
    try:
        names = await retries.run(lambda: listing(session, "_catalog", "repositories", CATALOG, most=MOST_REPOSITORIES))
    except RegistryError as error:
        if error.status == 404:
            raise RegistryError("Unexpected status code 404", request=error.request, status=404) from error
        raise
    return [Found(name=name) for name in names if term.lower() in name.lower()][:limit]


def _results(data: bytes) -> list[Found]:
    """Blocking."""
    value: Any = msgspec.json.decode(data)
    return [_found(entry) for entry in value["results"] or [] if isinstance(entry, dict)]


def _found(entry: Mapping[str, Any]) -> Found:
    stars = entry.get("star_count")
    return Found(
        name=str(entry.get("name") or ""),
        description=str(entry.get("description") or ""),
        stars=stars if isinstance(stars, int) else 0,
        official=entry.get("is_official") is True,
    )
