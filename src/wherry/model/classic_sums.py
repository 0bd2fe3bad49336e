"""What histories call the files of a context: `file:SUM`, `dir:SUM`, `multi:SUM`.

Two kinds of sum. Ours is made of the list of files alone. The classic builder's is over a tar's headers and the
contents themselves (TarSum version 1: no times); there the code of those who write it is the specification.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from wherry.model.file_list import FileList, Listed

Contents = Callable[[Listed], Iterable[bytes]]
"""The pieces of a file's content."""

_LINKS_MAX = 1000  # components on the way, after which a path leads nowhere
_TYPES = {stat.S_IFREG: "0", stat.S_IFLNK: "2", stat.S_IFDIR: "5", stat.S_IFIFO: "6"}


def own_sum(files: FileList, paths: Sequence[bytes]) -> str:
    """Of what is at paths of the context: everything but times."""
    found = [
        (each.path, each.mode, each.uid, each.gid, each.link, each.digest)
        for path in paths
        for each in _below(files, path)
    ]
    return f"{_kind(files, paths)}:{hashlib.sha256(msgspec.msgpack.encode(found)).hexdigest()}"


def classic_sum(files: FileList, paths: Sequence[bytes], contents: Contents) -> str:
    """The same as Docker's classic builder has it. Reads all of the contents: blocking."""
    sums = [_classic(files, path, contents) for path in paths]
    return sums[0] if len(sums) == 1 else f"multi:{_joined(sums)}"


def _classic(files: FileList, path: bytes, contents: Contents) -> str:
    if _kind(files, [path]) == "file":
        return f"file:{_tar_sum(files.by_path[path], contents)}"
    return f"dir:{_joined(sorted(_followed_sum(files, each, contents) for each in _below(files, path)))}"


def _followed_sum(files: FileList, entry: Listed, contents: Contents) -> str:
    """A symlink counts as what it leads to in the context, and as its own path if that is nothing."""
    found = _followed(files, entry.path)
    there = files.by_path.get(found)
    return _tar_sum(there, contents) if there is not None else os.fsdecode(entry.path)


def _followed(files: FileList, path: bytes) -> bytes:
    """Where a path leads, symlinks followed, with the context as the root."""
    done, pending = b"", path.split(b"/")
    for _ in range(_LINKS_MAX + path.count(b"/")):
        if not pending:
            break
        name = pending.pop(0)
        if name in (b"", b"."):
            continue
        if name == b"..":
            done = done.rpartition(b"/")[0]
            continue
        whole = done + b"/" + name if done else name
        entry = files.by_path.get(whole)
        if entry is not None and stat.S_ISLNK(entry.mode):
            done = b"" if entry.link.startswith(b"/") else done
            pending[:0] = entry.link.split(b"/")
        else:
            done = whole
    return done


def _joined(sums: Iterable[str]) -> str:
    return hashlib.sha256(",".join(sums).encode()).hexdigest()


def _tar_sum(entry: Listed, contents: Contents) -> str:
    kind = stat.S_IFMT(entry.mode)
    fields = (
        (b"name", entry.path + (b"/" if kind == stat.S_IFDIR else b"")),
        (b"mode", b"%d" % stat.S_IMODE(entry.mode)),
        (b"uid", b"%d" % entry.uid),
        (b"gid", b"%d" % entry.gid),
        (b"size", b"%d" % (entry.size if kind == stat.S_IFREG else 0)),
        (b"typeflag", _TYPES[kind].encode()),
        (b"linkname", entry.link),
        (b"uname", b""),
        (b"gname", b""),
        (b"devmajor", b"0"),
        (b"devminor", b"0"),
    )
    found = hashlib.sha256(b"".join(name + value for name, value in fields))
    for piece in contents(entry) if entry.digest else ():
        found.update(piece)
    return found.hexdigest()


def _kind(files: FileList, paths: Sequence[bytes]) -> str:
    if len(paths) != 1:
        return "multi"
    entry = files.by_path.get(paths[0])
    return "dir" if not paths[0] or (entry is not None and stat.S_ISDIR(entry.mode)) else "file"


def _below(files: FileList, path: bytes) -> Iterator[Listed]:
    """What is at a path and below it, names in order; the root itself is in no list."""
    pending = [path]
    while pending:
        found = pending.pop()
        if found in files.by_path:
            yield files.by_path[found]
        names = sorted(files.names.get(found, ()), reverse=True)
        pending += [found + b"/" + name if found else name for name in names]
