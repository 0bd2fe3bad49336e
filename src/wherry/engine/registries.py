"""What the engine asks registries on a client's behalf: log in, search, tell about an image without pulling it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from wherry.errors import (
    Forbidden,
    InvalidParameter,
    NotFound,
    SystemFailure,
    TooManyRequests,
    Unauthorized,
    WherryError,
)
from wherry.model.credentials import Credentials
from wherry.model.manifests import CONFIG_MAX, INDEXES, Descriptor, Index, parse
from wherry.model.reference import Reference, is_digest, parse_any
from wherry.model.search import Found, Wanted, split_term
from wherry.registry.client import RegistryClient, Repository
from wherry.registry.errors import RegistryError
from wherry.registry.logins import log_in
from wherry.registry.manifests import digest_like
from wherry.registry.search import search

KINDS: dict[int, type[WherryError]] = {401: Unauthorized, 403: Forbidden, 404: NotFound, 429: TooManyRequests}


@dataclass(frozen=True)
class Distribution:
    """What a registry has under a name. `platforms` are as its index or configuration has them."""

    descriptor: Descriptor
    platforms: list[dict[str, Any]]


class Registries:
    """The service behind `/auth`, `/images/search` and `/distribution`."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client

    async def log_in(self, credentials: Credentials) -> str:
        """The identity token, "" where the registry gives none. Raises WherryError where it does not let one in."""
        return await log_in(self._client, credentials)

    async def search(self, term: str, limit: int, wanted: Wanted, credentials: Credentials) -> list[Found]:
        """Raises InvalidParameter and what the registry says."""
        domain, rest = split_term(term)
        return wanted.choose(await search(self._client, domain, rest, limit, credentials))

    async def inspect(self, name: str, credentials: Credentials) -> Distribution:
        """Raises InvalidParameter, and what the registry says in its own words and with its status."""
        reference = parse_any(name)
        if not isinstance(reference, Reference):
            raise SystemFailure("no manifest found for full image ID")
        reference = reference.with_default_tag()
        repository = self._client.repository(reference, credentials)
        try:
            fetched = await repository.manifest(reference.digest or reference.tag)
            descriptor = Descriptor(media_type=fetched.media_type, digest=fetched.digest, size=len(fetched.data))
            return Distribution(descriptor, await _platforms(repository, fetched.media_type, fetched.data))
        except WherryError as error:
            raise _plainly(error) from error


async def _platforms(repository: Repository, media_type: str, data: bytes) -> list[dict[str, Any]]:
    document = parse(media_type, data)
    if isinstance(document, Index) or media_type in INDEXES:
        entries = msgspec.json.decode(data).get("manifests") or []
        return [entry["platform"] for entry in entries if isinstance(entry.get("platform"), dict)]
    config = await read_small(repository, document.config, CONFIG_MAX)
    try:
        value = msgspec.json.decode(config)
        if not isinstance(value, dict):
            raise msgspec.DecodeError("not an object")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter(f"invalid image configuration: {error}") from None
    names = ("architecture", "os", "os.version", "os.features", "variant")
    return [{name: value[name] for name in names if value.get(name)}]


async def read_small(repository: Repository, descriptor: Descriptor, most: int) -> bytes:
    """A blob as a whole, verified. Raises WherryError, for one larger than `most` bytes too."""
    if descriptor.size > most or not is_digest(descriptor.digest):
        raise InvalidParameter(f"invalid manifest: {descriptor.digest} of {descriptor.size} bytes cannot be read")
    data = b"".join([piece async for piece in repository.blob(descriptor)])
    if digest_like(descriptor.digest, data) != descriptor.digest:
        raise SystemFailure(f"filesystem layer verification failed for digest {descriptor.digest}")
    return data


def _plainly(error: WherryError) -> WherryError:
    """As the registry said it: not in the words for a pull, and with the registry's own status."""
    told = error if isinstance(error, RegistryError) else error.__cause__
    if not isinstance(told, RegistryError):
        return error
    kind = KINDS.get(told.status) if told.code else None
    return kind(str(told)) if kind is not None else told
