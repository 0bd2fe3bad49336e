"""What the engine asks registries on a client's behalf: log in, search, tell about an image without pulling it."""

from __future__ import annotations

import asyncio
import logging
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
from wherry.model.registry_errors import DENIED, MANIFEST_UNKNOWN, NAME_UNKNOWN, TOO_MANY_REQUESTS, UNAUTHORIZED
from wherry.model.search import Found, Wanted, split_term
from wherry.registry.client import RegistryClient, Repository
from wherry.registry.errors import RegistryError
from wherry.registry.logins import log_in
from wherry.registry.manifests import digest_like
from wherry.registry.search import search

log = logging.getLogger(__name__)
MEMBERS_MAX = 32 << 20  # bytes of all manifests of an index that are told at once
KINDS: dict[str, type[WherryError]] = {
    UNAUTHORIZED: Unauthorized,
    DENIED: Forbidden,
    NAME_UNKNOWN: NotFound,
    MANIFEST_UNKNOWN: NotFound,
    TOO_MANY_REQUESTS: TooManyRequests,
}
"""What a registry's codes are here; the rest is a failure."""


@dataclass(frozen=True)
class Distribution:
    """What a registry has under a name. `platforms` are as its index or configuration has them, None for no image."""

    descriptor: Descriptor
    platforms: list[dict[str, Any]] | None
    data: bytes  # the manifest or index itself
    members: list[tuple[Descriptor, bytes]] | None = None  # an index's manifests, where they were asked for


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

    async def inspect(
        self, name: str, credentials: Credentials, *, members: bool = False, insecure: bool = False
    ) -> Distribution:
        """What the name means there; with `members` also the manifests that an index names.

        Raises InvalidParameter, and what the registry says in its own words and with its status.
        """
        reference = parse_any(name)
        if not isinstance(reference, Reference):
            raise SystemFailure("no manifest found for full image ID")
        reference = reference.with_default_tag()
        repository = self._client.repository(reference, credentials, insecure=insecure)
        try:
            fetched = await repository.manifest(reference.digest or reference.tag)
            descriptor = Descriptor(media_type=fetched.media_type, digest=fetched.digest, size=len(fetched.data))
            platforms = await _platforms(repository, fetched.media_type, fetched.data)
            found = await _members(repository, fetched.media_type, fetched.data) if members else None
            return Distribution(descriptor, platforms, fetched.data, found)
        except WherryError as error:
            raise _plainly(error) from error


async def _platforms(repository: Repository, media_type: str, data: bytes) -> list[dict[str, Any]] | None:
    """None where the registry does not tell: an artifact, or a configuration that is none."""
    try:
        document = await asyncio.to_thread(parse, media_type, data)
        if isinstance(document, Index):
            return await asyncio.to_thread(_told_platforms, data)
        config = await read_small(repository, document.config, CONFIG_MAX)
        value = await asyncio.to_thread(msgspec.json.decode, config, type=dict[str, Any])
    except (WherryError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        log.debug("no platform of %s: %s", repository.reference.name, error)
        return None
    names = ("architecture", "os", "os.version", "os.features", "variant")
    return [{name: value[name] for name in names if value.get(name)}]


def _told_platforms(index: bytes) -> list[dict[str, Any]]:
    """As they are written: they have more fields than an engine needs. Blocking."""
    entries = msgspec.json.decode(index).get("manifests") or []
    return [
        dict(entry["platform"])
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("platform"), dict)
    ]


async def _members(repository: Repository, media_type: str, data: bytes) -> list[tuple[Descriptor, bytes]] | None:
    """The manifests of an index, None for a manifest. Raises InvalidParameter where they are too much."""
    if media_type not in INDEXES:
        return None
    index = await asyncio.to_thread(parse, media_type, data)
    found: list[tuple[Descriptor, bytes]] = []
    for descriptor in (index.manifests or []) if isinstance(index, Index) else []:
        found.append((descriptor, (await repository.manifest(descriptor.digest)).data))
        if sum(len(each) for _, each in found) > MEMBERS_MAX:
            raise InvalidParameter(f"the manifests of the index have more than {MEMBERS_MAX} bytes")
    return found


async def read_small(repository: Repository, descriptor: Descriptor, most: int) -> bytes:
    """A blob as a whole, verified. Raises WherryError, for one larger than `most` bytes too."""
    if descriptor.size > most or not is_digest(descriptor.digest):
        raise InvalidParameter(f"invalid manifest: {descriptor.digest} of {descriptor.size} bytes cannot be read")
    while True:
        data = b"".join([piece async for piece in repository.blob(descriptor)])
        if await asyncio.to_thread(digest_like, descriptor.digest, data) == descriptor.digest:
            return data
        if not repository.distrust(descriptor.digest):
            raise SystemFailure(f"filesystem layer verification failed for digest {descriptor.digest}")


def _plainly(error: WherryError) -> WherryError:
    """As the registry said it: not in the words for a pull, and with the registry's own status."""
    told = error if isinstance(error, RegistryError) else error.__cause__
    if not isinstance(told, RegistryError):
        return error
    kind = KINDS.get(told.code)
    return kind(str(told)) if kind is not None else told
