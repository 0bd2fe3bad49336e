"""A build context that came as a tar archive: its files' contents go into the store, and a list of them remains.

As the classic builder takes it: owners are forgotten, everything is root's; devices and sockets are left out.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable

from wherry.engine.builds.trees import Connect
from wherry.errors import InvalidParameter, NotFound
from wherry.model.dockerfile.ignore import IgnoreRules, Matched
from wherry.model.file_list import FileList, Listed
from wherry.storage import tar
from wherry.storage.content import IN_MEMORY, Contents
from wherry.storage.streams import Decompressed
from wherry.storage.tar import Source, TarReader
from wherry.storage.writing import inside, show

_KINDS = {
    tar.REGULAR: stat.S_IFREG,
    tar.DIRECTORY: stat.S_IFDIR,
    tar.SYMLINK: stat.S_IFLNK,
    tar.FIFO: stat.S_IFIFO,
}


def read_archive(source: Source, contents: Contents) -> FileList:
    """The files of a tar archive, compressed or not. Blocking. Raises InvalidParameter (BadArchive)."""
    found: dict[tuple[bytes, ...], Listed] = {}
    reader = TarReader(Decompressed(source), padded=False)
    for entry in reader:
        parts = tuple(inside(entry.name))
        if not parts:
            continue
        path = b"/".join(parts)
        if entry.kind == tar.LINK:
            target = found.get(tuple(inside(entry.link)))
            if target is None or not target.digest:
                raise InvalidParameter(f"{show(entry.name)}: a link to {show(entry.link)}, which is no file before it")
            found[parts] = Listed(path, target.mode, 0, 0, target.mtime_ns, target.size, b"", target.digest)
            continue
        kind = _KINDS.get(entry.kind)
        if kind is None:
            continue
        size, digest = _take(reader, entry, contents) if kind == stat.S_IFREG else (0, b"")
        link = entry.link if kind == stat.S_IFLNK else b""
        _forget_below(found, parts, kind)
        mode = entry.mode & (0o7777 if kind == stat.S_IFDIR else 0o1777)  # giving a file to root takes these from it
        found[parts] = Listed(path, kind | mode, 0, 0, entry.mtime_ns, size, link, digest)
    return FileList(_with_folders(found))


def _take(reader: TarReader, entry: tar.Entry, contents: Contents) -> tuple[int, bytes]:
    if entry.extents is None and entry.size <= IN_MEMORY:
        data = reader.read(IN_MEMORY)
        return len(data), contents.put(data)
    if entry.extents is None:
        with contents.begin() as writing:
            for piece in reader.chunks():
                writing.write(piece)
            return writing.size, writing.commit()
    return contents.take_sparse(lambda fd: reader.write_to(fd, entry))


def _forget_below(found: dict[tuple[bytes, ...], Listed], parts: tuple[bytes, ...], kind: int) -> None:
    """What came before under this name is replaced, unless a directory is named again."""
    before = found.get(parts)
    if before is not None and stat.S_ISDIR(before.mode) and kind != stat.S_IFDIR:
        for other in [other for other in found if other[: len(parts)] == parts]:
            del found[other]


def _with_folders(found: dict[tuple[bytes, ...], Listed]) -> Iterable[Listed]:
    """In the order of a walk, with the directories that the archive only implied."""
    for parts in list(found):
        for depth in range(1, len(parts)):
            folder = parts[:depth]
            above = found.get(folder)
            if above is None:
                found[folder] = Listed(b"/".join(folder), stat.S_IFDIR | 0o755)
            elif not stat.S_ISDIR(above.mode):
                raise InvalidParameter(f"{show(b'/'.join(parts))}: {show(above.path)} is not a directory")
    return [found[parts] for parts in sorted(found)]


class Uploaded:
    """A client that has sent everything beforehand. It has no secrets and no agent."""

    def __init__(self, files: FileList) -> None:
        self._files = files

    async def files(self, name: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> FileList:
        if name != "context":
            raise NotFound(f"no build context named {name}")
        return without(self._files, exclude)

    async def secret(self, id: str) -> bytes | None:
        return None

    async def agent(self, id: str) -> Connect | None:
        return None


def without(files: FileList, exclude: Iterable[str]) -> FileList:
    """The files that no pattern leaves out; a directory left out still comes if something in it does."""
    rules = IgnoreRules(exclude)
    if not rules:
        return files
    matched: dict[bytes, Matched] = {b"": rules.root}
    kept: set[bytes] = set()
    for entry in files:
        parent = entry.path.rpartition(b"/")[0]
        found = rules.enter(os.fsdecode(entry.path), matched[parent])
        if stat.S_ISDIR(entry.mode):
            matched[entry.path] = found
        if not found.ignored:
            kept.add(entry.path)
            while parent and parent not in kept:
                kept.add(parent)
                parent = parent.rpartition(b"/")[0]
    return FileList(entry for entry in files if entry.path in kept)


def identity(files: FileList, dockerfile: str) -> str:
    """Which project an archive is of, as far as that can be told: by the names at its top."""
    hashed = hashlib.sha256(dockerfile.encode(errors="surrogateescape"))
    for name in files.names[b""]:
        hashed.update(b"\0" + name)
    return f"archive {hashed.hexdigest()}"
