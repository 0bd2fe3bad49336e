"""The images service: load, save, import, names, removal, lists. What they are made of is in `wherry.storage`.

Order of things, so that a crash at any instant is harmless: files come before the records that name them, and go after
them. What no record names is swept at the next start, or by the next removal.
"""

from __future__ import annotations

import asyncio
import logging
import platform as machine
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from wherry.engine.image_removal import InUse, Removal, Removed
from wherry.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from wherry.model import image_filters, platforms
from wherry.model.changes import apply_changes
from wherry.model.commits import Commit, commit_document
from wherry.model.config import Config
from wherry.model.events import Event
from wherry.model.failpoints import failpoint
from wherry.model.filters import Filters
from wherry.model.image import Image, chain_ids, config_json, parse_image, rfc3339_ns
from wherry.model.image_filters import Listed
from wherry.model.mount_plans import OverlayPlan
from wherry.model.progress import progress_bar
from wherry.model.reference import Reference, parse_any, parse_target, short_id
from wherry.model.timestamps import rfc3339_nano
from wherry.storage.archives import END, ArchivedImage, Member, Received, SavedImage, SavedLayer, plan_archive
from wherry.storage.blobs import Blobs, Ingest
from wherry.storage.database import Database
from wherry.storage.image_records import ImageRecords, LayerBlob
from wherry.storage.snapshots import Counted, Layer, Snapshots
from wherry.storage.streams import Decompressed, Peekable, Pieces, compression_of, consume, in_thread
from wherry.storage.tar import BadArchive, Source

log = logging.getLogger(__name__)

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Pruned:
    removed: list[Removed]
    reclaimed: int  # bytes


@dataclass(frozen=True)
class HistoryEntry:
    """One step of an image's making, newest first. `id` is "<missing>" where no image is known for it."""

    id: str
    created: int  # seconds since the epoch
    created_by: str
    tags: list[str] | None
    size: int
    comment: str


_GO_ZERO_UNIX = -62135596800


@dataclass
class _Loaded:
    image: Image
    document: bytes
    names: list[Reference]
    blobs: dict[str, LayerBlob] = field(default_factory=dict)  # by diff ID


