"""The images there are: found by reference, listed, measured, named."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from sqlite3 import Connection
from typing import Any

import msgspec

from wherry.errors import NotFound
from wherry.model import image_filters
from wherry.model.events import Event
from wherry.model.failpoints import failpoint
from wherry.model.filters import Filters
from wherry.model.image import Image, chain_ids, rfc3339_ns
from wherry.model.image_filters import Listed
from wherry.model.mount_plans import OverlayPlan
from wherry.model.reference import Reference, parse_any, parse_target
from wherry.storage.blobs import Blobs
from wherry.storage.image_records import ImageRecords
from wherry.storage.snapshots import Snapshots

_GO_ZERO_UNIX = -62135596800


@dataclass(frozen=True)
class HistoryEntry:
    """One step of an image's making, newest first. `id` is "<missing>" where no image is known for it."""

    id: str
    created: int  # seconds since the epoch
    created_by: str
    tags: list[str] | None
    size: int
    comment: str


class Catalog:
    """Methods that are not `async` only look at memory, unless they say that they block."""

    def __init__(
        self, records: ImageRecords, blobs: Blobs, snapshots: Snapshots, emit: Callable[[Event], None]
    ) -> None:
        self.records = records
        self._blobs = blobs
        self._snapshots = snapshots
        self._emit = emit

    def resolve(self, ref: str) -> Image:
        """By name, digest, ID or a prefix of ID or digest that only one image has; a name wins.

        A digest is that of the configuration (the ID), of a manifest, or of an index.
        Raises NotFound ("No such image: x:latest"), InvalidParameter (malformed).
        """
        reference = parse_any(ref)
        if isinstance(reference, str):
            image = self._by_digest(reference)
            if image is None:
                raise NotFound(f"No such image: {reference}")
            return image
        named = self.recorded(reference)
        if named is not None:
            return self.records.images[self.records.names[named.canonical]]
        found = self.by_prefix(ref)
        if len(found) == 1:
            return found[0]
        message = f"No such image: {reference.with_default_tag().familiar}"
        if found:
            message += f" (and as the beginning of an ID, {ref} is ambiguous: {len(found)} images)"
        raise NotFound(message)

    def recorded(self, reference: Reference) -> Reference | None:
        """The name that is recorded for a reference. `name@digest` may give an image's manifest, too.

        Docker records the digest that the registry has under the tag: that of the index where there is one.
        """
        wanted = reference.with_default_tag().without_tag()
        if wanted.canonical in self.records.names:
            return wanted
        manifest = self.records.manifests.get(wanted.digest)
        if manifest is None:
            return None
        names = self.records.references(manifest.image_id)
        return next((name for name in names if name.digest and name.name == wanted.name), None)

    def _by_digest(self, digest: str) -> Image | None:
        if (image := self.records.images.get(digest)) is not None:
            return image
        manifest = self.records.manifests.get(digest)
        if manifest is None:
            found = [known for known in self.records.manifests.values() if digest in known.indexes]
            manifest = found[-1] if found else None
        return self.records.images[manifest.image_id] if manifest is not None else None

    def by_prefix(self, text: str) -> list[Image]:
        """Those whose ID, or the digest of a manifest or index of theirs, begins so."""
        prefix = text.removeprefix("sha256:")
        if not prefix or not set(prefix) <= set("0123456789abcdef"):
            return []
        found = {image.id for image in self.records.images.values() if image.id.startswith(prefix, 7)}
        for manifest in self.records.manifests.values():
            if any(digest.startswith(prefix, 7) for digest in (manifest.digest, *manifest.indexes)):
                found.add(manifest.image_id)
        return [self.records.images[image_id] for image_id in found]

    def all(self) -> list[Image]:
        """Every image, in no order."""
        return list(self.records.images.values())

    def select(self, filters: Filters, *, all: bool = False) -> list[Listed]:
        """Newest first; without `all` no intermediate images. Raises InvalidParameter, NotFound, SystemFailure."""
        return image_filters.select(
            self.records.images.values(),
            filters,
            all=all,
            resolve=self.resolve,
            references=self.records.references,
            beneath={image.parent for image in self.records.images.values()} | self.records.companions().keys(),
        )

    def names_in_repository(self, reference: Reference) -> list[tuple[Reference, str]]:
        """All tags of a repository with the image ID of each."""
        return sorted(
            (
                (name, image_id)
                for image_id in self.records.images
                for name in self.records.references(image_id)
                if name.name == reference.name and name.tag
            ),
            key=lambda pair: pair[0].tag,
        )

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
            known = self.records.images.get(known.parent) if known and known.parent else None
        return entries

    def document(self, image: Image) -> dict[str, Any]:
        """The configuration document, as its maker wrote it. Reads one small file."""
        document = msgspec.json.decode(self._blobs.read(image.id))
        return document if isinstance(document, dict) else {}

    def view_plan(self, image: Image) -> OverlayPlan:
        """How to mount the image's content read-only."""
        return self._snapshots.view_plan(image.chain_id)

    # sizes

    def size(self, image_id: str) -> int:
        """Bytes of the unpacked layers; 0 for an image that is gone."""
        image = self.records.images.get(image_id)
        return image.size if image is not None else 0

    def shared_size(self, image: Image) -> int:
        """Bytes in layers that other images have too."""
        others = self._chains_of_others(image)
        pairs = zip(chain_ids(image.diff_ids), image.layer_sizes, strict=True)
        return sum(size for chain_id, size in pairs if chain_id in others)

    def occupied(self) -> int:
        """Bytes on disk of all layers and of the blobs they came from. Blocking."""
        return self._snapshots.layers_occupied() + self._blobs.occupied()

    def occupied_by(self, image: Image) -> tuple[int, int]:
        """Bytes on disk of an image, and of those the bytes in layers that other images have too. Blocking."""
        others = self._chains_of_others(image)
        whole, shared = self._blobs.occupied(image.id), 0
        for chain_id, size in self.layers_occupied(image).items():
            whole += size
            shared += size if chain_id in others else 0
        return whole, shared

    def layers_occupied(self, image: Image) -> dict[str, int]:
        """Bytes on disk by chain ID: the layer and its blob. Blocking."""
        pairs = zip(chain_ids(image.diff_ids), image.diff_ids, strict=True)
        return {chain_id: self._layer_occupied(chain_id, diff_id) for chain_id, diff_id in pairs}

    def _layer_occupied(self, chain_id: str, diff_id: str) -> int:
        blob = self.records.blobs.get(diff_id)
        return self._snapshots.layer_occupied(chain_id) + (self._blobs.occupied(blob.digest) if blob else 0)

    def _chains_of_others(self, image: Image) -> set[str]:
        return {
            chain_id
            for other in list(self.records.images.values())
            if other.id != image.id
            for chain_id in chain_ids(other.diff_ids)
        }

    # names

    async def tag(self, ref: str, repository: str, tag: str) -> None:
        """Give an image another name, taking it from whoever has it. Raises NotFound, InvalidParameter."""
        image = self.resolve(ref)
        target = parse_target(repository, tag)
        source = parse_any(ref)
        known = self.recorded(source) if not isinstance(source, str) else None
        means = self.records.targets.get(known.canonical, "") if known is not None else ""
        with self.records.transaction() as connection:
            self.name(connection, image, target, means)
            self.event("tag", image, target.familiar)
            failpoint("images.tag.recorded")

    def name(self, connection: Connection, image: Image, name: Reference, target: str = "") -> None:
        """Inside a transaction: let a name mean this image, whatever it meant; `target` as in ImageRecords.name."""
        self.records.name(connection, name, image.id, target)
        image.last_tag_ns = time.time_ns()
        self.records.put(connection, image)

    def event(self, action: str, image: Image, name: str, *, labels: bool = True) -> None:
        attributes = {**((image.config.labels or {}) if labels else {}), "name": name}
        self._emit(Event(time_ns=time.time_ns(), type="image", action=action, id=image.id, attributes=attributes))


def parse_created(created: str | None) -> int:
    """Seconds since the epoch; Go's zero time where there is none."""
    moment = rfc3339_ns(created or "")
    return moment // 1_000_000_000 if moment else _GO_ZERO_UNIX
