"""A directory of the client's with an OCI layout (image-spec image-layout.md), used as a registry's repository is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Protocol

import msgspec

from wherry.errors import InvalidParameter, NotFound
from wherry.model.image import digest_of
from wherry.model.manifests import Descriptor, Index
from wherry.registry.client import Fetched
from wherry.registry.manifests import MANIFEST_BYTES

_NAME = "org.opencontainers.image.ref.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


class Directory(Protocol):
    """Files of the client's, by their path in the layout."""

    async def has(self, path: str) -> bool: ...
    def read(self, path: str) -> AsyncGenerator[bytes, None]:
        """Nothing where there is none."""

    async def write(self, path: str, pieces: AsyncIterator[bytes]) -> None:
        """Replaces the file once all of it is there."""


class Layout:
    """See the module. A ref is a tag, which the index has, or a digest; "" is `latest`, or the only one there is."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._writing = asyncio.Lock()

    async def manifest(self, ref: str) -> Fetched:
        """Raises NotFound, InvalidParameter."""
        digest = ref
        if not ref.startswith("sha256:"):
            there = await self._index()
            found = [each for each in there if (each.annotations or {}).get(_NAME) == (ref or "latest")]
            if not ref and not found and len(there) == 1:
                found = there
            if not found:
                raise NotFound(f"the directory has nothing with the tag {ref or 'latest'}")
            digest = found[-1].digest
        data = await self._small(_path(digest))
        if not data:
            raise NotFound(f"the directory has no manifest {digest}")
        if digest_of(data) != digest:
            raise InvalidParameter(f"manifest verification failed for digest {digest}")
        return Fetched("", digest, data)

    async def blob(self, descriptor: Descriptor, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """The bytes of a blob from `offset` on."""
        position = 0
        async for piece in self._directory.read(_path(descriptor.digest)):
            position += len(piece)
            if position > offset:
                yield piece[max(0, len(piece) - (position - offset)) :]

    def distrust(self, digest: str) -> bool:
        """What `blob` gave was not it; nobody else has it."""
        return False

    async def has_blob(self, digest: str) -> bool:
        return await self._directory.has(_path(digest))

    async def mount(self, digest: str, source_repository: str) -> bool:
        return False

    async def upload(
        self, descriptor: Descriptor, read: Callable[[int], AsyncIterator[bytes]], progress: Callable[[int], None]
    ) -> None:
        await self._write(_path(descriptor.digest), _counted(read(0), progress))

    async def put_manifest(self, ref: str, media_type: str, data: bytes) -> str:
        """The manifest, then the index with it in place of what had the tag."""
        digest = digest_of(data)
        await self._write(_path(digest), _one(data))
        await self._write("oci-layout", _one(_LAYOUT))
        kept = [each for each in await self._index() if (each.annotations or {}).get(_NAME) != ref]
        kept.append(Descriptor(media_type, digest, len(data), {_NAME: ref}))
        await self._write("index.json", _one(msgspec.json.encode(Index(manifests=kept))))
        return digest

    async def _index(self) -> list[Descriptor]:
        data = await self._small("index.json")
        try:
            return (msgspec.json.decode(data, type=Index).manifests or []) if data else []
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidParameter(f"index.json of the directory: {error}") from None

    async def _small(self, path: str) -> bytes:
        data = bytearray()
        async for piece in self._directory.read(path):
            data += piece
            if len(data) > MANIFEST_BYTES:
                raise InvalidParameter(f"{path} of the directory has more than {MANIFEST_BYTES} bytes")
        return bytes(data)

    async def _write(self, path: str, pieces: AsyncIterator[bytes]) -> None:
        """One at a time: a client takes one stream to its end."""
        async with self._writing:
            await self._directory.write(path, pieces)


def _path(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or "/" in value:
        raise InvalidParameter(f"invalid digest {digest}")
    return f"blobs/sha256/{value}"


async def _counted(pieces: AsyncIterator[bytes], progress: Callable[[int], None]) -> AsyncIterator[bytes]:
    sent = 0
    async for piece in pieces:
        yield piece
        sent += len(piece)
        progress(sent)


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data