class Images:
    """See the module. Methods that are not `async` only look at memory.

    `in_use` answers for an image ID which containers were made from it; `emit` records an event.
    """

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        snapshots: Snapshots,
        emit: Callable[[Event], None],
        in_use: Callable[[str], Sequence[InUse]],
    ) -> None:
        self._blobs = blobs
        self._snapshots = snapshots
        self._emit = emit
        self._in_use = in_use
        self._records = ImageRecords(database)
        self._host = platforms.from_machine(machine.machine())
        self._gate = asyncio.Lock()  # while files are collected nobody begins to use some
        self._holders = 0
        self._uncollected = False

    async def recover(self, snapshot_keys: Collection[str] | None = None) -> None:
        """At start, before anything else: forget images whose files are gone, sweep files that nobody names.

        `snapshot_keys` are the containers that exist; without it the containers' snapshots are left alone.
        """
        broken = await asyncio.to_thread(self._broken)
        with self._records.transaction() as connection:
            for image_id in broken:
                log.warning("image %s has lost its files and is forgotten; load it again", image_id)
                self._records.drop(connection, image_id)
            self._records.drop_blobs(connection, self._records.blobs.keys() - self._records.needed_diff_ids())
        chains, blobs = self._records.needed_chains(), self._records.needed_blobs()
        await asyncio.to_thread(self._snapshots.sweep, keys=snapshot_keys, chains=chains)
        await asyncio.to_thread(self._blobs.sweep, blobs)
        self._purge()

    def _broken(self) -> list[str]:
        chains, blobs = self._snapshots.chains(), self._blobs.digests()
        return [
            image.id
            for image in self._records.images.values()
            if image.id not in blobs or not chains.issuperset(chain_ids(image.diff_ids))
        ]

    # looking

    def resolve(self, ref: str) -> Image:
        """By name, digest, ID or a prefix of the ID that only one has; a name wins.

        Raises NotFound ("No such image: x:latest"), InvalidParameter (malformed).
        """
        reference = parse_any(ref)
        if isinstance(reference, str):
            image = self._records.images.get(reference)
            if image is None:
                raise NotFound(f"No such image: {reference}")
            return image
        named = self._records.names.get(reference.with_default_tag().without_tag().canonical)
        if named is not None:
            return self._records.images[named]
        found = self._by_prefix(ref)
        if len(found) == 1:
            return found[0]
        message = f"No such image: {reference.with_default_tag().familiar}"
        if found:
            message += f" (and as the beginning of an ID, {ref} is ambiguous: {len(found)} images)"
        raise NotFound(message)

    def all(self) -> list[Image]:
        """Every image, in no order."""
        return list(self._records.images.values())

    def size(self, image_id: str) -> int:
        """Bytes of the unpacked layers; 0 for an image that is gone."""
        image = self._records.images.get(image_id)
        return image.size if image is not None else 0

    def select(self, filters: Filters, *, all: bool = False) -> list[Listed]:
        """Newest first; without `all` no intermediate images. Raises InvalidParameter, NotFound, SystemFailure."""
        return image_filters.select(
            self._records.images.values(),
            filters,
            all=all,
            resolve=self.resolve,
            references=self._records.references,
            parents={image.parent for image in self._records.images.values()},
        )

    def shared_size(self, image: Image) -> int:
        """Bytes in layers that other images have too."""
        others = {
            chain_id
            for other in self._records.images.values()
            if other.id != image.id
            for chain_id in chain_ids(other.diff_ids)
        }
        pairs = zip(chain_ids(image.diff_ids), image.layer_sizes, strict=True)
        return sum(size for chain_id, size in pairs if chain_id in others)

    def occupied(self) -> int:
        """Bytes on disk of all layers and of the blobs they came from. Blocking."""
        return self._snapshots.layers_occupied() + self._blobs.occupied()

    def occupied_by(self, image: Image) -> tuple[int, int]:
        """Bytes on disk of an image, and of those the bytes in layers that other images have too. Blocking."""
        others = {
            chain_id
            for other in list(self._records.images.values())
            if other.id != image.id
            for chain_id in chain_ids(other.diff_ids)
        }
        whole, shared = self._blobs.occupied(image.id), 0
        for chain_id, diff_id in zip(chain_ids(image.diff_ids), image.diff_ids, strict=True):
            size = self._layer_occupied(chain_id, diff_id)
            whole += size
            shared += size if chain_id in others else 0
        return whole, shared

    def _layer_occupied(self, chain_id: str, diff_id: str) -> int:
        blob = self._records.blobs.get(diff_id)
        return self._snapshots.layer_occupied(chain_id) + (self._blobs.occupied(blob.digest) if blob else 0)

    def history(self, ref: str) -> list[HistoryEntry]:
        """How the image was made, newest step first. Raises NotFound, InvalidParameter."""
        image = self.resolve(ref)
        sizes = iter(image.layer_sizes)
        steps = []
        for step in image.history:
            size = 0 if step.empty_layer else next(sizes, 0)
            steps.append((step, size))
        entries = []
        known: Image | None = image
        for step, size in reversed(steps):
            created = parse_created(step.created)
            entries.append(
                HistoryEntry(
                    id=known.id if known else "<missing>",
                    created=created,
                    created_by=step.created_by,
                    tags=(known.repo_tags or None) if known else None,
                    size=size,
                    comment=step.comment,
                )
            )
            known = self._records.images.get(known.parent) if known and known.parent else None
        return entries

    def view_plan(self, image: Image) -> OverlayPlan:
        """How to mount the image's content read-only."""
        return self._snapshots.view_plan(image.chain_id)

    def names_in_repository(self, reference: Reference) -> list[tuple[Reference, str]]:
        """All tags of a repository with the image ID of each."""
        return sorted(
            (
                (name, image_id)
                for image_id in self._records.images
                for name in self._records.references(image_id)
                if name.name == reference.name and name.tag
            ),
            key=lambda pair: pair[0].tag,
        )

    def _by_prefix(self, text: str) -> list[Image]:
        prefix = text.removeprefix("sha256:")
        if not prefix or not set(prefix) <= set("0123456789abcdef"):
            return []
        return [image for image in self._records.images.values() if image.id.startswith(prefix, 7)]

    # names

    async def tag(self, ref: str, repository: str, tag: str) -> None:
        """Give an image another name, taking it from whoever has it. Raises NotFound, InvalidParameter."""
        image = self.resolve(ref)
        target = parse_target(repository, tag)
        with self._records.transaction() as connection:
            self._records.name(connection, target, image.id)
            self._tagged(image)
            self._records.put(connection, image)
            self._event("tag", image, target.familiar)
            failpoint("images.tag.recorded")

    def _tagged(self, image: Image) -> None:
        image.last_tag_ns = time.time_ns()

    # load

    async def load(self, stream: AsyncIterable[bytes], *, quiet: bool = True) -> AsyncIterator[dict[str, Any]]:
        """Take in an archive; yields Docker's progress messages. Raises InvalidParameter, SystemFailure.

        Images of the archive that were complete before an error stay.
        """
        async with self._holding():
            with Received() as received:
                await consume(stream, lambda source: received.receive(source, self._blobs))
                failpoint("images.load.received")
                found = await asyncio.to_thread(received.images, self._host)
                for archived in found:
                    loaded: _Loaded | None = None
                    async for message in self._load_image(archived):
                        if isinstance(message, _Loaded):
                            loaded = message
                        elif not quiet:
                            yield message
                    assert loaded is not None
                    for line in self._record_loaded(loaded, archived.parent):
                        yield {"stream": line}

    async def _load_image(self, archived: ArchivedImage) -> AsyncIterator[dict[str, Any] | _Loaded]:
        """Layers into place, one after another, with progress; at the end the image, not recorded yet."""
        image = parse_image(archived.document)
        if image.os != "linux":
            raise InvalidParameter("operating system is not supported")
        if len(image.diff_ids) != len(archived.layers):
            raise InvalidParameter(
                f"invalid manifest, layers length mismatch: expected {len(image.diff_ids)}, got {len(archived.layers)}"
            )
        loaded = _Loaded(image, archived.document, archived.names)
        parent = ""
        for diff_id, chain_id, ingest in zip(image.diff_ids, chain_ids(image.diff_ids), archived.layers, strict=True):
            progress = _Progress(short_id(diff_id), ingest.size)
            work = asyncio.create_task(asyncio.to_thread(self._take_layer, ingest, parent, chain_id, diff_id, progress))
            try:
                while not work.done():
                    await asyncio.wait((work,), timeout=0.1)
                    if (message := progress.message()) is not None:
                        yield message
            finally:
                await _settled(work)
            blob = work.result()
            if blob is not None:
                loaded.blobs[diff_id] = blob
            layer = self._snapshots.layer(chain_id)
            image.layer_sizes.append(layer.size)
            image.size += layer.size
            parent = chain_id
        await asyncio.to_thread(self._blobs.put, archived.document)
        failpoint("images.load.stored")
        yield loaded

    def _take_layer(
        self, ingest: Ingest, parent: str, chain_id: str, diff_id: str, progress: _Progress
    ) -> LayerBlob | None:
        """Unpack one layer unless it is there, and keep its blob unless one is kept. Blocking.

        Returns the blob to record, None where one is recorded. Raises InvalidParameter if it is not the named content.
        """
        verified = ingest.digest == diff_id
        there = chain_id in self._snapshots.chains()
        kept = self._records.blobs.get(diff_id)
        if there and kept is not None:
            return None
        path = ingest.path if not ingest.committed else self._blobs.path(ingest.digest)
        with open(path, "rb", buffering=0) as file:
            source = Decompressed(progress.watch(file))
            if not there:
                self._snapshots.unpack(source, parent, diff_id, verified=verified)
            elif not verified:
                _verify(source, diff_id)
        if kept is not None:
            return None
        failpoint("images.load.layer-unpacked")
        if not ingest.committed:
            ingest.commit()
        return LayerBlob(ingest.digest, source.compression)

    def _record_loaded(self, loaded: _Loaded, parent: str) -> list[str]:
        image, lines = loaded.image, []
        with self._records.transaction() as connection:
            known = self._records.images.get(image.id)
            if known is None:
                image.parent = parent if parent in self._records.images else ""
                self._records.put(connection, image)
            else:
                image = known
            for diff_id, blob in loaded.blobs.items():
                self._records.put_blob(connection, diff_id, blob)
            for name in loaded.names:
                previous = self._records.names.get(name.canonical)
                if previous is not None and previous != image.id:
                    lines.append(
                        f"The image {name.familiar} already exists, renaming the old one with ID {previous}"
                        " to empty string\n"
                    )
                self._records.name(connection, name, image.id)
                lines.append(f"Loaded image: {name.familiar}\n")
            if loaded.names:
                self._tagged(image)
                self._records.put(connection, image)
            else:
                lines.append(f"Loaded image ID: {image.id}\n")
            self._event("load", image, image.id)
            failpoint("images.load.recorded")
        return lines

    # import

    async def import_(
        self,
        stream: AsyncIterable[bytes],
        *,
        repository: str = "",
        tag: str = "",
        changes: Iterable[str] = (),
        message: str = "Imported from -",
        platform: str = "",
    ) -> Image:
        """Make an image of one layer from a root file system's tar. Raises InvalidParameter, SystemFailure."""
        target = parse_target(repository, tag) if repository else None
        wanted = platforms.parse(platform, self._host) if platform else self._host
        if wanted.os != "linux":
            raise InvalidParameter("operating system is not supported")
        config = apply_changes(Config(), changes)
        async with self._holding():
            try:
                layer, blob = await consume(stream, self._import_layer)
            except BadArchive as error:
                raise SystemFailure(str(error)) from error  # as the real engine, which answers 500 to a broken tar
            failpoint("images.import.unpacked")
            document = _import_document(config, wanted, layer.diff_id, message)
            await asyncio.to_thread(self._blobs.put, document)
            image = parse_image(document)
            image.layer_sizes = [layer.size]
            image.size = layer.size
            with self._records.transaction() as connection:
                self._records.put(connection, image)
                if layer.diff_id not in self._records.blobs:
                    self._records.put_blob(connection, layer.diff_id, blob)
                if target is not None:
                    self._records.name(connection, target, image.id)
                    self._tagged(image)
                    self._records.put(connection, image)
                    self._event("tag", image, target.familiar)
                self._event("import", image, image.id)
                failpoint("images.import.recorded")
        return image

    def _import_layer(self, source: Source) -> tuple[Layer, LayerBlob]:
        """Unpack and keep in one pass; only what arrives compressed is hashed a second time. Blocking."""
        head = Peekable(source)
        with self._blobs.ingest(hashed=bool(compression_of(head.peek(6)))) as ingest:
            kept = _Tee(head, ingest)
            plain = Decompressed(kept)
            layer = self._snapshots.layer(self._snapshots.unpack(plain, ""))
            while kept.read(_CHUNK):  # what follows the compressed stream
                pass
            digest = ingest.commit("" if plain.compression else layer.diff_id)
        return layer, LayerBlob(digest, plain.compression)

    # commit

    async def commit(
        self, base: Image, diff: Generator[bytes, None, None], target: Reference | None, step: Commit
    ) -> Image:
        """Make an image of `base` with one more layer, the OCI layer `diff`; without one if nothing is in it.

        Raises InvalidParameter, SystemFailure.
        """
        async with self._holding():
            added = await in_thread(lambda: self._commit_layer(diff, base.chain_id))
            failpoint("images.commit.unpacked")
            document = commit_document(base, step, added[0].diff_id if added else "")
            await asyncio.to_thread(self._blobs.put, document)
            image = parse_image(document)
            image.parent = base.id
            image.layer_sizes = [*base.layer_sizes, *([added[0].size] if added else [])]
            image.size = sum(image.layer_sizes)
            with self._records.transaction() as connection:
                self._records.put(connection, image)
                if added and added[0].diff_id not in self._records.blobs:
                    self._records.put_blob(connection, added[0].diff_id, added[1])
                if target is not None:
                    self._records.name(connection, target, image.id)
                    self._tagged(image)
                    self._records.put(connection, image)
                    self._event("tag", image, target.familiar)
                failpoint("images.commit.recorded")
        return image

    def _commit_layer(self, diff: Generator[bytes, None, None], parent: str) -> tuple[Layer, LayerBlob] | None:
        """Unpack and keep in one pass. Blocking."""
        try:
            source = Peekable(Pieces(diff))
            if source.peek(len(END) + 1) == END:
                return None
            with self._blobs.ingest(hashed=False) as ingest:
                layer = self._snapshots.layer(self._snapshots.unpack(_Tee(source, ingest), parent))
                ingest.commit(layer.diff_id)
            return layer, LayerBlob(layer.diff_id, "")
        finally:
            diff.close()

    # save

    async def save(self, refs: Sequence[str]) -> AsyncIterator[bytes]:
        """An archive of the named images, as Docker writes it. Everything is found before the first byte is given.

        A repository without a tag means all of its tags. Raises NotFound, InvalidParameter.
        """
        wanted = self._save_names(refs)
        blobs = dict(self._records.blobs)
        members = await asyncio.to_thread(self._plan_save, wanted)
        for image_id in wanted:
            self._event("save", self._records.images[image_id], image_id)
        return self._archive(members, blobs)

    def _save_names(self, refs: Sequence[str]) -> dict[str, list[Reference]]:
        wanted: dict[str, list[Reference]] = {}
        for ref in refs:
            reference = parse_any(ref)
            if isinstance(reference, str):
                wanted.setdefault(self.resolve(ref).id, [])
            elif reference.tag or reference.digest:
                image_id = self._records.names.get(reference.without_tag().canonical)
                if image_id is None:
                    if len(found := self._by_prefix(ref)) != 1:  # sha256:abcd looks like a tag
                        raise NotFound("reference does not exist")
                    wanted.setdefault(found[0].id, [])
                else:
                    names = wanted.setdefault(image_id, [])
                    if reference.tag and reference not in names:
                        names.append(reference)
            elif pairs := self.names_in_repository(reference):
                for name, image_id in pairs:
                    names = wanted.setdefault(image_id, [])
                    if name not in names:
                        names.append(name)
            elif len(found := self._by_prefix(ref)) == 1:
                wanted.setdefault(found[0].id, [])
            else:
                raise NotFound(f"No such image: {ref}")
        return wanted

    def _plan_save(self, wanted: dict[str, list[Reference]]) -> list[Member]:
        saved = []
        for image_id, names in wanted.items():
            image = self._records.images[image_id]
            layers = [
                SavedLayer(diff_id, self._snapshots.layer(chain_id).tar_size)
                for diff_id, chain_id in zip(image.diff_ids, chain_ids(image.diff_ids), strict=True)
            ]
            saved.append(SavedImage(image, self._blobs.read(image_id), layers, names))
        return plan_archive(saved)

    async def _archive(self, members: list[Member], blobs: dict[str, LayerBlob]) -> AsyncIterator[bytes]:
        async with self._holding():
            small = bytearray()
            for member in members:
                small += member.header()
                if not member.layer:
                    small += member.data + member.padding
                    continue
                yield bytes(small)
                sent = 0
                async for piece in self._layer_tar(blobs[member.layer]):
                    sent += len(piece)
                    yield piece
                if sent != member.size:
                    raise SystemFailure(f"layer {member.layer}: {sent} bytes where {member.size} were recorded")
                small = bytearray(member.padding)
            yield bytes(small) + END

    async def _layer_tar(self, blob: LayerBlob) -> AsyncIterator[bytes]:
        with await asyncio.to_thread(self._blobs.open, blob.digest) as file:
            source = await asyncio.to_thread(Decompressed, file)
            while piece := await asyncio.to_thread(source.read, _CHUNK):
                yield piece

    # removal

    async def remove(self, ref: str, *, force: bool = False, prune: bool = True) -> list[Removed]:
        """Docker's rules: a name is untagged, the last name or an ID deletes; parents without a name go too (`prune`).

        Raises NotFound, InvalidParameter, Conflict in Docker's words.
        """
        async with self._gate:
            removal = Removal(self._records, self._in_use, force, prune)
            removal.remove(ref, self.resolve(ref))
            gone = await self._execute(removal)
        return removal.done + [Removed(deleted=chain_id) for chain_id in gone]

    async def prune(self, filters: Filters) -> Pruned:
        """Remove unused images: dangling ones, or with `dangling=false` all that no container needs.

        Raises InvalidParameter, SystemFailure.
        """
        filters.validate(image_filters.PRUNE_FILTERS)
        dangling = filters.boolean("dangling", True)
        until = image_filters.until_ns(filters)
        done: list[Removed] = []
        reclaimed = 0
        async with self._gate:
            for image in list(self._records.images.values()):
                if image.id not in self._records.images or not image_filters.prunable(image, filters, until):
                    continue
                names = self._records.references(image.id)
                if dangling and (any(not name.digest for name in names) or self._records.children(image.id)):
                    continue
                sizes = await asyncio.to_thread(self._layer_sizes, image)
                for ref in [name.familiar for name in names] or [image.id]:
                    removal = Removal(self._records, self._in_use, False, True)
                    try:
                        removal.remove(ref, image)
                    except (Conflict, NotFound):
                        break
                    gone = await self._execute(removal)
                    done += removal.done + [Removed(deleted=chain_id) for chain_id in gone]
                    reclaimed += sum(sizes.get(chain_id, 0) for chain_id in gone)
        self._emit(
            Event(time_ns=time.time_ns(), type="image", action="prune", id="", attributes={"reclaimed": str(reclaimed)})
        )
        return Pruned(done, reclaimed)

    def _layer_sizes(self, image: Image) -> dict[str, int]:
        """Bytes on disk by layer. Blocking."""
        pairs = zip(chain_ids(image.diff_ids), image.diff_ids, strict=True)
        return {chain_id: self._layer_occupied(chain_id, diff_id) for chain_id, diff_id in pairs}

    async def release(self, image_id: str = "") -> None:
        """After a container of this image is removed: give back what only it still needed of a deleted image.

        Nothing is looked at while the image exists. Without an ID everything is.
        """
        if image_id in self._records.images:
            return
        async with self._gate:
            await self._collect()

    async def _execute(self, removal: Removal) -> list[str]:
        """Records first, then the files; returns the layers that are gone."""
        with self._records.transaction() as connection:
            for image, untagged in removal.untagged:
                self._event("untag", image, image.id)
                self._records.unname(connection, untagged)
            for image in removal.deleted:
                self._records.drop(connection, image.id)
                self._event("delete", image, image.id, labels=False)
            self._records.drop_blobs(connection, self._records.blobs.keys() - self._records.needed_diff_ids())
            failpoint("images.remove.recorded")
        return await self._collect() if removal.deleted else []

    async def _collect(self) -> list[str]:
        """Remove files that no record names, unless a load, import or save runs: the last of them does it then.

        The gate is held.
        """
        if self._holders:
            self._uncollected = True
            return []
        self._uncollected = False
        gone = await asyncio.to_thread(self._snapshots.collect, self._records.needed_chains())
        failpoint("images.remove.layers-gone")
        await asyncio.to_thread(self._blobs.sweep, self._records.needed_blobs())
        if gone:
            self._purge()
        return gone

    def _purge(self) -> None:
        """Deleting many files takes long and nobody waits for it: a thread that may die with the process."""
        threading.Thread(target=self._snapshots.purge, name="purge of layers", daemon=True).start()

    # common

    @asynccontextmanager
    async def _holding(self) -> AsyncIterator[None]:
        async with self._gate:
            self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders and self._uncollected:
                async with self._gate:
                    await self._collect()

    def _event(self, action: str, image: Image, name: str, *, labels: bool = True) -> None:
        attributes = {**((image.config.labels or {}) if labels else {}), "name": name}
        self._emit(Event(time_ns=time.time_ns(), type="image", action=action, id=image.id, attributes=attributes))


