"""What builds leave for builds elsewhere: cache manifests and configurations in BuildKit's format. Pure.

A configuration lists layers, each a blob on a parent, and records: under a digest, which is a key of ours, the layers
that a step came to. What is read is not trusted: sizes and counts are bounded here, contents are verified by whoever
fetches them. Source: BuildKit's docs (cache backends), its types `CacheConfig` and `CacheRecord`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from wherry.errors import InvalidParameter
from wherry.model.image import digest_of, rfc3339_ns
from wherry.model.manifests import LAYERS_MAX, MEDIA_DOCKER_INDEX, MEDIA_INDEX, MEDIA_MANIFEST, Descriptor
from wherry.model.timestamps import rfc3339_nano

MEDIA_CACHE = "application/vnd.buildkit.cacheconfig.v0"
INLINE = "moby.buildkit.cache.v0"
"""Where an image's configuration has the records of the steps that made it."""

CONFIG_MAX = 16 << 20  # bytes
RECORDS_MAX = 100_000  # and results of theirs, together
_UNCOMPRESSED, _CREATED = "containerd.io/uncompressed", "buildkit/createdat"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Result(Struct, frozen=True):
    """What one key stands for: diff IDs, bottom first, and when the topmost was made (ns since the epoch)."""

    diff_ids: tuple[str, ...]
    created_ns: int = 0


class Offer(Struct, frozen=True):
    """A cache that was read: results by key, and the blobs of layers by diff ID."""

    results: dict[str, Result] = field(default_factory=dict)
    blobs: dict[str, Descriptor] = field(default_factory=dict)


class _Layer(Struct):
    blob: str
    parent: int = -1


class _LayerResult(Struct, rename="camel", omit_defaults=True):
    layer: int
    created_at: str = ""


class _Record(Struct, omit_defaults=True):
    digest: str = ""
    layers: list[_LayerResult] | None = None


class _Config(Struct):
    layers: list[_Layer] | None = None
    records: list[_Record] | None = None


class _Manifest(Struct):
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None


# writing


def configuration(results: Mapping[str, Result], blobs: Mapping[str, Descriptor]) -> bytes:
    """The document of these results."""
    layers: list[_Layer] = []
    places: dict[tuple[str, ...], int] = {}
    records: list[_Record] = []
    for key, result in sorted(results.items()):
        parent = -1
        for height in range(1, len(result.diff_ids) + 1):
            chain = result.diff_ids[:height]
            if chain not in places:
                places[chain] = len(layers)
                layers.append(_Layer(blobs[chain[-1]].digest, parent))
            parent = places[chain]
        records.append(_record(key, parent, result))
    return msgspec.json.encode(_Config(layers, records))


def inline(results: Mapping[str, Result], diff_ids: Sequence[str]) -> str:
    """The records of an image that has these layers, as its configuration has them; "" if there are none."""
    whole = tuple(diff_ids)
    records = [
        _record(key, len(result.diff_ids) - 1, result)
        for key, result in sorted(results.items())
        if result.diff_ids == whole[: len(result.diff_ids)]
    ]
    return base64.b64encode(msgspec.json.encode(records)).decode() if records else ""


def manifest(config: Descriptor, blobs: Mapping[str, Descriptor], *, image: bool, oci: bool) -> tuple[str, bytes]:
    """The manifest that names configuration and layers, with its media type: as an image's, or as an index."""
    layers = [_annotated(diff_id, blob) for diff_id, blob in blobs.items()]
    if image:
        media_type, parts = MEDIA_MANIFEST, {"config": config, "layers": layers}
    else:
        media_type = MEDIA_INDEX if oci else MEDIA_DOCKER_INDEX
        parts = {"manifests": [*layers, config]}
    return media_type, msgspec.json.encode({"schemaVersion": 2, "mediaType": media_type, **parts})


def described(document: bytes) -> Descriptor:
    """A configuration's descriptor."""
    return Descriptor(MEDIA_CACHE, digest_of(document), len(document))


def _record(key: str, layer: int, result: Result) -> _Record:
    created = rfc3339_nano(result.created_ns) if result.created_ns else ""
    return _Record(f"sha256:{key}", [_LayerResult(layer, created)])


