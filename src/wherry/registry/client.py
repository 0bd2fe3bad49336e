"""Registries as the engine uses them: the OCI distribution protocol over connection pools shared by all.

    async with RegistryClient(RegistrySettings()) as registries:
        repository = registries.repository(parse("debian:12"), credentials)
        fetched = await repository.manifest("12")
        async for piece in repository.blob(layer):
            ...

Which endpoint is asked (mirrors, certs.d, HTTPS or HTTP), authorization, retries and resumption are inside. Errors are
kinds of `wherry.errors` in Docker's words; they are, or have as their `__cause__`, a `RegistryError` that tells code,
request and address.

Source: OCI distribution-spec 1.1.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from wherry.errors import InvalidParameter
from wherry.model.challenges import repository_scope
from wherry.model.credentials import Credentials
from wherry.model.manifests import Descriptor, elsewhere
from wherry.model.proxies import Proxies, from_environment
from wherry.model.reference import Reference, is_digest
from wherry.model.registry_options import ReadOptions, RegistryOptions
from wherry.registry import manifests
from wherry.registry.authorization import Authorizer
from wherry.registry.blobs import Address, Host, has_blob, read_blob
from wherry.registry.errors import RegistryError, pull_failure
from wherry.registry.hosts import CERTIFICATE_FOLDERS, find_endpoints, is_named
from wherry.registry.manifests import Fetched
from wherry.registry.retrying import Retries
from wherry.registry.sessions import Greetings, Session
from wherry.registry.transport import SILENCE_SECONDS, Transport
from wherry.registry.uploads import Uploads

T = TypeVar("T")
log = logging.getLogger(__name__)

__all__ = ["Fetched", "RegistryClient", "RegistrySettings", "Repository"]


@dataclass(frozen=True)
class RegistrySettings:
    """What stays for the life of an engine, beside the daemon's options."""

    user_agent: str = "wherry"
    proxies: Proxies = field(default_factory=lambda: from_environment(os.environ))
    certificate_folders: tuple[Path, ...] = CERTIFICATE_FOLDERS
    retries: Retries = field(default_factory=Retries)
    silence_seconds: float = SILENCE_SECONDS


class RegistryClient:
    """All registries: connection pools, cached tokens, what is known of hosts. One an engine."""

    def __init__(self, options: ReadOptions = RegistryOptions, settings: RegistrySettings | None = None) -> None:
        self._options = options
        self.settings = settings or RegistrySettings()
        self.transport = Transport(self.settings.proxies, self.settings.user_agent, self.settings.silence_seconds)
        self.authorizer = Authorizer(self.transport, self.settings.retries)
        self.greetings = Greetings()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> RegistryClient:
        await self._stack.enter_async_context(self.transport)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def repository(
        self, reference: Reference, credentials: Credentials | None = None, *, insecure: bool = False
    ) -> Repository:
        """The repository that the reference names; its tag and digest do not matter. No I/O happens yet.

        `insecure`: this once, its registry is treated as one that the administrator has declared insecure.
        """
        return Repository(self, reference, credentials or Credentials(), insecure)

    def download_retries(self) -> Retries:
        """How often a blob is asked for, as the administrator says now."""
        return replace(self.settings.retries, most=self._options().max_download_attempts)

    async def takes_restricted(self, domain: str) -> bool:
        """See Repository.takes_restricted."""
        return await is_named(domain, self._options().nondistributable, self.transport.threads)

    async def sessions(self, domain: str, credentials: Credentials, *, insecure: bool = False) -> list[Session]:
        """Sessions with a registry's endpoints, in the order in which they are to be asked. Raises InvalidParameter."""
        options = self._options()
        trusting = (*options.insecure, domain) if insecure else options.insecure
        endpoints = await find_endpoints(
            domain, self.settings.certificate_folders, options.mirrors, trusting, self.transport.threads
        )
        return [
            Session(endpoint, credentials, self.transport, self.authorizer, self.greetings) for endpoint in endpoints
        ]


