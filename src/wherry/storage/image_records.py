"""The records of images: documents, names, and which blob holds which layer. All of it fits in memory and is there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

import msgspec
from msgspec import Struct

from wherry.model.image import Image
from wherry.model.reference import Reference, parse
from wherry.storage.database import Database


class LayerBlob(Struct, frozen=True):
    """Where the bytes of a layer's tar are: the blob as it came, and how that is compressed ("" for not at all)."""

    digest: str
    compression: str


class KnownManifest(Struct, frozen=True):
    """A manifest whose blobs are all kept: an image as one registry has it, to be pushed elsewhere as it is."""

    digest: str
    media_type: str
    size: int  # bytes of the manifest
    image_id: str  # the digest of the configuration
    layers: tuple[str, ...] = ()  # digests of the blobs, parallel to the image's diff IDs
    indexes: tuple[str, ...] = ()  # digests of the indexes it is known to be part of, which are kept too
    attached: dict[str, tuple[str, ...]] = {}  # by index, what is attested there: a manifest, then that one's blobs
    dressed: bool = False  # with annotations or attestations of its own: it is saved as it is, not as its layers

    def files(self) -> set[str]:
        """The blobs that it needs, but for the configuration."""
        return {self.digest, *self.layers, *self.indexes, *chain.from_iterable(self.attached.values())}


class FetchedBlob(Struct, frozen=True):
    """A blob that a pull has brought and that no image needs yet."""

    digest: str
    size: int
    fetched_ns: int


