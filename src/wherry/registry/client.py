"""Registries as the engine uses them: the OCI distribution protocol over connection pools shared by all.

    async with RegistryClient(RegistrySettings()) as registries:
        repository = registries.repository(parse("debian:12"), credentials)
        fetched = await repository.manifest("12")
        async for piece in repository.blob(layer):
            ...

Which endpoint is asked (mirrors, certs.d, HTTPS or HTTP), authorization, retries and resumption are inside. Errors are
kinds of `wherry.errors` in Docker's words; their `__cause__` is a `RegistryError` that tells code, request and address.

Source: OCI distribution-spec 1.1.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType

from wherry.errors import NotSupported
from wherry.model.credentials import Credentials
from wherry.model.manifests import Descriptor
from wherry.model.reference import Reference


@dataclass(frozen=True)
class RegistrySettings:
    """What the daemon's options say. `mirrors` are Docker Hub's (URLs); `insecure` are hosts and networks (CIDR)."""

    mirrors: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()
    user_agent: str = "wherry"


@dataclass(frozen=True)
class Fetched:
    """A manifest as its registry serves it, byte for byte. `digest` is that of `data`."""

    media_type: str
    digest: str
    data: bytes = field(repr=False)


class RegistryClient:
    """All registries: connection pools, cached tokens, configurations of hosts. One an engine."""

    def __init__(self, settings: RegistrySettings | None = None) -> None:
        self._settings = settings or RegistrySettings()

    async def __aenter__(self) -> RegistryClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def repository(self, reference: Reference, credentials: Credentials | None = None) -> Repository:
        """The repository that the reference names; its tag and digest do not matter. No I/O happens yet."""
        return Repository(reference, credentials)


class Repository:
    """One repository of a registry, as seen with certain credentials."""

    def __init__(self, reference: Reference, credentials: Credentials | None) -> None:
        self._reference = reference
        self._credentials = credentials

    async def manifest(self, ref: str) -> Fetched:
        """The manifest or index that a tag or digest names. Bounded in size; verified where a digest names it.

        Raises NotFound (none such, or access denied), Unauthorized, Unavailable, SystemFailure.
        """
        raise NotSupported(f"cannot fetch {ref}")

    async def head(self, ref: str) -> Descriptor | None:
        """What a tag or digest names, without fetching it; None where there is none."""
        raise NotSupported(f"cannot look for {ref}")

    async def tags(self) -> list[str]:
        """All tags, in the registry's order."""
        raise NotSupported("cannot list tags")

    def blob(self, descriptor: Descriptor, offset: int = 0) -> AsyncIterator[bytes]:
        """The bytes of a blob from `offset` on: exactly `descriptor.size - offset`, or an error.

        A connection that breaks is made again and asked for the rest. The digest is not checked: who writes the bytes
        hashes them.
        """
        raise NotSupported(f"cannot fetch {descriptor.digest}")

    async def has_blob(self, digest: str) -> bool:
        raise NotSupported(f"cannot look for {digest}")

    async def mount(self, digest: str, source_repository: str) -> bool:
        """Have the registry take a blob over from its repository `library/debian`, say; False if it will not."""
        raise NotSupported(f"cannot mount {digest} of {source_repository}")

    async def upload(
        self, descriptor: Descriptor, read: Callable[[int], AsyncIterator[bytes]], progress: Callable[[int], None]
    ) -> None:
        """Send a blob. `read(offset)` gives its bytes from there on; it is called again to repeat or go on.

        `progress` is told how many bytes have been sent in all, which gets less when it begins again.
        """
        raise NotSupported(f"cannot send {descriptor.digest}")

    async def put_manifest(self, ref: str, media_type: str, data: bytes) -> str:
        """Store a manifest under a tag or digest; its digest, as the registry confirms it."""
        raise NotSupported(f"cannot store {ref}")