class Repository:
    """One repository of a registry, as seen with certain credentials."""

    def __init__(self, client: RegistryClient, reference: Reference, credentials: Credentials, insecure: bool) -> None:
        self._client = client
        self.reference = reference
        self._credentials = credentials
        self._insecure = insecure
        self._found: list[Session] | None = None
        self._pull = (repository_scope(reference.path, "pull"),)
        self._push = (repository_scope(reference.path, "pull", "push"),)
        self._hosts: dict[str, list[Host]] = {}  # who is asked for a blob
        self._distrusted: dict[str, int] = {}  # how many hosts are passed over for a blob
        self._uploads = Uploads(reference.path, self._push, client.settings.retries)

    async def manifest(self, ref: str) -> Fetched:
        """The manifest or index that a tag or digest names. Bounded in size; verified where a digest names it.

        Raises NotFound (there is none, or access is denied) and other WherryErrors.
        """
        with self._told(ref):
            return await self._read(
                _capability(ref), lambda session: manifests.fetch(session, self.reference.path, ref, self._pull)
            )

    async def head(self, ref: str) -> Descriptor | None:
        """What a tag or digest names, without fetching it; None where there is none."""
        with self._told(ref):
            return await self._read(
                _capability(ref), lambda session: manifests.head(session, self.reference.path, ref, self._pull)
            )

    async def tags(self) -> list[str]:
        """All tags, in the registry's order."""
        with self._told():
            return await self._read("resolve", lambda session: manifests.tags(session, self.reference.path, self._pull))

    async def blob(self, descriptor: Descriptor, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """The bytes of a blob from `offset` on: exactly `descriptor.size - offset`, or an error.

        A connection that breaks is made again and asked for the rest. The digest is not checked: who writes the bytes
        hashes them.
        """
        with self._told():
            addresses = [Address(url, self._client.transport) for url in elsewhere(descriptor)]
            hosts = self._hosts[descriptor.digest] = [*await self._sessions("pull"), *addresses]
            believed = hosts[min(self._distrusted.get(descriptor.digest, 0), len(hosts) - 1) :]
            retries = self._client.download_retries()
            pieces = read_blob(
                believed,
                self.reference.path,
                descriptor,
                offset,
                self._pull,
                retries,
            )
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece

    def distrust(self, digest: str) -> bool:
        """What `blob` gave does not have the digest: the next host is asked then. False where there is none."""
        hosts = self._hosts.get(digest, [])
        at = self._distrusted.get(digest, 0)
        if at + 1 >= len(hosts):
            return False
        self._distrusted[digest] = at + 1
        log.warning("%s gave other bytes for blob %s of %s: the next host is asked", hosts[at].name, digest,
                    self.reference.name)  # fmt: skip
        return True

    async def has_blob(self, digest: str) -> bool:
        """Whether the registry itself, where one would push to, has it."""
        session = await self._pushed_to()
        return await self._client.settings.retries.run(
            lambda: has_blob(session, self.reference.path, digest, self._push)
        )

    async def mount(self, digest: str, source_repository: str) -> bool:
        """Have the registry take a blob over from its repository `library/debian`, say; False if it will not."""
        return await self._uploads.mount(await self._pushed_to(), digest, source_repository)

    async def upload(
        self, descriptor: Descriptor, read: Callable[[int], AsyncIterator[bytes]], progress: Callable[[int], None]
    ) -> None:
        """Send a blob. `read(offset)` gives its bytes from there on; it is called again to repeat or go on.

        `progress` is told how many bytes have been sent in all, which gets less when it begins again.
        """
        await self._uploads.send(await self._pushed_to(), descriptor, read, progress)

    async def put_manifest(self, ref: str, media_type: str, data: bytes) -> str:
        """Store a manifest under a tag or digest; its digest, which the registry must confirm if it tells one."""
        session = await self._pushed_to()
        return await self._client.settings.retries.run(
            lambda: manifests.put(session, self.reference.path, ref, media_type, data, self._push)
        )

    async def takes_restricted(self) -> bool:
        """Whether the administrator lets layers whose distribution is restricted be pushed there."""
        return await self._client.takes_restricted(self.reference.domain)

    async def _sessions(self, capability: str) -> list[Session]:
        """Those that may be asked for it; at least one. Raises InvalidParameter."""
        if self._found is None:
            self._found = await self._client.sessions(self.reference.domain, self._credentials, insecure=self._insecure)
        able = [session for session in self._found if capability in session.endpoint.capabilities]
        if not able:
            raise InvalidParameter(
                f"no host configured for {self.reference.domain} has the capability {capability}: see its hosts.toml"
            )
        return able

    async def _pushed_to(self) -> Session:
        return (await self._sessions("push"))[0]

    async def _read(self, capability: str, work: Callable[[Session], Awaitable[T]]) -> T:
        """From the first endpoint that has it. Only the last is worth waiting for; its error is what is told."""
        *mirrors, last = await self._sessions(capability)
        for mirror in mirrors:
            try:
                found = await work(mirror)
                if found is not None:
                    return found
            except RegistryError as error:
                level = logging.DEBUG if error.status == 404 else logging.WARNING
                log.log(level, "%s does not help with %s: %s", mirror.endpoint.base, self.reference.name, error)
        return await self._client.settings.retries.run(lambda: work(last))

    @contextmanager
    def _told(self, ref: str = "") -> Iterator[None]:
        """Errors in the words for a pull."""
        try:
            yield
        except RegistryError as error:
            named = replace(self.reference, tag="", digest="")
            if ref:
                named = replace(named, digest=ref) if is_digest(ref) else replace(named, tag=ref)
            told = pull_failure(error, named)
            if told is error:
                raise
            raise told from error


def _capability(ref: str) -> str:
    return "pull" if is_digest(ref) else "resolve"
