"""Manifests and indexes: what a registry says an image consists of. Pure.

Read strictly where a lie could mislead (which kind a document is, digests, sizes, counts) and as leniently as Docker
elsewhere. Source: OCI image-spec manifest.md, image-index.md, descriptor.md; Docker's "Image Manifest V 2, Schema 2".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from wherry.errors import InvalidParameter, NotFound
from wherry.model.platforms import Platform
from wherry.model.reference import check_digest

MEDIA_INDEX = "application/vnd.oci.image.index.v1+json"
MEDIA_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA_CONFIG = "application/vnd.oci.image.config.v1+json"
MEDIA_LAYER = "application/vnd.oci.image.layer.v1.tar"
MEDIA_DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
MEDIA_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MEDIA_DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
MEDIA_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
MEDIA_DOCKER_LAYER_PLAIN = "application/vnd.docker.image.rootfs.diff.tar"
MEDIA_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
MEDIA_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

INDEXES = frozenset({MEDIA_INDEX, MEDIA_DOCKER_INDEX})
MANIFESTS = frozenset({MEDIA_MANIFEST, MEDIA_DOCKER_MANIFEST})
ACCEPTED = (MEDIA_DOCKER_MANIFEST, MEDIA_DOCKER_INDEX, MEDIA_MANIFEST, MEDIA_INDEX, MEDIA_SCHEMA1_SIGNED)
"""What to ask a registry for. Schema 1 is among them so that its answer can be told from "not found"."""

LAYERS_MAX = 180  # as many as one mount takes: a page of options, each layer named through a descriptor
INDEX_MAX = 1000  # manifests of one index
NESTING_MAX = 4  # of indexes in indexes
CONFIG_MAX = 16 << 20  # bytes of an image's configuration

_SCHEMA1 = frozenset({MEDIA_SCHEMA1, MEDIA_SCHEMA1_SIGNED})
_CONFIGS = frozenset(
    {MEDIA_CONFIG, MEDIA_DOCKER_CONFIG, "application/octet-stream", "application/json", "text/html", ""}
)
"""Configurations of images; the last ones are what old registries made of them, and Docker takes them too."""
_KINDS = {"application/vnd.docker.plugin.v1+json": "plugin"}
_ATTESTATION = "vnd.docker.reference.type"
_ATTESTED = "vnd.docker.reference.digest"
_FOREIGN = "application/vnd.docker.image.rootfs.foreign."
_EMPTY = "application/vnd.oci.empty.v1+json"

T = TypeVar("T")


class DescribedPlatform(Struct, omit_defaults=True):
    """What a descriptor says its image runs on (image-index.md, `platform`)."""

    architecture: str = ""
    os: str = ""
    os_version: str = field(default="", name="os.version")
    variant: str = ""


class Descriptor(Struct, rename="camel", omit_defaults=True):
    """A reference to a blob (descriptor.md). `size` is in bytes."""

    media_type: str = ""
    digest: str = ""
    size: int = 0
    annotations: dict[str, str] | None = None
    platform: DescribedPlatform | None = None
    urls: list[str] | None = None
    artifact_type: str | None = None


class Manifest(Struct, rename="camel", kw_only=True):
    """An image's configuration and layers, bottom first."""

    schema_version: int = 2
    media_type: str = MEDIA_MANIFEST
    config: Descriptor = field(default_factory=Descriptor)
    layers: list[Descriptor] = field(default_factory=list)
    annotations: dict[str, str] | UnsetType | None = UNSET


class Index(Struct, rename="camel", kw_only=True):
    """Manifests for several platforms."""

    schema_version: int = 2
    media_type: str = MEDIA_INDEX
    manifests: list[Descriptor] | None = None
    annotations: dict[str, str] | UnsetType | None = UNSET

    @property
    def images(self) -> list[Descriptor]:
        """Without those that only attest something about another."""
        return [descriptor for descriptor in self.manifests or [] if not is_attestation(descriptor)]


class _Kind(Struct, rename="camel"):
    """What tells the kinds of document apart."""

    schema_version: int = 0
    media_type: str | None = None
    artifact_type: str | None = None
    manifests: msgspec.Raw = msgspec.Raw()
    layers: msgspec.Raw = msgspec.Raw()
    config: msgspec.Raw = msgspec.Raw()
    fs_layers: msgspec.Raw = msgspec.Raw()

    def has(self, *names: str) -> bool:
        return any(bytes(getattr(self, name)) not in (b"", b"null") for name in names)


