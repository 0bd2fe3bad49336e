"""Annotations of what a build makes: `[TYPE[PLATFORM],…:]KEY=VALUE`, as clients write them (OCI annotations.md).

The type says of which document: the image's manifest (the default), the index above it, or what an index or a layout
says beside the digest of either (its descriptor).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from wherry.errors import InvalidParameter
from wherry.model import platforms
from wherry.model.gotext import quote
from wherry.model.platforms import Platform

MANIFEST, INDEX = "manifest", "index"
MANIFEST_DESCRIPTOR, INDEX_DESCRIPTOR = "manifest-descriptor", "index-descriptor"
_KINDS = frozenset({MANIFEST, INDEX, MANIFEST_DESCRIPTOR, INDEX_DESCRIPTOR})
_TYPE = re.compile(r"([a-z-]+)(?:\[([^\]]*)\])?")


class Annotation(Struct, frozen=True):
    """`platform` None: of every platform's."""

    kind: str
    key: str
    value: str
    platform: Platform | None = None


def parse_annotation(text: str, host: Platform) -> list[Annotation]:
    """One for each type that is named. Raises InvalidParameter."""
    left, separator, value = text.partition("=")
    if not separator or not left:
        raise InvalidParameter(f"invalid annotation {quote(text)}, expected key=value")
    types, colon, key = left.partition(":")
    if not colon:
        return [Annotation(MANIFEST, left, value)]
    found = []
    for each in types.split(","):
        match = _TYPE.fullmatch(each)
        if match is None or match[1] not in _KINDS:
            raise InvalidParameter(f"unknown annotation type {quote(each)}")
        platform = platforms.parse(match[2], host) if match[2] else None
        if platform is not None and match[1] in (INDEX, INDEX_DESCRIPTOR):
            raise InvalidParameter(f"invalid annotation {quote(text)}: an index is of no one platform")
        found.append(Annotation(match[1], key, value, platform))
    if not key:
        raise InvalidParameter(f"invalid annotation {quote(text)}, expected key=value")
    return found


def chosen(annotations: Iterable[Annotation], kind: str, platform: Platform | None = None) -> dict[str, str]:
    """Those of one document; a later one of the same key counts, one for the platform before one for all."""
    fitting = [found for found in annotations if found.kind == kind and found.platform in (None, platform)]
    fitting.sort(key=lambda found: found.platform is not None)
    return {found.key: found.value for found in fitting}
