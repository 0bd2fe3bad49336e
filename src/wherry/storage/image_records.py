"""The records of images: documents, names, and which blob holds which layer. All of it fits in memory and is there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import msgspec
from msgspec import Struct

from wherry.model.image import Image
from wherry.model.reference import Reference, parse
from wherry.storage.database import Database


class LayerBlob(Struct, frozen=True):
    """Where the bytes of a layer's tar are: the blob as it came, and how that is compressed ("" for not at all)."""

    digest: str
    compression: str


class ImageRecords:
    """Read from memory, changed inside `transaction`, by the loop alone."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.images: dict[str, Image] = {}
        self.names: dict[str, str] = {}  # canonical reference -> image ID
        self.blobs: dict[str, LayerBlob] = {}  # diff ID -> blob
        self._references: dict[str, dict[str, Reference]] = {}  # image ID -> canonical -> reference
        self.reload()

    def reload(self) -> None:
        connection = self._database.connection
        self.images = {}
        self._references = {}
        for (record,) in connection.execute("SELECT record FROM images"):
            image = msgspec.json.decode(record, type=Image)
            self.images[image.id] = image
        self.names = dict(connection.execute("SELECT reference, image_id FROM image_names"))
        for canonical, image_id in self.names.items():
            self._references.setdefault(image_id, {})[canonical] = parse(canonical)
        self.blobs = {
            diff_id: LayerBlob(digest, compression)
            for diff_id, digest, compression in connection.execute(
                "SELECT diff_id, digest, compression FROM layer_blobs"
            )
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
        connection.execute("DELETE FROM images WHERE id = ?", (image_id,))
        self.images.pop(image_id, None)

    def name(self, connection: sqlite3.Connection, reference: Reference, image_id: str) -> None:
        """Let a name mean this image, whatever it meant."""
        self.unname(connection, reference)
        key = reference.canonical
        connection.execute("INSERT INTO image_names (reference, image_id) VALUES (?, ?)", (key, image_id))
        self.names[key] = image_id
        self._references.setdefault(image_id, {})[key] = reference
        self._show_names(self.images[image_id])

    def unname(self, connection: sqlite3.Connection, reference: Reference) -> None:
        key = reference.canonical
        connection.execute("DELETE FROM image_names WHERE reference = ?", (key,))
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

    def drop_blobs(self, connection: sqlite3.Connection, diff_ids: Iterable[str]) -> None:
        for diff_id in diff_ids:
            connection.execute("DELETE FROM layer_blobs WHERE diff_id = ?", (diff_id,))
            self.blobs.pop(diff_id, None)

    def needed_diff_ids(self) -> set[str]:
        """Those of all images."""
        return {diff_id for image in self.images.values() for diff_id in image.diff_ids}

    def needed_blobs(self) -> set[str]:
        """The blobs that images need: their documents and their layers."""
        wanted = self.needed_diff_ids()
        return set(self.images) | {blob.digest for diff_id, blob in self.blobs.items() if diff_id in wanted}

    def needed_chains(self) -> set[str]:
        return {image.chain_id for image in self.images.values() if image.chain_id}

    def _show_names(self, image: Image) -> None:
        references = self.references(image.id)
        image.repo_tags = [r.familiar for r in references if not r.digest]
        image.repo_digests = [r.familiar for r in references if r.digest]


def _record(image: Image) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(image, repo_tags=[], repo_digests=[]))
