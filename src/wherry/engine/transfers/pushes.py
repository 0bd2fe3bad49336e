"""Pushing: an image of this store becomes what a registry has under a name.

Order of things there: blobs before the manifest that names them, manifests before the index that names them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import msgspec

from wherry.engine.images.leases import Lease
from wherry.engine.images.service import Images
from wherry.engine.transfers.lines import Line, Message, bar, follow, said, step
from wherry.engine.transfers.needs import Destination, Registries, Repository
from wherry.engine.transfers.packing import Compression, Packed, Packing
from wherry.engine.transfers.shared import Limit, Running, Shared
from wherry.errors import InvalidParameter, NotFound, Unauthorized
from wherry.model.credentials import Credentials
from wherry.model.events import Event
from wherry.model.failpoints import failpoint
from wherry.model.image import Image
from wherry.model.layer_formats import LayerFormat
from wherry.model.manifests import Descriptor, Index, Manifest, elsewhere, platform_of
from wherry.model.reference import Reference, short_id
from wherry.model.registry_options import ReadOptions
from wherry.registry.authorization import NOT_BASIC
from wherry.registry.errors import RegistryError
from wherry.storage.blobs import Blobs

T = TypeVar("T")
_CHUNK = 1 << 20
_SOURCES = 3  # repositories from which a blob is tried to be mounted


@dataclass(frozen=True)
class _Document:
    media_type: str
    digest: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class _Attached:
    """A manifest that attests something about another one, and its blobs."""

    document: _Document
    blobs: list[Descriptor]


@dataclass(frozen=True)
class _Parcel:
    """All that a name stands for: `top` goes under the tag, after everything else."""

    top: _Document
    manifests: list[Packed]
    note: str = ""  # what is not sent
    attached: list[_Attached] = field(default_factory=list)
    indexes: list[_Document] = field(default_factory=list)  # in the top, each after those that it names

    def below(self) -> list[_Document]:
        """The documents that the top names."""
        manifests = [_Document(packed.media_type, packed.digest, packed.data) for packed in self.manifests]
        found = [*manifests, *(attached.document for attached in self.attached), *self.indexes]
        return [document for document in found if document.digest != self.top.digest]


class Pushes:
    """See the module. One an engine."""

    def __init__(
        self,
        registries: Registries,
        images: Images,
        blobs: Blobs,
        emit: Callable[[Event], None],
        options: ReadOptions,
    ) -> None:
        self._registries = registries
        self._images = images
        self._records = images.records
        self._blobs = blobs
        self._emit = emit
        self.packing = Packing(images.records, blobs)
        self._limit = Limit(lambda: options().max_concurrent_uploads)
        self._uploads: Shared[Upload] = Shared()

    async def push(
        self, reference: Reference, *, credentials: Credentials | None = None, by_digest: bool = False
    ) -> AsyncGenerator[Message, None]:
        """Push what the reference names, all tags of the repository where it has no tag. `by_digest`: under no tag
        there.

        Yields Docker's progress messages; what fails before the first one is a refusal (the registry cannot be
        reached), later the push was under way. Close it (`contextlib.aclosing`) to give up.
        Raises NotFound, InvalidParameter, SystemFailure.
        """
        repository = self._registries.repository(reference, credentials)
        begin = said(f"The push refers to repository [{reference.name}]")
        there = self._images.names_in_repository(replace(reference, tag="", digest=""))
        names = [(name, image) for name, image in there if reference.tag in ("", name.tag)]
        if not names or reference.digest:
            yield begin
            if not there:
                raise NotFound(f"An image does not exist locally with the tag: {reference.familiar_name}")
            if reference.digest:
                raise InvalidParameter("cannot push a digest reference")
            raise NotFound(f"tag does not exist: {reference.familiar}")
        failure = await _reach(repository, names[0][1])
        yield begin
        if failure is not None:
            raise failure
        for name, image_id in names:
            async with aclosing(self._push(repository, name, image_id, by_digest=by_digest)) as messages:
                async for message in messages:
                    yield message

    async def _push(
        self, repository: Repository, name: Reference, image_id: str, *, by_digest: bool
    ) -> AsyncGenerator[Message, None]:
        async with self._images.keeper.lease() as lease:
            image = await self._shielded(name, image_id, lease)
            parcel = await self._known(name, image, lease)
            if parcel is None:
                packed: list[Packed] = []
                async with self._images.keeper.holding():  # what compressed layers are called is known when they are
                    async with aclosing(self._pack(image, packed)) as messages:
                        async for message in messages:
                            yield message
                    await self._shielded(name, image_id, lease)
                top = packed[0]
                parcel = _Parcel(_Document(top.media_type, top.digest, top.data), packed)
            if parcel.note:
                yield said(parcel.note)
            async with aclosing(self._send(repository, name, parcel)) as messages:
                async for message in messages:
                    yield message
            under = parcel.top.digest if by_digest else name.tag
            digest = await repository.put_manifest(under, parcel.top.media_type, parcel.top.data)
            failpoint("pushes.push.sent")
            self._record(name, image, parcel, digest)
            yield said(f"{name.tag}: digest: {digest} size: {len(parcel.top.data)}")
            yield {
                "progressDetail": {},
                "aux": {"Tag": name.tag, "Digest": digest, "Size": len(parcel.top.data)},
            }

    async def _shielded(self, name: Reference, image_id: str, lease: Lease) -> Image:
        """The image that the name means, kept with all its parts as long as the lease. Raises NotFound."""
        if image_id in self._records.images:
            await lease.add(self._images.keeper.belongings(image_id))
        image = self._records.images.get(image_id)
        if image is None or self._records.names.get(name.canonical) != image_id:
            raise NotFound(f"tag does not exist: {name.familiar}")
        return image

    def _record(self, name: Reference, image: Image, parcel: _Parcel, digest: str) -> None:
        """The digest is a name now, too; and the tag is known to mean what was sent."""
        if image.id not in self._records.images:
            return  # removed meanwhile
        with self._records.transaction() as connection:
            self._records.name(connection, replace(name, tag="", digest=digest), image.id, parcel.top.digest)
            if self._records.names.get(name.canonical) == image.id and not parcel.note:
                self._records.name(connection, name, image.id, parcel.top.digest)
            attributes = {**(image.config.labels or {}), "name": name.familiar_name}
            self._emit(
                Event(time_ns=time.time_ns(), type="image", action="push", id=name.familiar, attributes=attributes)
            )

    # what to send

    async def _known(self, name: Reference, image: Image, lease: Lease) -> _Parcel | None:
        """As it was pulled or pushed before: what the name is known to mean, else a manifest that the image has."""
        target = self._records.targets.get(name.canonical, "")
        manifests = self._records.manifests_of(image.id)
        if not manifests:
            return None
        own = next((known for known in manifests if known.digest == target), None)
        if own is None and any(target in known.indexes for known in manifests):
            return await self._index(target, image, lease)
        packed = await self.packing.known(own or manifests[-1])
        return _Parcel(_Document(packed.media_type, packed.digest, packed.data), [packed])

    async def _index(self, digest: str, image: Image, lease: Lease) -> _Parcel:
        """An index if all of it is here, else the one manifest of it that the image has."""
        whole = _Parcel(_Document("", digest, b""), [])
        if await self._gather(digest, whole, lease):
            return replace(whole, top=whole.indexes.pop())
        _, index = await asyncio.to_thread(self._decoded, digest, Index)
        own = next(
            manifest for manifest in reversed(self._records.manifests_of(image.id)) if digest in manifest.indexes
        )
        descriptor = next((found for found in index.manifests or [] if found.digest == own.digest), Descriptor())
        only = await self.packing.known(own)
        return _Parcel(
            _Document(only.media_type, only.digest, only.data),
            [only],
            f"Not all of the index {digest} is here: only its image for {platform_of(descriptor) or 'this platform'}"
            " is pushed",
        )

    async def _gather(self, digest: str, parcel: _Parcel, lease: Lease) -> bool:
        """Put an index, and all that it names, into the parcel, itself last; False if not all of it is here."""
        data, index = await asyncio.to_thread(self._decoded, digest, Index)
        records = self._records
        for descriptor in index.manifests or []:
            if (known := records.manifests.get(descriptor.digest)) is not None:
                await lease.add(self._images.keeper.belongings(known.image_id))
                if known.digest not in records.manifests:  # removed just now
                    return False
                parcel.manifests.append(await self.packing.known(known))
            elif any(descriptor.digest in known.attached.get(digest, ()) for known in records.manifests.values()):
                parcel.attached.append(await self._attached(descriptor))
            elif not any(descriptor.digest in known.indexes for known in records.manifests.values()):
                return False
            elif not await self._gather(descriptor.digest, parcel, lease):
                return False
        parcel.indexes.append(_Document(index.media_type, digest, data))
        return True

    def _decoded(self, digest: str, kind: type[T]) -> tuple[bytes, T]:
        """A document of the store, byte for byte and as what it is. Blocking."""
        data = self._blobs.read(digest)
        return data, msgspec.json.decode(data, type=kind)

    async def _attached(self, descriptor: Descriptor) -> _Attached:
        data, manifest = await asyncio.to_thread(self._decoded, descriptor.digest, Manifest)
        document = _Document(descriptor.media_type, descriptor.digest, data)
        return _Attached(document, [manifest.config, *manifest.layers])

    async def _pack(self, image: Image, packed: list[Packed]) -> AsyncGenerator[Message, None]:
        """Compress what is not compressed, with progress; the result goes into `packed`."""
        async with AsyncExitStack() as stack:
            running = [await stack.enter_async_context(self.packing.compress(diff_id)) for diff_id in image.diff_ids]
            lines = [_PackLine(each.job) for each in reversed(running)]

            async def work() -> None:
                done = [await each.done() for each in running]
                packed.append(await self.packing.pack(image, done))

            async for message in _until(work(), lines):
                yield message

    # sending

    async def _send(self, repository: Repository, name: Reference, parcel: _Parcel) -> AsyncGenerator[Message, None]:
        """Blobs, then the manifests that an index names."""
        wanted: dict[str, tuple[Descriptor, str]] = {}
        for packed in parcel.manifests:
            pairs = zip(packed.manifest.layers, packed.image.diff_ids, strict=True)
            for layer, diff_id in reversed(list(pairs)):
                wanted.setdefault(layer.digest, (layer, diff_id))
        async with AsyncExitStack() as stack:
            running = []
            lines: list[Line] = []
            takes_restricted = (
                any(elsewhere(layer) for layer, _ in wanted.values()) and await repository.takes_restricted()
            )
            for descriptor, diff_id in wanted.values():
                if elsewhere(descriptor) and not takes_restricted:
                    yield step("Skipped foreign layer", short_id(diff_id))
                    continue
                each = await stack.enter_async_context(self._want(repository, name, descriptor))
                lines.append(_PushLine(short_id(diff_id), each.job))
                running.append(each)
            others = {packed.image.id: packed.manifest.config for packed in parcel.manifests}
            others |= {blob.digest: blob for attached in parcel.attached for blob in attached.blobs}
            running += [
                await stack.enter_async_context(self._want(repository, name, descriptor))
                for descriptor in others.values()
            ]

            async def work() -> None:
                async with asyncio.TaskGroup() as group:
                    for each in running:
                        group.create_task(each.done())
                for document in parcel.below():
                    await repository.put_manifest(document.digest, document.media_type, document.data)

            async for message in _until(work(), lines):
                yield message

    async def layers(
        self,
        destination: Destination,
        place: str,
        diff_ids: Sequence[str],
        tell: Callable[[Message], None],
        *,
        compression: str = "gzip",
        docker: bool = False,
    ) -> list[Descriptor]:
        """Send layers that are no image's, compressed; what is there already is not sent. Tells where they are.

        `place` names the destination. Raises SystemFailure and what the destination raises.
        """
        async with self._images.keeper.holding(), AsyncExitStack() as stack:
            form = LayerFormat(compression)
            packing = [await stack.enter_async_context(self.packing.compress(each, form)) for each in diff_ids]
            found = await self.packing.describe([await each.done() for each in packing], docker=docker)
            failpoint("pushes.layers.packed")
            uploads = [
                await stack.enter_async_context(
                    self._uploads.join(
                        f"{place} {descriptor.digest}",
                        partial(Upload, destination, descriptor, [], self._blobs, self._limit),
                    )
                )
                for descriptor in found
            ]
            lines = [_PushLine(short_id(diff_id), each.job) for diff_id, each in zip(diff_ids, uploads, strict=True)]

            async def work() -> None:
                async with asyncio.TaskGroup() as group:
                    for each in uploads:
                        group.create_task(each.done())

            async for message in _until(work(), lines):
                tell(message)
            return found

    def _want(
        self, repository: Repository, name: Reference, descriptor: Descriptor
    ) -> AbstractAsyncContextManager[Running[Upload]]:
        sources = self._sources(name, descriptor.digest)
        return self._uploads.join(
            f"{name.name} {descriptor.digest}",
            lambda: Upload(repository, descriptor, sources, self._blobs, self._limit),
        )

    def _sources(self, name: Reference, digest: str) -> list[str]:
        """Other repositories of the same registry that are known to have the blob, from which it can be mounted."""
        found: dict[str, None] = {}
        for manifest in self._records.manifests.values():
            if digest in manifest.layers:
                for other in self._records.references(manifest.image_id):
                    if other.digest and other.domain == name.domain and other.path != name.path:
                        found[other.path] = None
        return list(found)[:_SOURCES]


class Upload:
    """One blob to one repository. The rest is for who draws it."""

    def __init__(
        self, repository: Destination, descriptor: Descriptor, sources: list[str], blobs: Blobs, limit: Limit
    ) -> None:
        self._repository = repository
        self._descriptor = descriptor
        self._sources = sources
        self._blobs = blobs
        self._limit = limit
        self.begun = False
        self.current = 0
        self.total = descriptor.size
        self.outcome = ""  # how it came to be there, in Docker's words

    async def run(self) -> None:
        """Raises what the registry client raises."""
        async with self._limit:
            self.begun = True
            self.outcome = await self._bring()

    async def _bring(self) -> str:
        digest = self._descriptor.digest
        if await self._repository.has_blob(digest):
            return "Layer already exists"
        for source in self._sources:
            if await self._repository.mount(digest, source):
                return f"Mounted from {source}"
        await self._repository.upload(self._descriptor, self._read, self._sent)
        return "Pushed"

    def _sent(self, current: int) -> None:
        self.current = current

    async def _read(self, offset: int) -> AsyncIterator[bytes]:
        file = await asyncio.to_thread(self._blobs.open, self._descriptor.digest)
        try:
            file.seek(offset)
            while piece := await asyncio.to_thread(file.read, _CHUNK):
                yield piece
        finally:
            file.close()


class _PackLine:
    """A layer that is being compressed."""

    def __init__(self, layer: Compression) -> None:
        self._layer = layer
        self._told = -1

    def changes(self) -> Iterator[Message]:
        layer = self._layer
        if self._told < layer.current and layer.total:
            self._told = layer.current
            yield bar("Compressing", short_id(layer.diff_id), layer.current, layer.total)


class _PushLine:
    """A layer on its way out."""

    def __init__(self, id: str, upload: Upload) -> None:
        self._id = id
        self._upload = upload
        self._said = ""
        self._current = 0

    def changes(self) -> Iterator[Message]:
        upload = self._upload
        if not self._said:
            self._said = "Preparing"
            yield step("Preparing", self._id)
        elif self._said == "Preparing" and not upload.begun:
            self._said = "Waiting"
            yield step("Waiting", self._id)
        if upload.current and upload.current != self._current and self._said != upload.outcome:
            self._current = upload.current
            yield bar("Pushing", self._id, upload.current, upload.total)
        if upload.outcome and self._said != upload.outcome:
            self._said = upload.outcome
            yield step(upload.outcome, self._id)


async def _until(work: Coroutine[Any, Any, None], lines: Sequence[Line]) -> AsyncGenerator[Message, None]:
    """Progress until the work has ended; raises what it failed with."""
    task = asyncio.create_task(work)
    try:
        async for message in follow(lines, task):
            yield message
    finally:
        task.cancel()
        await asyncio.wait((task,))
    try:
        task.result()
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _reach(repository: Repository, digest: str) -> Exception | None:
    """Ask the registry something. Raises where it cannot be reached; returns an answer that is a refusal."""
    try:
        await repository.has_blob(digest)
    except RegistryError as error:
        if not error.status and error.detail != NOT_BASIC:
            raise
        return Unauthorized(NOT_BASIC) if error.detail == NOT_BASIC else error
    return None
