"""Files from the web, with a registry client's patience, proxies and bounds, and nobody's credentials."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from wherry.errors import Forbidden, InvalidParameter, NotFound, SystemFailure, Unauthorized, WherryError
from wherry.model.registry_errors import phrase
from wherry.registry.errors import redacted
from wherry.registry.transport import Answer, Target, Transport

_SHOWN = 1024  # bytes of an error page
_KINDS: dict[int, type[WherryError]] = {
    400: InvalidParameter,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
}


@asynccontextmanager
async def fetch(transport: Transport, url: str) -> AsyncIterator[Answer]:
    """What is at `url`. Raises WherryError in Docker's words, RegistryError."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise SystemFailure(f'Get "{redacted(url)}": unsupported protocol scheme "{urlsplit(url).scheme}"')
    async with transport.send("GET", url, Target(plain_allowed=True)) as answer:
        if answer.status >= 400:
            page = (await answer.read_some(_SHOWN)).decode(errors="replace").strip()
            kind = _KINDS.get(answer.status, SystemFailure)
            raise kind(
                f"failed to GET {redacted(url)} with status {answer.status} {phrase(answer.status)}: {page}".strip()
            )
        yield answer
