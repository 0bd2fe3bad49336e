"""What transfers need of a registry client; `wherry.registry.client` has it. Errors are kinds in Docker's words."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Protocol

from wherry.model.credentials import Credentials
from wherry.model.manifests import Descriptor
from wherry.model.reference import Reference


class Document(Protocol):
    """A manifest or index, byte for byte."""

    @property
    def media_type(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def data(self) -> bytes: ...


class Source(Protocol):
    """Where blobs come from."""

    def blob(self, descriptor: Descriptor, offset: int = 0) -> AsyncGenerator[bytes, None]: ...
    def distrust(self, digest: str) -> bool:
        """What `blob` gave was not it. True where another host will be asked the next time."""
        ...


class Destination(Protocol):
    """Where blobs go to."""

    async def has_blob(self, digest: str) -> bool: ...
    async def mount(self, digest: str, source_repository: str) -> bool: ...
    async def upload(
        self, descriptor: Descriptor, read: Callable[[int], AsyncIterator[bytes]], progress: Callable[[int], None]
    ) -> None: ...


class Repository(Source, Destination, Protocol):
    async def manifest(self, ref: str) -> Document: ...
    async def head(self, ref: str) -> Descriptor | None: ...
    async def tags(self) -> list[str]: ...
    async def takes_restricted(self) -> bool: ...
    async def put_manifest(self, ref: str, media_type: str, data: bytes) -> str: ...


class Registries(Protocol):
    def repository(self, reference: Reference, credentials: Credentials | None = None) -> Repository: ...


class WebFile(Protocol):
    """What is at an address of the web, while it arrives. `length` in bytes, None where it is not known."""

    @property
    def length(self) -> int | None: ...
    def pieces(self) -> AsyncGenerator[bytes, None]: ...
