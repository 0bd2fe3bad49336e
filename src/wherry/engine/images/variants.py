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
from wherry.storage.image_records import KnownManifest


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
    found = [_here(blobs, known, image) for known in records.manifests_of(image.id)]
    if not found:
        held = {record.digest for diff_id in image.diff_ids if (record := records.blobs.get(diff_id)) is not None}
        content = _size(blobs, image.id) + sum(_size(blobs, digest) for digest in held)
        found.append(Variant(Descriptor(MEDIA_MANIFEST, image.id, 0), _platform(image), True, content, image.size))
    seen = {variant.descriptor.digest for variant in found}
    indexes = dict.fromkeys(index for known in records.manifests_of(image.id) for index in known.indexes)
    absent = []
    for descriptor, platform in _others(blobs, indexes):
        if descriptor.digest in seen:
            continue
        seen.add(descriptor.digest)
        known = records.manifests.get(descriptor.digest)
        if known is not None and (other := records.images.get(known.image_id)) is not None:
            found.append(_here(blobs, known, other))
        else:
            absent.append(Variant(descriptor, platform, False, 0, 0))
    return found + absent


def _here(blobs: Blobs, known: KnownManifest, image: Image) -> Variant:
    parts = {known.image_id, *known.layers}
    content = known.size + sum(_size(blobs, digest) for digest in parts)
    descriptor = Descriptor(known.media_type, known.digest, known.size)
    return Variant(descriptor, _platform(image), True, content, image.size)


def _platform(image: Image) -> Platform:
    return Platform(image.os, image.architecture, image.variant)


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
