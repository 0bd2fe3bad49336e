"""How a layer's tar is made again from the layer's files, byte for byte: what lies between the contents, and which file
comes where. Beside a layer that was made here it takes the place of a second copy of everything.

On disk: gzip of records, each the lengths of three fields (`_RECORD`), then literal bytes and the path of the file
whose content follows them; the last record has no file.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Any, cast

from isal import igzip

from wherry.errors import SystemFailure
from wherry.linux.safepath import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

_RECORD = struct.Struct(">IIQ")  # bytes of the literal, of the path, of the file
_WRITTEN_AT = 1 << 18  # bytes
_PIECE = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class RecipeWriter:
    """Takes a tar down while it is made. `close` before it is read. Methods raise OSError."""

    def __init__(self, path: Path) -> None:
        self._file = cast(IO[bytes], cast(Any, igzip).open(path, "wb", compresslevel=1))
        self._literal = bytearray()
        self._records = bytearray()

    def literal(self, data: bytes) -> None:
        """These bytes come next."""
        self._literal += data
        if len(self._literal) >= _WRITTEN_AT:
            self.content(b"", 0)

    def content(self, path: bytes, size: int) -> None:
        """The first `size` bytes of this file come next. The path is below the layer's directory."""
        self._records += _RECORD.pack(len(self._literal), len(path), size) + self._literal + path
        self._literal.clear()
        if len(self._records) >= _WRITTEN_AT:
            self._file.write(self._records)
            self._records.clear()

    def close(self) -> None:
        """Idempotent."""
        if self._file.closed:
            return
        self.content(b"", 0)
        self._file.write(self._records)
        self._file.close()


class Retelling(io.RawIOBase):
    """The tar, made again as it is read. Raises SystemFailure where a file is not what it was.

    The digest is compared at the end: whoever reads all of it has the layer's bytes or the error.
    """

    def __init__(self, recipe: Path, root: Path, diff_id: str) -> None:
        self._pieces = _pieces(recipe, root, diff_id)
        self._rest = memoryview(b"")
        self._position = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Between 1 and `size` bytes, b"" at the end."""
        while not self._rest:
            made = next(self._pieces, None)
            if made is None:
                return b""
            self._rest = memoryview(made)
        piece, self._rest = (self._rest, self._rest[:0]) if size < 0 else (self._rest[:size], self._rest[size:])
        self._position += len(piece)
        return bytes(piece)

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        self._pieces.close()
        super().close()


def _pieces(recipe: Path, root: Path, diff_id: str) -> Generator[bytes, None, None]:
    found = hashlib.sha256()
    for piece in _made_again(recipe, root):
        found.update(piece)
        yield piece
    if f"sha256:{found.hexdigest()}" != diff_id:
        raise SystemFailure(f"layer {diff_id} is damaged: its files in {root} were changed; pull or build it again")


def _made_again(recipe: Path, root: Path) -> Iterator[bytes]:
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with cast(IO[bytes], cast(Any, igzip).open(recipe, "rb")) as file:
            waiting = bytearray()
            while record := file.read(_RECORD.size):
                literal, path, size = _RECORD.unpack(record)
                waiting += file.read(literal)
                for piece in _content(directory, file.read(path), size) if path else ():
                    waiting += piece
                    if len(waiting) >= _PIECE // 2:
                        yield bytes(waiting)
                        waiting.clear()
            yield bytes(waiting)
    finally:
        os.close(directory)


def _content(directory: int, path: bytes, size: int) -> Iterator[bytes]:
    try:
        fd = openat2(directory, path, _READ, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    except OSError as error:
        raise SystemFailure(f"a layer is damaged: {os.fsdecode(path)}: {error.strerror}") from error
    try:
        while size:
            piece = os.read(fd, min(size, _PIECE))
            if not piece:
                raise SystemFailure(f"a layer is damaged: {os.fsdecode(path)} is too short")
            size -= len(piece)
            yield piece
    finally:
        os.close(fd)
