"""Importing from a URL: the file comes, and is unpacked while it comes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager

from wherry.engine.images.service import Images
from wherry.engine.transfers.lines import Message, follow, said
from wherry.engine.transfers.needs import WebFile
from wherry.errors import SystemFailure
from wherry.model.progress import human_size, progress_bar
from wherry.model.reference import parse_target


class Imports:
    """`fetch` opens an address of the web."""

    def __init__(self, images: Images, fetch: Callable[[str], AbstractAsyncContextManager[WebFile]]) -> None:
        self._images = images
        self._fetch = fetch

    async def import_(
        self, url: str, *, repository: str, tag: str, changes: Iterable[str], message: str, platform: str
    ) -> AsyncGenerator[Message, None]:
        """As `Images.import_`, of what is at `url` (`http` where it has no scheme); Docker's messages of progress.

        What is refused before the first message has changed nothing. Raises WherryError.
        """
        if not url:
            raise SystemFailure('Get "http:": http: no Host in request URL')
        given, url = url, url if "://" in url else f"http://{url}"
        if repository:
            parse_target(repository, tag)
        async with self._fetch(url) as file:
            yield said(f"Downloading from {_public(url)}")
            arriving = _Arriving(file)
            work = asyncio.create_task(
                self._images.import_(
                    arriving.pieces(),
                    repository=repository,
                    tag=tag,
                    changes=changes,
                    message=message or f"Imported from {_public(given)}",
                    platform=platform,
                )
            )
            try:
                async for progress in follow([arriving], work):
                    yield progress
            finally:
                work.cancel()
                await asyncio.wait((work,))
            yield said(work.result().id)


def _public(url: str) -> str:
    """Without name and password: an image's history goes wherever the image is pushed."""
    return re.sub(r"^([^/?#]*//)?[^/?#]*@", r"\1", url)


class _Arriving:
    """A file on its way, and the line that tells of it."""

    def __init__(self, file: WebFile) -> None:
        self._file = file
        self._size = 0
        self._told = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        async for piece in self._file.pieces():
            self._size += len(piece)
            yield piece

    def changes(self) -> Iterator[Message]:
        if self._told == self._size:
            return
        self._told, total = self._size, self._file.length
        detail = {"current": self._size} | ({"total": total} if total else {})
        bar = progress_bar(self._size, total) if total else f"{human_size(self._size):>8}"
        yield {"status": "Importing", "progressDetail": detail, "progress": bar}