class _Tee:
    """What is read is also kept."""

    def __init__(self, source: Source, ingest: Ingest) -> None:
        self._source = source
        self._ingest = ingest

    def read(self, size: int, /) -> bytes:
        piece = self._source.read(size)
        if piece:
            self._ingest.write(piece)
        return piece


class _Progress:
    """How far a layer is: counted in its thread, asked for by the loop."""

    def __init__(self, layer: str, total: int) -> None:
        self._layer = layer
        self._total = total
        self._counted: Counted | None = None

    def watch(self, source: Source) -> Source:
        self._counted = Counted(source, hashed=False)
        return self._counted

    def message(self) -> dict[str, Any] | None:
        if self._counted is None or not self._total:
            return None
        current = self._counted.size
        return {
            "status": "Loading layer",
            "progressDetail": {"current": current, "total": self._total},
            "progress": progress_bar(current, self._total),
            "id": self._layer,
        }


def parse_created(created: str | None) -> int:
    """Seconds since the epoch; Go's zero time where there is none."""
    moment = rfc3339_ns(created or "")
    return moment // 1_000_000_000 if moment else _GO_ZERO_UNIX


async def _settled(task: asyncio.Task[Any]) -> None:
    """Wait for a thread's end, whatever it is: it cannot be cancelled, and nothing may be torn from under it."""
    await asyncio.wait((task,))
    task.exception()  # seen, also where another failure is the one that is raised


def _verify(source: Source, diff_id: str) -> None:
    counted = Counted(source)
    while counted.read(_CHUNK):
        pass
    if counted.digest != diff_id:
        raise InvalidParameter(f"layer digest mismatch: expected {diff_id}, got {counted.digest}")


def _import_document(config: Config, platform: platforms.Platform, diff_id: str, message: str) -> bytes:
    created = rfc3339_nano(time.time_ns())
    step = {"created": created, "comment": message}
    document: dict[str, Any] = {"architecture": platform.architecture}
    if message:
        document["comment"] = message
    document |= {
        "config": config_json(config),
        "created": created,
        "history": [step if message else {"created": created}],
        "os": platform.os,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    if platform.variant:
        document["variant"] = platform.variant
    return msgspec.json.encode(document)
