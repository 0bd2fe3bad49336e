"""What overlayfs has written into a snapshot's upper directory, told in terms of files.

Kernel Documentation/filesystems/overlayfs.rst: a character device 0:0 hides a name, a directory with the xattr
trusted.overlay.opaque hides what is below it, any other directory merges with those below.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator, Sequence

from wherry.model.filechanges import Change, Kind
from wherry.model.idmaps import IdMap
from wherry.storage.packing import END, Found, empty_file, pack, walk
from wherry.storage.recipes import RecipeWriter

WHITEOUT_DEVICE = os.makedev(0, 0)
OPAQUE_XATTR = b"trusted.overlay.opaque"
_CAPABILITY = b"security.capability"


def is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == WHITEOUT_DEVICE


def is_opaque(path: bytes) -> bool:
    try:
        return os.getxattr(path, OPAQUE_XATTR) == b"y"
    except OSError:
        return False


def _of(fd: int) -> bytes:
    return b"/proc/self/fd/%d" % fd


class Merged:
    """Layer directories seen as one, top first. They do not change, so their paths can be trusted."""

    def __init__(self, directories: Sequence[bytes]) -> None:
        self.directories = directories

    def look(self, name: bytes) -> tuple[os.stat_result, bytes] | None:
        """What a name is, and the path of that; None where there is nothing."""
        for directory in self.directories:
            path = directory + b"/" + name
            try:
                found = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            return None if is_whiteout(found) else (found, path)
        return None

    def find(self, path: bytes) -> tuple[os.stat_result, bytes] | None:
        """As `look`, for a path; it is followed through directories alone."""
        folder, _, name = path.rpartition(b"/")
        here = self
        for part in folder.split(b"/") if folder else ():
            here = here.below(part)
        return here.look(name)

    def below(self, name: bytes) -> Merged:
        """The directory of that name; empty where it is none."""
        directories = []
        for directory in self.directories:
            path = directory + b"/" + name
            try:
                found = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not stat.S_ISDIR(found.st_mode):
                break
            directories.append(path)
            if is_opaque(path):
                break
        return Merged(directories)

    def names(self) -> set[bytes]:
        """What is visible."""
        found: set[bytes] = set()
        hidden: set[bytes] = set()
        for directory in self.directories:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name in found or entry.name in hidden:
                        continue
                    whiteout = is_whiteout(entry.stat(follow_symlinks=False))
                    (hidden if whiteout else found).add(entry.name)
        return found


def changes(upper: str, lowers: Sequence[str], ids: IdMap | None = None) -> list[Change]:
    """What the upper directory adds to, changes in and deletes from the directories below (top first), by path.

    Owners in the upper directory are `ids`' users of the host.
    A directory in which something changed has changed. Blocking.
    """
    kinds: dict[bytes, Kind] = {}
    merged: dict[bytes, Merged] = {b"": Merged([os.fsencode(lower) for lower in lowers])}
    seen: dict[bytes, set[bytes]] = {}  # what opaque directories bring themselves
    root = os.open(upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for item in walk(root):
            if not item.path:
                continue
            parent, _, name = item.path.rpartition(b"/")
            if parent in seen:
                seen[parent].add(name)
            _compare(item, name, merged[parent], kinds, ids)
            if stat.S_ISDIR(item.stat.st_mode):
                merged[item.path] = merged[parent].below(name)
                if is_opaque(_of(item.fd)):
                    seen[item.path] = set()
    finally:
        os.close(root)
    for path, names in seen.items():
        for name in merged[path].names() - names:
            kinds[path + b"/" + name] = Kind.DELETED
    for path in list(kinds):
        while path := path.rpartition(b"/")[0]:
            kinds.setdefault(path, Kind.MODIFIED)
    return [Change("/" + os.fsdecode(path), kinds[path]) for path in sorted(kinds, key=lambda path: path.split(b"/"))]


def _compare(item: Found, name: bytes, below: Merged, kinds: dict[bytes, Kind], ids: IdMap | None) -> None:
    old = below.look(name)
    if is_whiteout(item.stat):
        if old is not None:
            kinds[item.path] = Kind.DELETED
    elif old is None:
        kinds[item.path] = Kind.ADDED
    elif _differ(item, *old, ids):
        kinds[item.path] = Kind.MODIFIED


def _differ(item: Found, old: os.stat_result, path: bytes, ids: IdMap | None) -> bool:
    """Whether a file's attributes tell that it was changed; a directory's size and time do not."""
    new = item.stat
    owner = ids.to_container(new.st_uid, new.st_gid) if ids else (new.st_uid, new.st_gid)
    if (new.st_mode, owner, new.st_rdev) != (old.st_mode, (old.st_uid, old.st_gid), old.st_rdev):
        return True
    if not stat.S_ISDIR(new.st_mode) and (new.st_size, new.st_mtime_ns) != (old.st_size, old.st_mtime_ns):
        return True
    return _capability(_of(item.fd)) != _capability(path)


def _capability(path: bytes) -> bytes:
    try:
        return os.getxattr(path, _CAPABILITY, follow_symlinks=path.startswith(b"/proc/self/fd/"))
    except OSError:
        return b""


def diff(
    upper: str,
    newest_ns: int | None = None,
    ids: IdMap | None = None,
    recipe: RecipeWriter | None = None,
    *,
    at_rest: bool = False,
) -> Generator[bytes, None, None]:
    """The upper directory as an OCI layer (image-spec layer.md, "Representing Changes"), a stream of pieces.

    No time in it is after `newest_ns`. Owners on disk are `ids`' users of the host. `recipe` is told
    how the stream is made of files that have these paths. `at_rest`: nobody changes anything there. Empty but for the
    end mark when nothing was written. Blocking. Raises OSError.
    """
    root = os.open(upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield from _as_layer(walk(root, no_devices=at_rest), newest_ns, ids, recipe)
    finally:
        os.close(root)
    if recipe is not None:
        recipe.literal(END)
    yield END


def _as_layer(
    found: Iterator[Found], newest_ns: int | None, ids: IdMap | None, recipe: RecipeWriter | None
) -> Iterator[bytes]:
    """Ordinary members between the ones that stand for what is hidden."""
    marks: list[bytes] = []

    def naming(item: Found) -> bytes | None:
        if not item.path:
            return None
        folder, slash, name = item.path.rpartition(b"/")
        if is_whiteout(item.stat):
            marks.append(empty_file(folder + slash + b".wh." + name))
            return None
        if stat.S_ISDIR(item.stat.st_mode) and is_opaque(_of(item.fd)):
            marks.append(empty_file(item.path + b"/.wh..wh..opq"))
        return item.path

    yield from pack(found, naming, newest_ns=newest_ns, ids=ids, recipe=recipe)
    last = b"".join(marks)
    if recipe is not None:
        recipe.literal(last)
    yield last