def _annotated(diff_id: str, blob: Descriptor) -> Descriptor:
    return msgspec.structs.replace(blob, annotations={_UNCOMPRESSED: diff_id})


# reading


def parts_of(document: bytes) -> tuple[Descriptor, list[Descriptor]] | None:
    """The configuration and layers that a manifest names; None where it is no cache's. Raises InvalidParameter."""
    found = _decode(document, _Manifest)
    if found.config is not None and found.config.media_type == MEDIA_CACHE:
        return _checked(found.config), found.layers or []
    given = found.manifests or []
    config = next((each for each in given if each.media_type == MEDIA_CACHE), None)
    return None if config is None else (_checked(config), [each for each in given if each is not config])


def read(document: bytes, layers: Iterable[Descriptor]) -> Offer:
    """What a configuration offers, as far as its layers are described. Raises InvalidParameter."""
    config = _decode(document, _Config)
    known = {layer.digest: layer for layer in layers if _usable(layer)}
    table = config.layers or []

    def chain(place: int) -> tuple[str, ...] | None:
        found: list[str] = []
        while place != -1:
            if not 0 <= place < len(table) or len(found) == LAYERS_MAX or table[place].blob not in known:
                return None
            found.append(table[place].blob)
            place = table[place].parent
        return tuple(reversed(found))

    return _offer(config.records or [], chain, known)


def read_inline(text: object, diff_ids: Sequence[str], layers: Sequence[Descriptor]) -> Offer:
    """What an image offers; `layers` are its blobs, parallel to the diff IDs, or none. Raises InvalidParameter."""
    if not isinstance(text, str):
        raise InvalidParameter(f"invalid cache: {INLINE} is no text")
    try:
        records = _decode(base64.b64decode(text, validate=True), list[_Record])
    except (binascii.Error, ValueError):
        raise InvalidParameter(f"invalid cache: {INLINE} is not base64") from None
    results = {}
    for key, result in _bounded(records):
        if 0 <= result.layer < len(diff_ids):
            results[key] = Result(tuple(diff_ids[: result.layer + 1]), rfc3339_ns(result.created_at))
    return Offer(results, dict(zip(diff_ids, layers, strict=True)) if layers else {})


def _offer(
    records: list[_Record], chain: Callable[[int], tuple[str, ...] | None], known: Mapping[str, Descriptor]
) -> Offer:
    results: dict[str, Result] = {}
    for key, result in _bounded(records):
        if digests := chain(result.layer):
            diff_ids = tuple((known[digest].annotations or {})[_UNCOMPRESSED] for digest in digests)
            results[key] = Result(diff_ids, rfc3339_ns(result.created_at))
    return Offer(results, {(layer.annotations or {})[_UNCOMPRESSED]: layer for layer in known.values()})


def _bounded(records: list[_Record]) -> list[tuple[str, _LayerResult]]:
    """The results with their keys."""
    found = len(records) + sum(len(record.layers or ()) for record in records)
    if found > RECORDS_MAX:
        raise InvalidParameter(f"invalid cache: {found} records and results, at most {RECORDS_MAX} are read")
    return [(key, result) for record in records if (key := _key(record.digest)) for result in record.layers or ()]


def _key(digest: str) -> str:
    return digest.removeprefix("sha256:") if _DIGEST.fullmatch(digest) else ""


def _usable(layer: Descriptor) -> bool:
    diff_id = (layer.annotations or {}).get(_UNCOMPRESSED, "")
    return bool(_DIGEST.fullmatch(layer.digest) and _DIGEST.fullmatch(diff_id)) and 0 <= layer.size < 1 << 63


def _checked(config: Descriptor) -> Descriptor:
    if not _DIGEST.fullmatch(config.digest) or not 0 <= config.size <= CONFIG_MAX:
        raise InvalidParameter(f"invalid cache: a configuration of {config.size} bytes, at most {CONFIG_MAX} are read")
    return config


def _decode(document: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(document, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter(f"invalid cache: {error}") from None
