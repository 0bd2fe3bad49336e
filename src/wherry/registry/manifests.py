"""Manifests and tags of a repository (OCI distribution-spec 1.1, "Pulling manifests", "Listing Tags")."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

import msgspec

from wherry.model.manifests import ACCEPTED, INDEXES, MANIFESTS, MEDIA_SCHEMA1, MEDIA_SCHEMA1_SIGNED, Descriptor
from wherry.model.reference import is_digest
from wherry.registry.sessions import Session
from wherry.registry.transport import Answer

MANIFEST_BYTES = 4 << 20  # the specification's: larger ones may be refused
LONG = 1 << 16  # bytes that are not hashed and read on the loop
TAGS_BYTES = 8 << 20
MOST_TAGS = 1_000_000
PAGE = "1000"
KINDS = INDEXES | MANIFESTS
SCHEMA_1 = frozenset((MEDIA_SCHEMA1, MEDIA_SCHEMA1_SIGNED))
ACCEPT = ", ".join((*ACCEPTED, "application/json;q=0.5", "*/*;q=0.1"))
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?')


@dataclass(frozen=True)
class Fetched:
    """A manifest as its registry serves it, byte for byte. `digest` is that of `data`."""

    media_type: str
    digest: str
    data: bytes = field(repr=False)


async def fetch(session: Session, repository: str, ref: str, scopes: Sequence[str]) -> Fetched:
    """Raises RegistryError, Untrusted where what comes is not what `ref` or the registry itself says it is."""
    async with session.request(
        "GET", f"{repository}/manifests/{ref}", scopes, headers={"Accept": ACCEPT}, told_as=_told_as(ref)
    ) as answer:
        data = await answer.read(MANIFEST_BYTES, "manifest")
        if len(data) < LONG:
            return _verified(answer, ref, data)
        return await asyncio.to_thread(_verified, answer, ref, data)


def _verified(answer: Answer, ref: str, data: bytes) -> Fetched:
    """Raises Untrusted, see `fetch`."""
    media_type = _media_type(answer, data)
    if is_digest(ref):
        if digest_like(ref, data) != ref:
            raise answer.untrusted(f"manifest verification failed for digest {ref}")
        return Fetched(media_type, ref, data)
    told = answer.header("Docker-Content-Digest")
    if is_digest(told) and media_type not in SCHEMA_1 and digest_like(told, data) != told:
        raise answer.untrusted(f"manifest verification failed for digest {told}")
    return Fetched(media_type, digest_like("sha256:", data), data)


async def head(session: Session, repository: str, ref: str, scopes: Sequence[str]) -> Descriptor | None:
    """What `ref` names. A registry that does not tell the digest is asked for the manifest itself."""
    async with session.request(
        "HEAD", f"{repository}/manifests/{ref}", scopes, headers={"Accept": ACCEPT}, accept=(200, 404)
    ) as answer:
        if answer.status == 404:
            return None
        media_type = _plain(answer.header("Content-Type"))
        digest = answer.header("Docker-Content-Digest")
        size = answer.length
        if is_digest(ref) and is_digest(digest) and digest != ref:
            raise answer.untrusted(f"manifest verification failed for digest {ref}")
    if is_digest(digest) and media_type in KINDS | SCHEMA_1 and size is not None:
        return Descriptor(media_type=media_type, digest=digest, size=size)
    fetched = await fetch(session, repository, ref, scopes)
    return Descriptor(media_type=fetched.media_type, digest=fetched.digest, size=len(fetched.data))


async def put(session: Session, repository: str, ref: str, media_type: str, data: bytes, scopes: Sequence[str]) -> str:
    """Store it; its digest. Raises RegistryError, Untrusted where the registry has stored something else."""
    digest = digest_like(ref, data) if is_digest(ref) else f"sha256:{hashlib.sha256(data).hexdigest()}"
    async with session.request(
        "PUT",
        f"{repository}/manifests/{ref}",
        scopes,
        headers={"Content-Type": media_type},
        body=data,
        accept=(200, 201, 202),
    ) as answer:
        told = answer.header("Docker-Content-Digest")
        if is_digest(told) and digest_like(told, data) != told:
            raise answer.untrusted(f"the registry stored {told} instead of {digest}")
        return digest


async def tags(session: Session, repository: str, scopes: Sequence[str]) -> list[str]:
    """All tags, page by page."""
    return await listing(session, f"{repository}/tags/list", "tags", scopes)


async def listing(
    session: Session, where: str, key: str, scopes: Sequence[str], most: int = MOST_TAGS, page: str = PAGE
) -> list[str]:
    """The strings that the pages at `where` have under `key`, each once; up to `most`."""
    found: dict[str, None] = {}
    query: dict[str, str] | None = {"n": page}
    seen = {where}
    while len(found) < most:
        async with session.request("GET", where, scopes, query=query) as answer:
            data = await answer.read(TAGS_BYTES, "list")
            try:
                entries = await asyncio.to_thread(_strings, data, key)
            except (msgspec.DecodeError, ValueError, TypeError, KeyError, RecursionError):
                raise answer.untrusted(f"the answer is not a list of {key}") from None
            found.update(entries)
            link = _NEXT.search(answer.header("Link"))
            if link is None or not entries:
                break
            where, query = urljoin(answer.url, link[1]), None
            if urlsplit(where)[:2] != urlsplit(answer.url)[:2] or where in seen:
                raise answer.untrusted("the list goes on at another registry, or in a circle")
            seen.add(where)
    return list(found)[:most]


def _strings(page: bytes, key: str) -> dict[str, None]:
    """Blocking, for a page may have megabytes."""
    value: Any = msgspec.json.decode(page)
    return {entry: None for entry in value[key] or [] if isinstance(entry, str)}


def digest_like(digest: str, data: bytes) -> str:
    """The digest of `data` by the algorithm that `digest` is of."""
    algorithm = digest.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def _told_as(ref: str) -> str:
    """Docker asks with HEAD what a tag means before it asks for the manifest: its errors name that request."""
    return "GET" if is_digest(ref) else "HEAD"


def _media_type(answer: Answer, data: bytes) -> str:
    """What the answer says it is; where it says nothing of use, what the document says of itself."""
    told = _plain(answer.header("Content-Type"))
    try:
        inside = msgspec.json.decode(data, type=_Named).media_type  # the rest is passed over, not made objects of
    except msgspec.ValidationError:  # no object, or another type: `parse` tells
        inside = ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise answer.untrusted("the manifest is not JSON, or nested too deeply") from None
    if told not in KINDS:
        return inside if told not in SCHEMA_1 and inside else told
    if inside and inside != told:
        raise answer.untrusted(f"mediaType in manifest should be '{told}' not '{inside}'")
    return told


class _Named(msgspec.Struct, rename="camel"):
    media_type: str | None = None


def _plain(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
