"""Blobs of a repository: reading one to its end whatever the connection does, within what its descriptor says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Protocol

from wherry.model.manifests import Descriptor
from wherry.registry.authorization import failure
from wherry.registry.errors import RegistryError, network_error, redacted
from wherry.registry.retrying import Retries
from wherry.registry.sessions import Session
from wherry.registry.transport import Answer, Target, Transport

PROGRESS = 1 << 20  # bytes after which a broken connection counts as the first again
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Host(Protocol):
    """Who can be asked for a blob: a session with a registry, or an address."""

    @property
    def name(self) -> str: ...
    def request(
        self,
        method: str,
        where: str,
        scopes: Sequence[str],
        *,
        headers: Mapping[str, str],
        accept: Sequence[int],
    ) -> AbstractAsyncContextManager[Answer]: ...


class Address:
    """An address that a manifest names for one of its layers. It is told nothing of who asks, nor of the registry."""

    def __init__(self, url: str, transport: Transport) -> None:
        self._url = url
        self._transport = transport

    @property
    def name(self) -> str:
        return redacted(self._url)

    @asynccontextmanager
    async def request(
        self,
        method: str,
        where: str,
        scopes: Sequence[str],
        *,
        headers: Mapping[str, str],
        accept: Sequence[int],
    ) -> AsyncIterator[Answer]:
        async with self._transport.send(method, self._url, Target(), headers=headers) as answer:
            if answer.status not in accept:
                raise await failure(answer)
            yield answer


async def has_blob(session: Session, repository: str, digest: str, scopes: Sequence[str]) -> bool:
    async with session.request("HEAD", f"{repository}/blobs/{digest}", scopes, accept=(200, 404)) as answer:
        return answer.status == 200


async def read_blob(
    hosts: Sequence[Host],
    repository: str,
    descriptor: Descriptor,
    offset: int,
    scopes: Sequence[str],
    retries: Retries,
) -> AsyncGenerator[bytes, None]:
    """Exactly the bytes from `offset` to the size, or RegistryError. Only the last of the hosts is asked again."""
    position, failed, since = offset, 0, 0
    at = 0
    while position < descriptor.size:
        try:
            pieces = _read_once(hosts[at], repository, descriptor, position, scopes)
            async with aclosing(pieces):
                async for piece in pieces:
                    position += len(piece)
                    since += len(piece)
                    if since >= PROGRESS:
                        failed = since = 0
                    yield piece
        except RegistryError as error:
            if position >= descriptor.size:
                return
            if at + 1 < len(hosts):
                at, failed, since = at + 1, 0, 0
                continue
            failed += 1
            pause = retries.pause_after(failed, error)
            if pause is None:
                raise
            await asyncio.sleep(pause)


async def _read_once(
    host: Host, repository: str, descriptor: Descriptor, position: int, scopes: Sequence[str]
) -> AsyncGenerator[bytes, None]:
    """One answer's part of it. Raises RegistryError where it breaks off or is not what was asked for."""
    headers = {"Range": f"bytes={position}-"} if position else {}
    async with host.request(
        "GET", f"{repository}/blobs/{descriptor.digest}", scopes, headers=headers, accept=(200, 206)
    ) as answer:
        skip = _skipped(answer, descriptor, position)
        left = descriptor.size - position
        pieces = answer.pieces()
        async with aclosing(pieces):
            async for piece in pieces:
                if skip:
                    dropped = min(skip, len(piece))
                    skip -= dropped
                    piece = piece[dropped:]
                    if not piece:
                        continue
                if len(piece) > left:
                    raise answer.untrusted(f"the blob is longer than the {descriptor.size} bytes of its manifest")
                left -= len(piece)
                yield piece
        if left:
            raise network_error(answer.method, answer.url, "unexpected EOF")


def _skipped(answer: Answer, descriptor: Descriptor, position: int) -> int:
    """How many bytes to drop: a registry without ranges begins again. Raises Untrusted where the length is a lie."""
    expected, skip = descriptor.size, position
    if answer.status == 206:
        match = _RANGE.fullmatch(answer.header("Content-Range"))
        if match is None or int(match[1]) != position or match[3] not in ("*", str(descriptor.size)):
            raise answer.untrusted(
                f"asked for a blob from byte {position} on, got the range {answer.header('Content-Range')[:100]!r}"
            )
        expected, skip = descriptor.size - position, 0
    if answer.length is not None and answer.length != expected:
        raise answer.untrusted(f"the blob has {answer.length} bytes where its manifest says {expected}")
    return skip
