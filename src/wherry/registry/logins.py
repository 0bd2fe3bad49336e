"""Whether a registry accepts credentials, and the identity token that it may give in exchange for a password."""

from __future__ import annotations

from urllib.parse import urlsplit

from wherry.errors import Unauthorized
from wherry.model.credentials import Credentials
from wherry.model.reference import DEFAULT_DOMAIN
from wherry.model.registry_errors import UNAUTHORIZED, Problem, phrase
from wherry.registry.client import RegistryClient
from wherry.registry.errors import RegistryError, answer_error, network_error

_HUB = frozenset(("", "docker.io", "index.docker.io", "registry-1.docker.io"))


def domain_of(server_address: str) -> str:
    """The registry that an address as clients keep it means: `https://index.docker.io/v1/` is Docker Hub."""
    text = server_address.strip()
    host = urlsplit(text if "://" in text else f"//{text}").netloc.rpartition("@")[2]
    return DEFAULT_DOMAIN if host in _HUB else host


async def log_in(registries: RegistryClient, credentials: Credentials) -> str:
    """The registry's identity token, "" where it gives none. Raises Unauthorized, RegistryError in Docker's words."""
    sessions = await registries.sessions(domain_of(credentials.server_address), credentials)
    session = next(session for session in reversed(sessions) if session.endpoint.origin)
    greeting = await session.greet()
    url = f"{greeting.base}/"
    bearer = next((each for each in greeting.challenges if each.scheme == "bearer" and each["realm"]), None)
    token = ""
    authorization = ""
    try:
        if bearer is not None and not credentials.registry_token:
            found = await registries.authorizer.fetch(url, bearer, (), credentials, session.target, offline=True)
            token, authorization = found.refresh, f"Bearer {found.value}"
        else:
            authorization = await registries.authorizer.authorize(
                url, greeting.challenges, (), credentials, session.target
            )
    except RegistryError as error:
        told = network_error("GET", url, str(error), retryable=False)
        raise (Unauthorized(str(told)) if error.code == UNAUTHORIZED else told) from error
    async with registries.transport.send("GET", url, session.target, authorization=authorization) as answer:
        if answer.status != 200:
            status = f"{answer.status} {phrase(answer.status)}".rstrip()
            raise answer_error(
                "GET", url, answer.status, [Problem("", f"login attempt to {url} failed with status: {status}")]
            )
    return token
