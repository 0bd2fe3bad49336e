"""A tree of files as a list: what a client offers to a build, without the files' contents.

Order is that of a walk: a directory before what is in it, names in byte order. Paths are bytes, relative, without
`.` and `..`.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct

from wherry.errors import InvalidParameter

DIGEST_SIZE = 32
_KINDS = frozenset((stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO))


class Listed(Struct, frozen=True, array_like=True, gc=False):
    """One file. `mode` has its type, as st_mode (inode(7)); `digest` is the SHA-256 of a regular file's content."""

    path: bytes
    mode: int
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    link: bytes = b""  # of a symbolic link
    digest: bytes = b""


class FileList:
    """The files by path, and what is in each directory. The root itself is in no list: it is a directory."""

    def __init__(self, entries: Iterable[Listed]) -> None:
        self.by_path: dict[bytes, Listed] = {}
        self.names: dict[bytes, list[bytes]] = {b"": []}
        for entry in entries:
            self._add(entry)

    @classmethod
    def empty(cls) -> FileList:
        return cls(())

    def _add(self, entry: Listed) -> None:
        parent, _, name = entry.path.rpartition(b"/")
        siblings = self.names.get(parent)
        if siblings is None or not name or name in (b".", b"..") or b"\0" in name or entry.path in self.by_path:
            raise InvalidParameter(f"invalid list of files at {entry.path!r}: no such directory, or listed twice")
        kind = stat.S_IFMT(entry.mode)
        if kind not in _KINDS or len(entry.digest) != (DIGEST_SIZE if kind == stat.S_IFREG else 0):
            raise InvalidParameter(f"invalid list of files at {entry.path!r}: its kind or digest cannot be")
        siblings.append(name)
        if kind == stat.S_IFDIR:
            self.names[entry.path] = []
        self.by_path[entry.path] = entry

    def __iter__(self) -> Iterator[Listed]:
        return iter(self.by_path.values())

    def __len__(self) -> int:
        return len(self.by_path)

    def contents(self) -> dict[bytes, int]:
        """Digest and size of every content, once."""
        return {entry.digest: entry.size for entry in self.by_path.values() if entry.digest}

    def digest(self) -> str:
        """Of the whole list, times included."""
        return "sha256:" + hashlib.sha256(encode(self.by_path.values())).hexdigest()


def encode(entries: Iterable[Listed]) -> bytes:
    """As MessagePack: an array of arrays, the fields in the order of `Listed`."""
    return msgspec.msgpack.encode(list(entries))


def decode(data: bytes) -> FileList:
    """Raises InvalidParameter."""
    try:
        return FileList(msgspec.msgpack.decode(data, type=list[Listed]))
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"invalid list of files: {error}") from None
