"""Taking in an image that was made elsewhere: the one door through which load, import, commit, pull and build go.

    async with admission.holding():                              # what is not recorded yet is not collected
        base = await in_thread(lambda: admission.keep_layer(tar_or_gzip, "", diff_of_base))
        top = await in_thread(lambda: admission.keep_layer(another, base.chain_id))
        ...
        image = await admission.admit(document, [base, top], names=[parse("app:1")], event="import")

Killed anywhere, either the image is there or nothing is: files come first, and one transaction names them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from sqlite3 import Connection

from wherry.engine.images.catalog import Catalog
from wherry.engine.images.keeping import Keeper
from wherry.engine.images.leases import Lease
from wherry.errors import InvalidParameter
from wherry.model.failpoints import failpoint
from wherry.model.image import Image, chain_ids, next_chain_id, parse_image
from wherry.model.reference import Reference
from wherry.storage.blobs import Blobs, Ingest
from wherry.storage.image_records import LayerBlob
from wherry.storage.snapshots import Counted, Snapshots
from wherry.storage.streams import Decompressed, Peekable, compression_of
from wherry.storage.tar import Source

_CHUNK = 1 << 20


@dataclass(frozen=True)
class KeptLayer:
    """A layer in its place and the blob that has its bytes; no record names either yet."""

    chain_id: str
    diff_id: str
    size: int  # bytes of its files, as Docker counts them
    blob: LayerBlob


class Admission:
    """See the module."""

    def __init__(self, catalog: Catalog, keeper: Keeper, blobs: Blobs, snapshots: Snapshots) -> None:
        self._catalog = catalog
        self._records = catalog.records
        self._keeper = keeper
        self._blobs = blobs
        self._snapshots = snapshots

    def lease(self) -> AbstractAsyncContextManager[Lease]:
        """As `Keeper.lease`."""
        return self._keeper.lease()

    def holding(self) -> AbstractAsyncContextManager[None]:
        """As `Keeper.holding`: around everything from the first file to the record."""
        return self._keeper.holding()

    def keep_layer(self, source: Source, parent: str, diff_id: str = "") -> KeptLayer:
        """Unpack a layer, compressed or not, on the chain `parent` and keep it as it came, in one pass. Blocking.

        Only what arrives compressed is hashed a second time. With `diff_id` the content is verified, also where the
        layer is there already. Raises InvalidParameter, NotFound, SystemFailure.
        """
        there = bool(diff_id) and next_chain_id(parent, diff_id) in self._snapshots.chains()
        head = Peekable(source)
        with self._blobs.ingest(hashed=bool(compression_of(head.peek(6)))) as ingest:
            kept = _Tee(head, ingest)
            plain = Decompressed(kept)
            if there:
                verify(plain, diff_id)
            chain_id = self._snapshots.unpack(plain, parent, diff_id)
            layer = self._snapshots.layer(chain_id)
            while kept.read(_CHUNK):  # what follows the compressed stream
                pass
            digest = ingest.commit("" if plain.compression else layer.diff_id)
        return KeptLayer(chain_id, layer.diff_id, layer.size, LayerBlob(digest, plain.compression))

    def keep_copy(self, key: str, newest_ns: int | None = None) -> KeptLayer | None:
        """What a snapshot has now as a layer, see `Snapshots.copy`; None if nothing is in it. Blocking."""
        return self._made_here(self._snapshots.copy(key, newest_ns))

    def keep_snapshot(self, key: str, contents: Mapping[bytes, bytes] | None = None) -> KeptLayer | None:
        """The same of a snapshot that is not mounted, its files where they are; it is only to be removed then.

        `contents` are the digests of those that are to be found there, by path.
        """
        return self._made_here(self._snapshots.settle(key, contents))

    def _made_here(self, chain_id: str) -> KeptLayer | None:
        if not chain_id:
            return None
        layer = self._snapshots.layer(chain_id)
        return KeptLayer(chain_id, layer.diff_id, layer.size, LayerBlob(layer.diff_id, ""))

    async def admit(
        self,
        document: bytes,
        layers: Iterable[KeptLayer],
        *,
        names: Iterable[Reference] = (),
        parent: str = "",
        event: str = "",
        also: Callable[[Connection, Image], None] | None = None,
    ) -> Image:
        """Record an image whose layers are in place; the one that is known where it is.

        `layers` are those whose blobs may not be recorded yet, at least. `parent` is the ID of the image it was built
        on. Each name is taken from whoever has it, with event `tag`; `event`, if any, comes last. `also` records more
        in the same transaction. Raises InvalidParameter (document), NotFound (a layer is not in place), SystemFailure.
        """
        image = await self.prepare(document)
        with self._records.transaction() as connection:
            image = self.record(connection, image, {layer.diff_id: layer.blob for layer in layers}, parent)
            for name in names:
                self._catalog.name(connection, image, name)
                self._catalog.event("tag", image, name.familiar)
            if also is not None:
                also(connection, image)
            if event:
                self._catalog.event(event, image, image.id)
            failpoint("images.admit.recorded")
        return image

    async def prepare(self, document: bytes) -> Image:
        """Keep the document, and say what there will be to record. Raises InvalidParameter, NotFound."""
        return await asyncio.to_thread(self._prepare, document)

    def _prepare(self, document: bytes) -> Image:
        image = parse_image(document)
        image.layer_sizes = [self._snapshots.layer(chain_id).size for chain_id in chain_ids(image.diff_ids)]
        image.size = sum(image.layer_sizes)
        self._blobs.put(document)
        return image

    def record(self, connection: Connection, image: Image, blobs: dict[str, LayerBlob], parent: str) -> Image:
        """Inside a transaction: the image and the blobs of its layers, by diff ID. Returns the one now known."""
        known = self._records.images.get(image.id)
        if known is None:
            image.parent = parent if parent in self._records.images else ""
            self._records.put(connection, image)
        for diff_id, blob in blobs.items():
            if diff_id not in self._records.blobs:
                self._records.put_blob(connection, diff_id, blob)
        return known or image


def verify(source: Source, diff_id: str) -> None:
    """Read a layer's plain bytes to their end. Blocking. Raises InvalidParameter if they are something else."""
    counted = Counted(source)
    while counted.read(_CHUNK):
        pass
    check(counted.digest, diff_id)


def check(found: str, diff_id: str) -> None:
    """Raises InvalidParameter if a layer's digest is not the one that was promised."""
    if found != diff_id:
        raise InvalidParameter(f"layer digest mismatch: expected {diff_id}, got {found}")


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
