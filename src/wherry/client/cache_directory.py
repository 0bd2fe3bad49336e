"""A directory in which the engine keeps a build cache, as an OCI layout (image-spec image-layout.md).

The engine names files by their paths in the layout, and no others are read or written, whatever it asks for.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator

_PATH = re.compile(r"index\.json|oci-layout|blobs/sha256/([0-9a-f]{64})")
_PIECE = 1 << 18


class NotALayout(Exception):
    """The engine asks for what is no part of a layout, or sends what is not what its name says."""


class CacheDirectory:
    def __init__(self, path: str) -> None:
        self._path = path

    def has(self, path: str) -> bool:
        return os.path.isfile(self._place(path)[0])

    def read(self, path: str) -> Iterator[bytes]:
        """Nothing where there is no such file."""
        try:
            with open(self._place(path)[0], "rb") as file:
                while piece := file.read(_PIECE):
                    yield piece
        except FileNotFoundError:
            return

    def write(self, path: str, pieces: Iterable[bytes]) -> None:
        """The file is there whole or not at all. Raises OSError, NotALayout."""
        place, digest = self._place(path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        part = f"{place}.part"
        found = hashlib.sha256()
        try:
            with open(part, "wb") as file:
                for piece in pieces:
                    found.update(piece)
                    file.write(piece)
            if digest and found.hexdigest() != digest:
                raise NotALayout(f"{path} is not what its name says")
            os.replace(part, place)
        finally:
            if os.path.exists(part):
                os.unlink(part)

    def _place(self, path: str) -> tuple[str, str]:
        match = _PATH.fullmatch(path)
        if match is None:
            raise NotALayout(f"the engine asks for {path}, which is no part of a cache")
        return os.path.join(self._path, path), match[1] or ""
