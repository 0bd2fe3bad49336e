"""Pulling: what a registry has under a name becomes an image of this store.

The order of belief: a manifest is what the registry says a tag is; everything below it must have the digest and size
that the one above says. Blobs get their names, and layers their places, only when that holds; the image is recorded in
one transaction at the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from sqlite3 import Connection

import msgspec

from wherry.engine.images.admission import KeptLayer
from wherry.engine.images.leases import Lease
from wherry.engine.images.service import Images
from wherry.engine.transfers.attestations import Attestations
from wherry.engine.transfers.downloads import Downloads
from wherry.engine.transfers.lines import Message, follow, said
from wherry.engine.transfers.needs import Document, Registries, Repository, Source
from wherry.engine.transfers.taking import Store, Taking
from wherry.engine.transfers.unfinished import Unfinished
from wherry.engine.transfers.unpacking import Unpacking
from wherry.errors import InvalidParameter, NotFound
from wherry.model import platforms
from wherry.model.credentials import Credentials
from wherry.model.events import Event
from wherry.model.failpoints import failpoint
from wherry.model.image import Image
from wherry.model.manifests import INDEXES, NESTING_MAX, Descriptor, Index, Manifest, attesting, choose, parse
from wherry.model.platforms import Platform
from wherry.model.reference import Reference
from wherry.model.registry_options import ReadOptions
from wherry.storage.blobs import Blobs
from wherry.storage.image_records import KnownManifest
from wherry.storage.partials import Partials
from wherry.storage.snapshots import Snapshots

_LONG = 1 << 16  # bytes of JSON that are not parsed on the loop


@dataclass
class _Found:
    """Where a name leads: to a manifest of which everything is kept, or to one that is to be fetched."""

    digest: str  # what the registry has under the name
    known: KnownManifest | None = None
    manifest: Manifest = field(default_factory=Manifest)
    document: Document | None = None  # the manifest as it was served
    indexes: list[Document] = field(default_factory=list)
    attesting: dict[str, list[Descriptor]] = field(default_factory=dict)  # by index, what it says of the manifest
    attached: dict[str, tuple[str, ...]] = field(default_factory=dict)  # what has been brought of that

    def blobs(self) -> list[str]:
        """What is to be kept of it, by digest."""
        documents = [*self.indexes, *([self.document] if self.document is not None else [])]
        parts = [self.manifest.config, *self.manifest.layers]
        return [*(each.digest for each in documents), *(each.digest for each in parts)]


@dataclass
class _Outcome:
    changed: bool = False  # a name means another image than before


class Pulls:
    """See the module. One an engine."""

    def __init__(
        self,
        registries: Registries,
        images: Images,
        blobs: Blobs,
        partials: Partials,
        snapshots: Snapshots,
        emit: Callable[[Event], None],
        options: ReadOptions,
    ) -> None:
        self._registries = registries
        self.repository = registries.repository
        self._images = images
        self._records = images.records
        self._blobs = blobs
        self._emit = emit
        self._host = images.host
        self._unfinished = Unfinished(images.records, images.keeper, partials, lambda: self._downloads.busy())
        at_once = lambda: options().max_concurrent_downloads  # noqa: E731
        self._downloads = Downloads(blobs, partials, at_once, self._unfinished.fetched)
        self._attestations = Attestations(self._downloads)
        self._store = Store(images.records, blobs, snapshots, self._downloads, Unpacking(snapshots, at_once))

    async def recover(self) -> None:
        """At start, after the images: forget what is too old of earlier attempts."""
        await self._unfinished.tidy()

    async def pull(
        self, reference: Reference, *, platform: str = "", credentials: Credentials | None = None
    ) -> AsyncGenerator[Message, None]:
        """Pull what the reference names, all tags of the repository where it has neither tag nor digest.

        Yields Docker's progress messages; what fails before the first one is a refusal, later the pull was under way.
        Close it (`contextlib.aclosing`): what nobody else waits for is then given up.
        Raises NotFound, Unauthorized, InvalidParameter, Unavailable, SystemFailure.
        """
        wanted = platforms.parse(platform, self._host) if platform else self._host
        if reference.digest:
            _check_kept([reference.digest])
        repository = self._registries.repository(reference, credentials)
        if reference.tag or reference.digest:
            targets = [reference]
        else:
            targets = [replace(reference, tag=tag) for tag in await repository.tags()]
        outcome = _Outcome()
        try:
            for target in targets:
                async with aclosing(self._pull(repository, target, wanted, outcome)) as messages:
                    async for message in messages:
                        yield message
        finally:
            await self._unfinished.tidy()
        status = "Downloaded newer image for" if outcome.changed else "Image is up to date for"
        yield said(f"Status: {status} {reference.familiar}")
        if platform and targets:
            self._check_platform(targets[-1], wanted)

    def _check_platform(self, target: Reference, wanted: Platform) -> None:
        """A name may lead to one manifest alone, whatever was asked for; Docker pulls it and then says so."""
        image = self._images.resolve(target.familiar)
        actual = Platform(image.os, image.architecture, image.variant)
        if actual.normal() not in wanted.runs():
            raise NotFound(
                f"image with reference {target.familiar} was found but does not match the specified platform:"
                f" wanted {wanted}, actual: {actual}"
            )

    async def _pull(
        self, repository: Repository, target: Reference, platform: Platform, outcome: _Outcome
    ) -> AsyncGenerator[Message, None]:
        async with self._images.admission.lease() as lease:
            top = await self._look(repository, target, platform, lease)
            yield said(f"Pulling from {target.path}", target.familiar if target.digest else target.tag)
            if isinstance(top, _Found) and not (top.known and top.known.digest in self._records.manifests):
                top = await repository.manifest(target.digest or target.tag)  # it has been removed meanwhile
            found = top if isinstance(top, _Found) else await self._resolve(repository, top, platform)
            await lease.shield(blobs=found.blobs())
            await self._keep(found.indexes)
            if found.document is not None:  # by its manifest: the same image may have come with other blobs
                if found.document.digest in self._records.manifests:
                    found.attached = await self._attestations.bring(repository, found.attesting, lease)
                found.known = self._records.manifests.get(found.document.digest)
            if found.known is not None:  # nothing is awaited from here on: it is not removed before it has its names
                image = self._records.images[found.known.image_id]
                outcome.changed |= self._record_names(target, found, image)
            else:
                async with AsyncExitStack() as stack:
                    taking = Taking(self._store, repository, found.manifest, stack)
                    work = asyncio.create_task(taking.run(lease))
                    try:
                        async for message in follow(taking.lines, work):
                            yield message
                    finally:
                        work.cancel()
                        await asyncio.wait((work,))
                    document, layers = work.result()
                    found.attached = await self._attestations.bring(repository, found.attesting, lease)
                    await self._admit(target, found, document, layers)
                    outcome.changed = True
            failpoint("pulls.pull.recorded")
            yield said(f"Digest: {found.digest}")

    async def layers(
        self,
        source: Source,
        diff_ids: Sequence[str],
        blobs: Mapping[str, Descriptor],
        tell: Callable[[Message], None],
    ) -> list[KeptLayer]:
        """A chain of layers that is no image's, verified and in place; only blobs of what is not there are fetched.

        The caller holds what no record names yet. Raises NotFound for a layer that is neither here nor in `blobs`,
        and as `pull` does.
        """
        kept = await asyncio.to_thread(self._store.placed, diff_ids)
        absent = [diff_id for diff_id, layer in zip(diff_ids, kept, strict=True) if layer is None]
        if missing := [diff_id for diff_id in absent if diff_id not in blobs]:
            raise NotFound(f"layer {missing[0]} is not here")
        manifest = Manifest(layers=[blobs.get(diff_id, Descriptor()) for diff_id in diff_ids])
        async with AsyncExitStack() as stack:
            taking = Taking(self._store, source, manifest, stack)
            work = asyncio.create_task(taking.layers(diff_ids, kept))
            try:
                async for message in follow(taking.lines, work):
                    tell(message)
            finally:
                work.cancel()
                await asyncio.wait((work,))
            return work.result()

    # what a name leads to

    async def _look(
        self, repository: Repository, target: Reference, platform: Platform, lease: Lease
    ) -> _Found | Document:
        """Ask the registry; where the answer may be known already, for the digest alone."""
        ref = target.digest or target.tag
        if self._images.recorded(target) is not None:
            head = await repository.head(ref)
            if head is not None and (known := await self._known(head.digest, platform, lease)) is not None:
                return _Found(head.digest, known)
        return await repository.manifest(ref)

    async def _known(self, digest: str, platform: Platform, lease: Lease) -> KnownManifest | None:
        for _ in range(NESTING_MAX + 1):
            await lease.shield(blobs=[digest])
            known = self._records.manifests.get(digest)
            if known is not None:
                return known
            if not any(digest in manifest.indexes for manifest in self._records.manifests.values()):
                return None
            index = await _parse("", await asyncio.to_thread(self._blobs.read, digest))
            try:
                digest = choose(index, platform).digest if isinstance(index, Index) else ""
            except NotFound:
                return None  # told when the index has been fetched: the pull has begun then
        return None

    async def _resolve(self, repository: Repository, document: Document, platform: Platform) -> _Found:
        """Through indexes to the manifest for the platform. Raises InvalidParameter, NotFound (no such platform)."""
        found = _Found(document.digest)
        for _ in range(NESTING_MAX + 1):
            parsed = await _parse(document.media_type, document.data)
            if isinstance(parsed, Manifest):
                _check_kept(descriptor.digest for descriptor in (parsed.config, *parsed.layers))
                found.manifest, found.document = parsed, document
                return found
            found.indexes.append(document)
            chosen = choose(parsed, platform)
            found.attesting[document.digest] = attesting(parsed, chosen.digest)
            _check_kept([chosen.digest])
            document = await repository.manifest(chosen.digest)
            if len(document.data) != chosen.size:
                raise InvalidParameter(
                    f"invalid manifest: {chosen.digest} has {len(document.data)} bytes and is said to have"
                    f" {chosen.size}"
                )
            if chosen.media_type in INDEXES and document.media_type not in INDEXES:
                raise InvalidParameter(f"invalid manifest: {chosen.digest} is said to be an index and is none")
        raise InvalidParameter(f"invalid manifest: indexes nested more than {NESTING_MAX} deep")

    # recording

    def _record_names(self, target: Reference, found: _Found, image: Image) -> bool:
        """An image that is there: its names, and nothing else. True if the name meant something else before."""
        before = self._records.names.get(target.without_tag().canonical)
        with self._records.transaction() as connection:
            self._name(connection, target, found, image)
            if found.known is not None and found.digest != found.known.digest:
                indexes = (*(index.digest for index in found.indexes), found.digest)
                known = msgspec.structs.replace(found.known, indexes=indexes, attached=found.attached)
                self._records.put_manifest(connection, known)
                self._records.drop_fetched(connection, known.files())
            self._pulled(target, image)
        return before != image.id

    async def _admit(self, target: Reference, found: _Found, document: bytes, layers: list[KeptLayer]) -> None:
        manifest = found.document
        assert manifest is not None
        await self._keep((*found.indexes, manifest))
        known = KnownManifest(
            digest=manifest.digest,
            media_type=found.manifest.media_type,
            size=len(manifest.data),
            image_id=found.manifest.config.digest,
            layers=tuple(layer.digest for layer in found.manifest.layers),
            indexes=tuple(index.digest for index in found.indexes),
            attached=found.attached,
        )
        failpoint("pulls.pull.stored")

        def also(connection: Connection, image: Image) -> None:
            self._records.put_manifest(connection, known)
            self._records.drop_fetched(connection, {known.image_id, *known.files()})
            self._name(connection, target, found, image)
            self._pulled(target, image)

        await self._images.admission.admit(document, layers, also=also)

    async def _keep(self, documents: Iterable[Document]) -> None:
        for document in documents:
            await asyncio.to_thread(self._blobs.put, document.data)

    def _name(self, connection: Connection, target: Reference, found: _Found, image: Image) -> None:
        """The tag, if one was pulled, and the digest that the registry has for it."""
        names = [replace(target, tag="", digest=found.digest)]
        if not target.digest:
            names.append(target)
        for name in names:
            self._records.name(connection, name, image.id, found.digest)

    def _pulled(self, target: Reference, image: Image) -> None:
        attributes = {**(image.config.labels or {}), "name": target.familiar_name}
        self._emit(
            Event(time_ns=time.time_ns(), type="image", action="pull", id=target.familiar, attributes=attributes)
        )


def _check_kept(digests: Iterable[str]) -> None:
    """Raises InvalidParameter for digests that the store does not keep files under."""
    for digest in digests:
        if not digest.startswith("sha256:"):
            raise InvalidParameter(
                f"unsupported digest algorithm {digest.partition(':')[0]}: {digest}; images are kept under sha256 alone"
            )


async def _parse(media_type: str, data: bytes) -> Manifest | Index:
    if len(data) < _LONG:
        return parse(media_type, data)
    return await asyncio.to_thread(parse, media_type, data)
