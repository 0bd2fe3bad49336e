"""An image by its manifests: what is here of each, and for which platforms its indexes know others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wherry.engine.images.catalog import Catalog
from wherry.errors import InvalidParameter, NotFound
from wherry.model.image import Image
from wherry.model.manifests import MEDIA_MANIFEST, Descriptor, Index, parse, platform_of
from wherry.model.platforms import Platform
from wherry.storage.blobs import Blobs


@dataclass(frozen=True)
class Variant:
    """One manifest. What is not `available` is only known from an index. Sizes are bytes."""

    descriptor: Descriptor
    platform: Platform
    available: bool
    content: int  # of the blobs: manifest, configuration, layers as they came
    unpacked: int


def variants(catalog: Catalog, blobs: Blobs, image: Image) -> list[Variant]:
    """Those of one image, the ones that are here first; an image without a known manifest is its own. Blocking."""
    records = catalog.records
    platform = Platform(image.os, image.architecture, image.variant)
    held = [record.digest for diff_id in image.diff_ids if (record := records.blobs.get(diff_id)) is not None]
    config = _size(blobs, image.id)
    found = []
    seen = set()
    indexes: dict[str, None] = {}
    for known in records.manifests_of(image.id):
        layers = sum(_size(blobs, digest) for digest in set(known.layers))
        descriptor = Descriptor(known.media_type, known.digest, known.size)
        found.append(Variant(descriptor, platform, True, known.size + config + layers, image.size))
        seen.add(known.digest)
        indexes |= dict.fromkeys(known.indexes)
    if not found:
        layers = sum(_size(blobs, digest) for digest in set(held))
        found.append(Variant(Descriptor(MEDIA_MANIFEST, image.id, 0), platform, True, config + layers, image.size))
    for descriptor, elsewhere in _others(blobs, indexes):
        if descriptor.digest not in seen:
            seen.add(descriptor.digest)
            found.append(Variant(descriptor, elsewhere, False, 0, 0))
    return found


def _others(blobs: Blobs, indexes: dict[str, None]) -> Iterator[tuple[Descriptor, Platform]]:
    for digest in indexes:
        try:
            index = parse("", blobs.read(digest))
        except (NotFound, InvalidParameter):  # it has just gone
            continue
        for descriptor in index.images if isinstance(index, Index) else []:
            if (platform := platform_of(descriptor)) is not None:
                yield descriptor, platform


def _size(blobs: Blobs, digest: str) -> int:
    try:
        return blobs.size(digest)
    except NotFound:
        return 0
