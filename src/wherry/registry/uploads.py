"""Sending blobs (OCI distribution-spec 1.1, "Pushing blobs"): mounted, in one request, or in chunks after a break."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence

from wherry.model.challenges import repository_scope
from wherry.model.manifests import Descriptor
from wherry.registry.errors import RegistryError, Untrusted
from wherry.registry.retrying import Retries
from wherry.registry.sessions import Session

Read = Callable[[int], AsyncIterator[bytes]]
Progress = Callable[[int], None]
OCTETS = {"Content-Type": "application/octet-stream"}
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")


class Uploads:
    """Uploads to one repository. Remembers those that a refused mount has begun."""

    def __init__(self, repository: str, scopes: Sequence[str], retries: Retries) -> None:
        self._repository = repository
        self._scopes = tuple(scopes)
        self._retries = retries
        self._begun: dict[str, str] = {}

    async def mount(self, session: Session, digest: str, source_repository: str) -> bool:
        """False where the registry would rather have the bytes."""
        scopes = (*self._scopes, repository_scope(source_repository, "pull"))
        query = {"mount": digest, "from": source_repository}
        try:
            async with session.request(
                "POST", f"{self._repository}/blobs/uploads/", scopes, query=query, body=b"", accept=(201, 202)
            ) as answer:
                if answer.status == 201:
                    return True
                self._begun[digest] = answer.header("Location")
                return False
        except RegistryError as error:
            if error.status in (400, 401, 403, 404, 405, 415):  # not allowed there, or not known: send it instead
                return False
            raise

    async def send(self, session: Session, descriptor: Descriptor, read: Read, progress: Progress) -> None:
        """Send it all. What has arrived before a connection breaks is not sent again, where the registry keeps it."""
        failed = 0
        location = self._begun.pop(descriptor.digest, "")
        offset = 0
        while True:
            try:
                if not location:
                    location, offset = await self._begin(session), 0
                await self._put(session, location, descriptor, offset, read, progress)
                return
            except RegistryError as error:
                failed += 1
                pause = self._retries.pause_after(failed, error)
                if pause is None:
                    raise
            await asyncio.sleep(pause)
            location, offset = await self._resume(session, location, descriptor.size)

    async def _begin(self, session: Session) -> str:
        async with session.request(
            "POST", f"{self._repository}/blobs/uploads/", self._scopes, body=b"", accept=(202,)
        ) as answer:
            location = answer.header("Location")
            if not location:
                raise answer.untrusted("the registry does not say where to send the blob")
            return location

    async def _put(
        self, session: Session, location: str, descriptor: Descriptor, offset: int, read: Read, progress: Progress
    ) -> None:
        """In one request; after a break the rest as a chunk, and then the end."""
        if offset:
            location = await self._patch(session, location, descriptor, offset, read, progress)
            body = _Body(read, descriptor.size, descriptor.size, lambda _: None)
        else:
            body = _Body(read, 0, descriptor.size, progress)
        try:
            async with session.request(
                "PUT",
                location,
                self._scopes,
                headers=OCTETS,
                query={"digest": descriptor.digest},
                body=body if body.length else b"",
                length=body.length,
                accept=(201, 204),
            ):
                return
        except RegistryError:
            body.raise_own()
            raise

    async def _patch(
        self, session: Session, location: str, descriptor: Descriptor, offset: int, read: Read, progress: Progress
    ) -> str:
        body = _Body(read, offset, descriptor.size, progress)
        if not body.length:
            return location
        headers = {**OCTETS, "Content-Range": f"{offset}-{descriptor.size - 1}"}
        try:
            async with session.request(
                "PATCH", location, self._scopes, headers=headers, body=body, length=body.length, accept=(202, 204)
            ) as answer:
                return answer.header("Location") or location
        except RegistryError:
            body.raise_own()
            raise

    async def _resume(self, session: Session, location: str, size: int) -> tuple[str, int]:
        """Where to go on, and from which byte; ("", 0) to begin again."""
        if not location:
            return "", 0
        try:
            async with session.request("GET", location, self._scopes, accept=(204, 200)) as answer:
                match = _RANGE.fullmatch(answer.header("Range"))
                arrived = int(match[1]) + 1 if match else 0
                if 1 < arrived <= size:
                    return answer.header("Location") or location, arrived
        except RegistryError:
            pass
        return "", 0


class _Body:
    """A part of a blob as the body of a request, made anew for each. What its source raises comes out unchanged."""

    def __init__(self, read: Read, offset: int, size: int, progress: Progress) -> None:
        self.length = size - offset
        self._read = read
        self._offset = offset
        self._size = size
        self._progress = progress
        self._error: Exception | None = None

    async def __call__(self) -> AsyncIterator[bytes]:
        sent = self._offset
        self._progress(sent)
        try:
            async for piece in self._read(self._offset):
                yield piece
                sent += len(piece)
                self._progress(sent)
            if sent != self._size:
                raise Untrusted(f"the blob to be sent has {sent} bytes instead of {self._size}")
        except Exception as error:
            self._error = error
            raise

    def raise_own(self) -> None:
        if self._error is not None:
            raise self._error
