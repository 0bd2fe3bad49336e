"""The images that a build begins with: found here, or pulled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Protocol

from wherry.engine.builds.progress import Progress, Pulled
from wherry.engine.builds.trees import Settings
from wherry.engine.images.admission import KeptLayer
from wherry.engine.images.service import Images
from wherry.engine.transfers.needs import Repository, Source
from wherry.errors import NotFound
from wherry.model.credentials import Credentials
from wherry.model.image import Image
from wherry.model.manifests import Descriptor
from wherry.model.platforms import Platform
from wherry.model.reference import Reference, parse_any


class Puller(Protocol):
    def pull(
        self, reference: Reference, *, platform: str = "", credentials: Credentials | None = None
    ) -> AsyncGenerator[dict[str, Any], None]: ...
    def repository(self, reference: Reference, credentials: Credentials | None = None, /) -> Repository: ...
    async def layers(
        self,
        source: Source,
        diff_ids: Sequence[str],
        blobs: Mapping[str, Descriptor],
        tell: Callable[[dict[str, Any]], None],
        /,
    ) -> list[KeptLayer]: ...


class BaseImages:
    """Of one build: the same question has the same answer all along, whatever others pull meanwhile."""

    def __init__(self, images: Images, puller: Puller, settings: Settings, progress: Progress) -> None:
        self._images = images
        self._puller = puller
        self._settings = settings
        self._progress = progress
        self._offered: dict[str, Callable[[Platform], Awaitable[Image]]] = {}
        self._pulling: dict[str, asyncio.Lock] = {}
        self._found: dict[tuple[str, Platform | None], asyncio.Task[Image]] = {}

    def offer(self, reference: str, take: Callable[[Platform], Awaitable[Image]]) -> None:
        """Let a reference mean what `take` brings from elsewhere, for a platform."""
        self._offered[reference] = take

    async def find(self, reference: str, platform: Platform | None, pull: str = "missing") -> Image:
        """Raises NotFound and what a registry says."""
        name = (reference, platform)
        if name not in self._found:
            self._found[name] = asyncio.create_task(self._find(reference, platform, pull))
        return await asyncio.shield(self._found[name])

    def known(self, reference: str, platform: Platform | None) -> Image | None:
        """One that has been found already."""
        task = self._found.get((reference, platform))
        return task.result() if task is not None and task.done() and task.exception() is None else None

    async def close(self) -> None:
        """Give up what is still being pulled."""
        for task in self._found.values():
            task.cancel()
        await asyncio.gather(*self._found.values(), return_exceptions=True)

    async def _find(self, reference: str, platform: Platform | None, pull: str) -> Image:
        if (take := self._offered.get(reference)) is not None:
            return await take(platform or self._images.host)
        if pull != "always" and not (self._settings.pull and _pullable(reference)):
            try:
                image = self._images.resolve(reference)
            except NotFound:
                if pull == "never" or not _pullable(reference):
                    raise
            else:
                other = image if platform is None or _fits(image, platform) else self._beside(reference, platform)
                if other is not None:
                    return other
        target = parse_any(reference)
        assert isinstance(target, Reference)
        asked = str(platform) if platform is not None else ""
        credentials = self._settings.credentials_for(target)
        wanted = target.with_default_tag()
        async with self._pulling.setdefault(wanted.canonical, asyncio.Lock()):
            before = self._images.records.names.get(wanted.canonical)
            meant = self._images.records.targets.get(wanted.canonical, "")
            async with aclosing(self._puller.pull(wanted, platform=asked, credentials=credentials)) as messages:
                async for message in messages:
                    self._progress.tell(Pulled(wanted.familiar, message))
            found = self._images.resolve(wanted.familiar)
            if not _fits(found, self._images.host):
                self._give_back(wanted, before, meant)
            return found

    def _beside(self, reference: str, platform: Platform) -> Image | None:
        """The image of another platform that an index has which the name means."""
        name = self._images.recorded(parse_any(reference)) if _pullable(reference) else None  # type: ignore[arg-type]
        index = self._images.records.targets.get(name.canonical, "") if name is not None else ""
        manifests = self._images.records.manifests.values()
        within = [self._images.records.images[each.image_id] for each in manifests if index and index in each.indexes]
        return next((image for image in within if _fits(image, platform)), None)

    def _give_back(self, name: Reference, before: str | None, meant: str) -> None:
        """What is pulled for another platform does not take a name from an image that runs here."""
        image = self._images.records.images.get(before or "")
        if image is not None and _fits(image, self._images.host):
            names = [name, replace(name, tag="", digest=meant)] if meant else [name]
            with self._images.records.transaction() as connection:
                for each in names:
                    self._images.records.name(connection, each, image.id, meant)


def _pullable(reference: str) -> bool:
    """An ID is nothing that a registry knows."""
    return isinstance(parse_any(reference), Reference)


def _fits(image: Image, platform: Platform) -> bool:
    return Platform(image.os, image.architecture, image.variant).normal() in platform.runs()
