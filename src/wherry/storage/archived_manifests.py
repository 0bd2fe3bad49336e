"""Manifests in image archives: those of an OCI layout, and those that a docker archive has beside its own list.

An image keeps the manifest that it came with, the indexes above and what is attested there, so that it goes elsewhere
as it came. OCI image-spec image-layout.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from wherry.errors import InvalidParameter
from wherry.model.manifests import (
    INDEXES,
    NESTING_MAX,
    Descriptor,
    Index,
    Manifest,
    attesting,
    parse_attestation,
    platform_of,
)
from wherry.model.platforms import Platform

T = TypeVar("T")
Path = Sequence[tuple[str, Index]]
"""Indexes with their digests, the outermost first."""


class Archive(Protocol):
    def blob(self, descriptor: Descriptor) -> bytes:
        """A document, verified. Raises InvalidParameter."""

    def has(self, digest: str) -> bool: ...


@dataclass(frozen=True)
class ArchivedManifest:
    """A manifest that is the archive's own. `attached` is by index, as `KnownManifest` has it."""

    name: str  # what index.json calls it, "" for nothing
    descriptor: Descriptor
    manifest: Manifest
    indexes: tuple[str, ...]  # digests, the outermost first
    attached: Mapping[str, tuple[str, ...]]
    dressed: bool  # something is attested, or annotated in the documents themselves

    def is_image(self, document: str, layers: Sequence[str]) -> bool:
        """Whether it is the manifest of a configuration and layers, by their digests."""
        found = [self.manifest.config.digest, *(layer.digest for layer in self.manifest.layers)]
        return found == [document, *layers]

    def is_plain(self, diff_ids: Sequence[str]) -> bool:
        """Whether its layers are not compressed."""
        return [layer.digest for layer in self.manifest.layers] == list(diff_ids)

    def documents(self) -> list[str]:
        """The blobs that it has besides the image's."""
        return [self.descriptor.digest, *self.indexes, *(part for parts in self.attached.values() for part in parts)]


def manifests(
    archive: Archive, index: Index, host: Platform, name: str = "", path: Path = ()
) -> Iterator[ArchivedManifest]:
    """The manifests for the host that an index leads to, index.json at first. Raises InvalidParameter."""
    if len(path) > NESTING_MAX:
        raise InvalidParameter(f"invalid archive: indexes nested more than {NESTING_MAX} deep")
    for descriptor in _for_host(index.images, host):
        own = _image_name(descriptor.annotations or {}) or name
        document = archive.blob(descriptor)
        if descriptor.media_type in INDEXES:
            inner = decode(document, Index, descriptor.digest)
            yield from manifests(archive, inner, host, own, (*path, (descriptor.digest, inner)))
            continue
        manifest = decode(document, Manifest, descriptor.digest)
        attached = {digest: parts for digest, above in path if (parts := _attached(archive, above, descriptor.digest))}
        annotated = manifest.annotations or any(above.annotations for _, above in path)
        indexes = tuple(digest for digest, _ in path)
        yield ArchivedManifest(own, descriptor, manifest, indexes, attached, bool(annotated or attached))


def _attached(archive: Archive, index: Index, digest: str) -> tuple[str, ...]:
    """As far as all of it is there."""
    parts: list[str] = []
    for descriptor in attesting(index, digest):
        if archive.has(descriptor.digest):
            found = parse_attestation(archive.blob(descriptor))
            blobs = [found.config.digest, *(layer.digest for layer in found.layers)]
            if all(archive.has(blob) for blob in blobs):
                parts += [descriptor.digest, *blobs]
    return tuple(parts)


def _for_host(descriptors: Iterable[Descriptor], host: Platform) -> Iterator[Descriptor]:
    """Those of the platform that the host runs best, of those there are, and those that do not say."""
    described = [(descriptor, platform_of(descriptor)) for descriptor in descriptors]
    there = {platform for _, platform in described}
    best = next((platform for platform in host.runs() if platform in there), None)
    return (descriptor for descriptor, platform in described if platform is None or platform == best)


def _image_name(annotations: dict[str, str]) -> str:
    """containerd writes the full name; others a reference, or just a tag, which names nothing."""
    name = annotations.get("io.containerd.image.name", "")
    reference = annotations.get("org.opencontainers.image.ref.name", "")
    return name or (reference if ":" in reference or "/" in reference else "")


def decode(document: bytes, kind: type[T], name: str) -> T:
    """Raises InvalidParameter."""
    try:
        return msgspec.json.decode(document, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter(f"invalid archive: {name}: {error}") from None