class ImageRecords:
    """Read from memory, changed inside `transaction`, by the loop alone."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.images: dict[str, Image] = {}
        self.names: dict[str, str] = {}  # canonical reference -> image ID
        self.blobs: dict[str, LayerBlob] = {}  # diff ID -> blob
        self.manifests: dict[str, KnownManifest] = {}  # by digest
        self.targets: dict[str, str] = {}  # canonical reference -> digest of what it names in a registry
        self.fetched: dict[str, FetchedBlob] = {}  # by digest
        self.contents: dict[str, str] = {}  # digest of a layer's blob -> diff ID of what was found in it
        self._references: dict[str, dict[str, Reference]] = {}  # image ID -> canonical -> reference
        self._manifests: dict[str, dict[str, KnownManifest]] = {}  # image ID -> digest -> manifest
        self.reload()

    def reload(self) -> None:
        connection = self._database.connection
        self.images = {}
        self._references = {}
        self._manifests = {}
        for (record,) in connection.execute("SELECT record FROM images"):
            image = msgspec.json.decode(record, type=Image)
            self.images[image.id] = image
        self.names = dict(connection.execute("SELECT reference, image_id FROM image_names"))
        self.targets = dict(connection.execute("SELECT reference, target FROM image_names WHERE target != ''"))
        for canonical, image_id in self.names.items():
            self._references.setdefault(image_id, {})[canonical] = parse(canonical)
        self.blobs = {
            diff_id: LayerBlob(digest, compression)
            for diff_id, digest, compression in connection.execute(
                "SELECT diff_id, digest, compression FROM layer_blobs"
            )
        }
        self.contents = {blob.digest: diff_id for diff_id, blob in self.blobs.items()}
        self.manifests = {}
        for (record,) in connection.execute("SELECT record FROM manifests ORDER BY rowid"):
            self._show_manifest(msgspec.json.decode(record, type=KnownManifest))
        self.fetched = {
            digest: FetchedBlob(digest, size, fetched_ns)
            for digest, size, fetched_ns in connection.execute("SELECT digest, size, fetched_ns FROM fetched_blobs")
        }
        for image in self.images.values():
            self._show_names(image)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """As Database.transaction; when it fails, memory is what the database says again."""
        try:
            with self._database.transaction() as connection:
                yield connection
        except BaseException:
            self.reload()
            raise

    def references(self, image_id: str) -> list[Reference]:
        """The names of an image, in order."""
        found = self._references.get(image_id, {})
        return [found[canonical] for canonical in sorted(found)]

    def children(self, image_id: str) -> list[str]:
        return [image.id for image in self.images.values() if image.parent == image_id]

    def put(self, connection: sqlite3.Connection, image: Image) -> None:
        """Record or change an image."""
        connection.execute("INSERT OR REPLACE INTO images (id, record) VALUES (?, ?)", (image.id, _record(image)))
        self.images[image.id] = image
        self._show_names(image)

    def drop(self, connection: sqlite3.Connection, image_id: str) -> None:
        """Forget an image, and its names."""
        for reference in self.references(image_id):
            self.unname(connection, reference)
        for manifest in self.manifests_of(image_id):
            self.drop_manifest(connection, manifest.digest)
        connection.execute("DELETE FROM images WHERE id = ?", (image_id,))
        self.images.pop(image_id, None)

    def name(self, connection: sqlite3.Connection, reference: Reference, image_id: str, target: str = "") -> None:
        """Let a name mean this image, whatever it meant; `target` is what it names in a registry, if that is known."""
        self.unname(connection, reference)
        key = reference.canonical
        connection.execute(
            "INSERT INTO image_names (reference, image_id, target) VALUES (?, ?, ?)", (key, image_id, target)
        )
        self.names[key] = image_id
        if target:
            self.targets[key] = target
        self._references.setdefault(image_id, {})[key] = reference
        self._show_names(self.images[image_id])

    def unname(self, connection: sqlite3.Connection, reference: Reference) -> None:
        key = reference.canonical
        connection.execute("DELETE FROM image_names WHERE reference = ?", (key,))
        self.targets.pop(key, None)
        image_id = self.names.pop(key, None)
        if image_id is not None:
            self._references[image_id].pop(key, None)
            if image_id in self.images:
                self._show_names(self.images[image_id])

    def put_blob(self, connection: sqlite3.Connection, diff_id: str, blob: LayerBlob) -> None:
        connection.execute(
            "INSERT OR REPLACE INTO layer_blobs (diff_id, digest, compression) VALUES (?, ?, ?)",
            (diff_id, blob.digest, blob.compression),
        )
        self.blobs[diff_id] = blob
        self.contents[blob.digest] = diff_id

    def drop_blobs(self, connection: sqlite3.Connection, diff_ids: Iterable[str]) -> None:
        for diff_id in diff_ids:
            connection.execute("DELETE FROM layer_blobs WHERE diff_id = ?", (diff_id,))
            self.blobs.pop(diff_id, None)

    def manifests_of(self, image_id: str) -> list[KnownManifest]:
        """The manifests of an image, the one recorded last at the end."""
        return list(self._manifests.get(image_id, {}).values())

    def put_manifest(self, connection: sqlite3.Connection, manifest: KnownManifest) -> None:
        """Record a manifest, or that it is part of more indexes. The image is recorded."""
        known = self.manifests.get(manifest.digest)
        if known is not None:
            indexes = dict.fromkeys((*known.indexes, *manifest.indexes))
            manifest = msgspec.structs.replace(
                manifest,
                indexes=tuple(indexes),
                attached=known.attached | manifest.attached,
                dressed=known.dressed or manifest.dressed,
            )
            self.drop_manifest(connection, manifest.digest)
        connection.execute(
            "INSERT INTO manifests (digest, image_id, record) VALUES (?, ?, ?)",
            (manifest.digest, manifest.image_id, msgspec.json.encode(manifest)),
        )
        self._show_manifest(manifest)

    def drop_manifest(self, connection: sqlite3.Connection, digest: str) -> None:
        connection.execute("DELETE FROM manifests WHERE digest = ?", (digest,))
        known = self.manifests.pop(digest, None)
        if known is not None:
            self._manifests[known.image_id].pop(digest, None)

    def dressed(self, digest: str) -> bool:
        """Whether a manifest or index is saved as it is: made here so, or something is attested in it."""
        known = self.manifests.get(digest)
        if known is not None:
            return known.dressed
        return any(
            digest in known.indexes and (known.dressed or digest in known.attached) for known in self.manifests.values()
        )

    def companions(self) -> dict[str, set[str]]:
        """Images without a name that an index made here names beside one that has it: by ID, those indexes.

        They are of other platforms, and there as long as a name means the index.
        """
        meant = set(self.targets.values())
        found: dict[str, set[str]] = {}
        for manifest in self.manifests.values():
            indexes = meant.intersection(manifest.indexes) if manifest.dressed else None
            if indexes and not self._references.get(manifest.image_id):
                found.setdefault(manifest.image_id, set()).update(indexes)
        return found

    def parts(self, digest: str) -> list[str]:
        """The blobs that a manifest or index stands for, as far as they are here: itself first, then what it names."""
        found = {digest: None}
        for known in self.manifests.values():
            if digest == known.digest or digest in known.indexes:
                parts = (known.digest, known.image_id, *known.layers, *known.attached.get(digest, ()))
                found |= dict.fromkeys(parts)
        return list(found)

    def put_fetched(self, connection: sqlite3.Connection, blob: FetchedBlob) -> None:
        connection.execute(
            "INSERT OR REPLACE INTO fetched_blobs (digest, size, fetched_ns) VALUES (?, ?, ?)",
            (blob.digest, blob.size, blob.fetched_ns),
        )
        self.fetched[blob.digest] = blob

    def drop_fetched(self, connection: sqlite3.Connection, digests: Iterable[str]) -> None:
        for digest in digests:
            connection.execute("DELETE FROM fetched_blobs WHERE digest = ?", (digest,))
            self.fetched.pop(digest, None)

    def needed_diff_ids(self) -> set[str]:
        """Those of all images."""
        return {diff_id for image in self.images.values() for diff_id in image.diff_ids}

    def needed_blobs(self) -> set[str]:
        """The blobs that images need: their documents, manifests and layers."""
        wanted = self.needed_diff_ids()
        needed = set(self.images) | {blob.digest for diff_id, blob in self.blobs.items() if diff_id in wanted}
        for manifest in self.manifests.values():
            needed |= manifest.files()
        return needed

    def needed_chains(self) -> set[str]:
        return {image.chain_id for image in self.images.values() if image.chain_id}

    def _show_manifest(self, manifest: KnownManifest) -> None:
        self.manifests[manifest.digest] = manifest
        self.contents.update(zip(manifest.layers, self.images[manifest.image_id].diff_ids, strict=True))
        self._manifests.setdefault(manifest.image_id, {})[manifest.digest] = manifest

    def _show_names(self, image: Image) -> None:
        references = self.references(image.id)
        image.repo_tags = [r.familiar for r in references if not r.digest]
        image.repo_digests = [r.familiar for r in references if r.digest]


def _record(image: Image) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(image, repo_tags=[], repo_digests=[]))