def parse(media_type: str, data: bytes) -> Manifest | Index:
    """A document as it was served with that media type ("" or a general one: the document tells).

    Raises InvalidParameter: it is no manifest, contradicts itself or its media type, is of schema 1, or is too much.
    """
    kind = _decode(data, _Kind)
    served = media_type.partition(";")[0].strip().lower()
    told = kind.media_type or ""
    if served in _SCHEMA1 or told in _SCHEMA1 or (kind.schema_version == 1 and kind.has("fs_layers")):
        raise InvalidParameter(
            "the image is in Docker's image manifest format version 2, schema 1, which is obsolete and not supported:"
            " its layers cannot be verified; ask its author to push it again with a current tool"
        )
    known = INDEXES | MANIFESTS
    if served in known and told and told != served:
        raise InvalidParameter(f"invalid manifest: it is served as {served} and calls itself {told}")
    is_index = (told or served) in INDEXES if (told or served) in known else kind.has("manifests")
    if kind.has("manifests") and kind.has("layers", "config"):
        raise InvalidParameter("invalid manifest: it is an index and a manifest at once")
    if told and told not in known:
        raise InvalidParameter(f"unsupported media type {told}: not an image")
    if kind.schema_version != 2:
        raise InvalidParameter(f"invalid manifest: unsupported schema version {kind.schema_version}")
    if is_index:
        if not kind.has("manifests"):
            raise InvalidParameter("invalid manifest: an index without manifests")
        return _index(data)
    if not kind.has("config") or not kind.has("layers"):
        raise InvalidParameter("invalid manifest: it has no config or no layers")
    return _manifest(data, kind)


def _index(data: bytes) -> Index:
    index = _decode(data, Index)
    manifests = index.manifests or []
    if len(manifests) > INDEX_MAX:
        raise InvalidParameter(
            f"invalid manifest: an index of {len(manifests)} manifests, at most {INDEX_MAX} are read"
        )
    _check(manifests)
    return index


def _manifest(data: bytes, kind: _Kind) -> Manifest:
    manifest = _decode(data, Manifest)
    config = manifest.config.media_type
    if config not in _CONFIGS or kind.artifact_type:
        what = (kind.artifact_type or config) if config in _CONFIGS | {_EMPTY} else config
        raise InvalidParameter(
            f'Encountered remote "{what}"({_KINDS.get(what, "unknown")}) when fetching: it is an artifact, not an image'
        )
    if len(manifest.layers) > LAYERS_MAX:
        raise InvalidParameter(
            f"max depth exceeded: the image has {len(manifest.layers)} layers, at most {LAYERS_MAX} can be mounted"
        )
    _check([manifest.config, *manifest.layers])
    if manifest.config.size > CONFIG_MAX:
        raise InvalidParameter(
            f"invalid manifest: a configuration of {manifest.config.size} bytes, at most {CONFIG_MAX} are read"
        )
    return manifest


def _check(descriptors: Iterable[Descriptor]) -> None:
    for descriptor in descriptors:
        check_digest(descriptor.digest)
        if not 0 <= descriptor.size < 1 << 63:
            raise InvalidParameter(f"invalid manifest: {descriptor.digest} with a size of {descriptor.size}")


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter(f"invalid manifest: {error}") from None


def is_attestation(descriptor: Descriptor) -> bool:
    """It says something about another manifest (provenance, contents) and is no image."""
    return _ATTESTATION in (descriptor.annotations or {})


def attesting(index: Index, digest: str) -> list[Descriptor]:
    """The manifests of an index that say something about the one with this digest."""
    return [
        descriptor
        for descriptor in index.manifests or []
        if is_attestation(descriptor) and (descriptor.annotations or {}).get(_ATTESTED) == digest
    ]


def parse_attestation(data: bytes) -> Manifest:
    """A manifest that attests something: no image, whatever its configuration looks like. Raises InvalidParameter."""
    kind = _decode(data, _Kind)
    if kind.schema_version != 2 or not kind.has("config") or not kind.has("layers") or kind.has("manifests"):
        raise InvalidParameter("invalid manifest: it has no config or no layers, or is an index")
    manifest = _decode(data, Manifest)
    if len(manifest.layers) > LAYERS_MAX:
        raise InvalidParameter(f"invalid manifest: {len(manifest.layers)} statements, at most {LAYERS_MAX} are kept")
    _check([manifest.config, *manifest.layers])
    return manifest


def elsewhere(descriptor: Descriptor) -> list[str]:
    """Where a non-distributable layer is to be had, which registries may not have (OCI layer.md, Docker's foreign
    layers); empty for any other."""
    kind = descriptor.media_type
    restricted = ".nondistributable." in kind or kind.startswith(_FOREIGN)
    return [url for url in descriptor.urls or [] if url.startswith(("https://", "http://"))] if restricted else []


def platform_of(descriptor: Descriptor) -> Platform | None:
    """Normalised; None where the descriptor does not say."""
    found = descriptor.platform
    if found is None or not (found.os or found.architecture):
        return None
    return Platform(found.os, found.architecture, found.variant).normal()


def choose(index: Index, platform: Platform) -> Descriptor:
    """The manifest that runs best on the platform: itself, then what it can run too, then one that does not say.

    Raises NotFound in Docker's words.
    """
    order = platform.runs()
    best: tuple[int, Descriptor] | None = None
    for descriptor in index.images:
        found = platform_of(descriptor)
        if found is not None and found not in order:
            continue
        rank = order.index(found) if found is not None else len(order)
        if best is None or rank < best[0]:
            best = (rank, descriptor)
    if best is None:
        raise NotFound(f"no matching manifest for {platform} in the manifest list entries")
    return best[1]
