"""One image on its way into the store: its configuration, and its layers downloaded and unpacked side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from wherry.engine.images.admission import KeptLayer
from wherry.engine.images.leases import Lease
from wherry.engine.transfers.downloads import Download, Downloads, is_kept
from wherry.engine.transfers.lines import Message, PullLine, step
from wherry.engine.transfers.needs import Source
from wherry.engine.transfers.shared import Running
from wherry.engine.transfers.unpacking import Layer, Unpacking
from wherry.errors import InvalidParameter
from wherry.model.image import Image, chain_ids, next_chain_id, parse_image
from wherry.model.manifests import Descriptor, Manifest
from wherry.model.reference import short_id
from wherry.storage.blobs import Blobs
from wherry.storage.image_records import ImageRecords, LayerBlob
from wherry.storage.snapshots import Snapshots
from wherry.storage.streams import compression_of


@dataclass(frozen=True)
class Store:
    """Where pulled images go."""

    records: ImageRecords
    blobs: Blobs
    snapshots: Snapshots
    downloads: Downloads
    unpacking: Unpacking

    def placed(self, diff_ids: Sequence[str]) -> list[KeptLayer | None]:
        """The layers of a chain that are there with the bytes they came from, None for the others. Blocking."""
        chains = self.snapshots.chains()
        return [
            KeptLayer(chain, diff_id, self.snapshots.layer(chain).size, blob)
            if chain in chains and (blob := self.records.blobs.get(diff_id)) is not None
            else None
            for diff_id, chain in zip(diff_ids, chain_ids(diff_ids), strict=True)
        ]


class Taking:
    """One image's configuration and layers on their way into the store."""

    def __init__(self, store: Store, repository: Source, manifest: Manifest, stack: AsyncExitStack) -> None:
        self._records = store.records
        self._blobs = store.blobs
        self._snapshots = store.snapshots
        self._downloads = store.downloads
        self._unpacking = store.unpacking
        self._repository = repository
        self._manifest = manifest
        self._stack = stack
        self.lines: list[PullLine | _Words] = []

    async def run(self, lease: Lease) -> tuple[bytes, list[KeptLayer]]:
        """The configuration and the layers, all verified and in their places. The lease shields the blobs."""
        document, image = await self._configuration()
        await lease.shield(chains=chain_ids(image.diff_ids), diff_ids=image.diff_ids)
        return document, await self.layers(image.diff_ids, await self._there(image))

    async def layers(self, diff_ids: Sequence[str], kept: list[KeptLayer | None]) -> list[KeptLayer]:
        """All layers in their places; those that are not `kept` are fetched."""
        downloads = []
        for descriptor, layer in zip(self._manifest.layers, kept, strict=True):
            id = short_id(descriptor.digest)
            if layer is not None:
                self.lines.append(_Words([step("Already exists", id)]))
            else:
                self.lines.append(_Words([step("Pulling fs layer", id)]))
        for descriptor, layer in zip(self._manifest.layers, kept, strict=True):
            if layer is None:
                running = await self._stack.enter_async_context(self._downloads.want(descriptor, self._repository))
                line = PullLine(short_id(descriptor.digest), running.job)
                self.lines.append(line)
                downloads.append((running, line))
        taken = await self._unpack(diff_ids, kept, downloads)
        try:
            async with asyncio.TaskGroup() as group:  # what fails first ends it all
                for running, _ in downloads:
                    group.create_task(running.done())
                for each in taken:
                    if isinstance(each, Running):
                        group.create_task(each.done())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [each if isinstance(each, KeptLayer) else each.job.result() for each in taken]

    async def _unpack(
        self, diff_ids: Sequence[str], kept: list[KeptLayer | None], downloads: list[tuple[Running[Download], PullLine]]
    ) -> list[KeptLayer | Running[Layer]]:
        """Set all layers going that are not there."""
        waiting = iter(downloads)
        layers: list[KeptLayer | Running[Layer]] = []
        parent = ""
        below: Running[Layer] | None = None
        for descriptor, diff_id, there in zip(self._manifest.layers, diff_ids, kept, strict=True):
            if there is not None:
                layers.append(there)
                below = None
            else:
                download, line = next(waiting)
                known = self._records.contents.get(descriptor.digest) == diff_id
                below = await self._stack.enter_async_context(
                    self._unpacking.want(download, descriptor.digest, below, parent, diff_id, known)
                )
                line.layer = below.job
                layers.append(below)
            parent = next_chain_id(parent, diff_id)
        return layers

    async def _configuration(self) -> tuple[bytes, Image]:
        config = self._manifest.config
        async with self._downloads.want(config, self._repository) as running:
            await running.done()
        document = await asyncio.to_thread(self._blobs.read, config.digest)
        image = await asyncio.to_thread(parse_image, document)
        if image.os != "linux":
            raise InvalidParameter(f'image operating system "{image.os}" cannot be used on this platform')
        if len(image.diff_ids) != len(self._manifest.layers):
            raise InvalidParameter(
                f"layers from manifest don't match image configuration: {len(self._manifest.layers)} layers and"
                f" {len(image.diff_ids)} diff IDs"
            )
        return document, image

    async def _there(self, image: Image) -> list[KeptLayer | None]:
        """The layers of which both the place and the blob are there, None for the others."""
        contents = self._records.contents
        pairs = zip(self._manifest.layers, image.diff_ids, strict=True)
        known = [contents.get(descriptor.digest) == diff_id for descriptor, diff_id in pairs]
        return await asyncio.to_thread(self._look_at, image.diff_ids, known)

    def _look_at(self, diff_ids: Iterable[str], known: list[bool]) -> list[KeptLayer | None]:
        chains = self._snapshots.chains()
        found: list[KeptLayer | None] = []
        parent = ""
        for descriptor, diff_id, is_known in zip(self._manifest.layers, diff_ids, known, strict=True):
            parent = next_chain_id(parent, diff_id)
            if is_known and parent in chains and is_kept(self._blobs, descriptor):
                blob = LayerBlob(descriptor.digest, self._compression(descriptor))
                found.append(KeptLayer(parent, diff_id, self._snapshots.layer(parent).size, blob))
            else:
                found.append(None)
        return found

    def _compression(self, descriptor: Descriptor) -> str:
        with self._blobs.open(descriptor.digest) as file:
            return compression_of(file.read(6))


class _Words:
    """A line that says what it has to say once."""

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages

    def changes(self) -> Iterator[Message]:
        messages, self._messages = self._messages, []
        return iter(messages)
