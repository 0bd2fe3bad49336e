"""Writing tar archives of trees that may change meanwhile, as a stream of pieces.

Nothing is ever opened by a path with more than one component that could lead astray: directories are opened by the
kernel beneath their root without symlinks, and each member is read through one descriptor of that very object.
Formats: POSIX.1-2017 pax, "ustar Interchange Format"; pax records only where ustar has no room.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from wherry.linux.safepath import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from wherry.model.idmaps import IdMap
from wherry.storage.recipes import RecipeWriter
from wherry.storage.tar import BLOCK, BLOCK_DEVICE, CHARACTER, DIRECTORY, FIFO, LINK, REGULAR, SYMLINK, Entry

END = bytes(2 * BLOCK)
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_READ_NAME = _READ | os.O_NOFOLLOW
_ZEROS = bytes(BLOCK)
PIECE = 1 << 20  # bytes; a piece is about this long
_SMALL_ID, _SMALL_SIZE = 8**7, 8**11
# overlayfs's own, and labels that mean something to this host alone
_UNWRITTEN_XATTRS = (b"trusted.overlay.", b"user.overlay.", b"security.selinux", b"security.ima", b"security.evm")
_KINDS = {
    stat.S_IFREG: REGULAR,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
}
_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS


class Found(NamedTuple):
    """An object of a tree: its path below the root ("" for the root), and a descriptor for the moment.

    That is an O_PATH one, unless it is `readable`.
    """

    path: bytes
    fd: int
    stat: os.stat_result
    readable: bool = False


def open_directory(root: int, path: bytes) -> int:
    """A directory beneath `root`, to be listed. Raises OSError."""
    return openat2(root, path or b".", os.O_RDONLY | os.O_DIRECTORY, resolve=_BENEATH)


def walk(root: int, *, no_devices: bool = False) -> Iterator[Found]:
    """Everything below a directory, each directory before what is in it, names in order. The root itself comes first.

    `no_devices`: the kernel opens no device here (mount(8), nodev), or nobody can put one there, so that what is listed
    as a file or a directory is opened for reading at once, whatever somebody may put in its place. What vanishes
    meanwhile is left out. Raises OSError for what cannot be read.
    """
    yield Found(b"", root, os.fstat(root))
    pending: list[tuple[bytes, Iterator[tuple[bytes, bool]]]] = []
    directory = open_directory(root, b"")
    current = b""
    try:
        pending.append((b"", _names(directory)))
        while pending:
            path, names = pending[-1]
            name, plain = next(names, (b"", False))
            if not name:
                pending.pop()
                continue
            try:
                if path != current:
                    reopened = open_directory(root, path)
                    os.close(directory)
                    directory, current = reopened, path
                fd, readable = _opened(directory, name, plain and no_devices)
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                found = Found(path + b"/" + name if path else name, fd, os.fstat(fd), readable)
                yield found
                if stat.S_ISDIR(found.stat.st_mode):
                    inner = os.open(b"/proc/self/fd/%d" % fd, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    os.close(directory)
                    directory, current = inner, found.path
                    pending.append((found.path, _names(directory)))
            finally:
                os.close(fd)
    finally:
        os.close(directory)


def _names(directory: int) -> Iterator[tuple[bytes, bool]]:
    """Names in order, each with whether it is a file or a directory now."""
    with os.scandir(directory) as entries:
        found = [
            (os.fsencode(entry.name), entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False))
            for entry in entries
        ]
    return iter(sorted(found))


def _opened(directory: int, name: bytes, at_once: bool) -> tuple[int, bool]:
    """A descriptor of what is there, and whether it can be read."""
    if at_once:
        try:
            return os.open(name, _READ_NAME, dir_fd=directory), True
        except OSError:
            pass  # it is something else by now
    return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory), False


Naming = Callable[[Found], bytes | None]
"""The name of a member without a directory's slash, None to leave it out."""


def pack(
    found: Iterable[Found],
    naming: Naming,
    *,
    newest_ns: int | None = None,
    ids: IdMap | None = None,
    recipe: RecipeWriter | None = None,
) -> Iterator[bytes]:
    """The archive of these objects, without the end mark: links to one file as hard links, sockets left out.

    With `ids` owners are written as the container sees them. What is younger than `newest_ns` is as old as that. A file
    that shrinks meanwhile is filled with zeros. `recipe` is told all of it. Raises OSError.
    """
    links: dict[tuple[int, int], bytes] = {}
    waiting = bytearray()
    for item in found:
        name = naming(item)
        kind = _KINDS.get(stat.S_IFMT(item.stat.st_mode))
        if name is None or kind is None:
            continue
        if kind == REGULAR and item.stat.st_size:
            reading = item.fd if item.readable else os.open(b"/proc/self/fd/%d" % item.fd, _READ)
            try:
                entry = _entry(item, name, kind, links, newest_ns, ids, reading)
                waiting += (head := header(entry))
                if recipe is not None:
                    recipe.literal(head)
                    if entry.size:
                        recipe.content(entry.name, entry.size)
                        recipe.literal(_ZEROS[: -entry.size % BLOCK])
                if entry.size and entry.size <= PIECE - len(waiting) % PIECE:
                    waiting += _exactly(reading, entry.size)
                elif entry.size:
                    yield bytes(waiting)
                    waiting.clear()
                    yield from _content(reading, entry.size)
                waiting += _ZEROS[: -entry.size % BLOCK]
            finally:
                if not item.readable:
                    os.close(reading)
        else:
            waiting += (head := header(_entry(item, name, kind, links, newest_ns, ids)))
            if recipe is not None:
                recipe.literal(head)
        if len(waiting) >= PIECE // 2:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


def empty_file(name: bytes) -> bytes:
    """The member that a whiteout is."""
    entry = Entry()
    entry.name = name
    return header(entry)


def _entry(
    item: Found,
    name: bytes,
    kind: bytes,
    links: dict[tuple[int, int], bytes],
    newest_ns: int | None,
    ids: IdMap | None,
    reading: int = -1,
) -> Entry:
    found, entry = item.stat, Entry()
    entry.kind = kind
    entry.name = name + b"/" if kind == DIRECTORY else name
    entry.mode = stat.S_IMODE(found.st_mode)
    entry.uid, entry.gid = ids.to_container(found.st_uid, found.st_gid) if ids else (found.st_uid, found.st_gid)
    entry.mtime_ns = found.st_mtime_ns // 1_000_000_000 * 1_000_000_000  # whole seconds, as other engines write
    if newest_ns is not None:
        entry.mtime_ns = min(entry.mtime_ns, newest_ns)
    if found.st_nlink > 1 and kind != DIRECTORY:
        first = links.setdefault((found.st_dev, found.st_ino), name)
        if first != name:
            entry.kind, entry.link = LINK, first
            return entry
    if kind == REGULAR:
        entry.size = found.st_size
    elif kind == SYMLINK:
        entry.link = os.readlink(b"", dir_fd=item.fd)
    elif kind in (CHARACTER, BLOCK_DEVICE):
        entry.major, entry.minor = os.major(found.st_rdev), os.minor(found.st_rdev)
    place = reading if reading >= 0 else item.fd if item.readable else b"/proc/self/fd/%d" % item.fd
    try:
        for attribute in map(os.fsencode, os.listxattr(place)):
            if not attribute.startswith(_UNWRITTEN_XATTRS):
                entry.xattrs[attribute] = os.getxattr(place, attribute)
    except OSError:
        pass  # a file system without any, or the attribute has just been removed
    return entry


def _exactly(reading: int, size: int) -> bytes:
    """Exactly `size` bytes of an open file, not many."""
    piece = os.read(reading, size)
    return piece if len(piece) == size else piece + b"".join(_content(reading, size - len(piece)))


def _content(reading: int, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes of an open file, in pieces."""
    while size:
        piece = os.read(reading, min(size, PIECE)) or bytes(min(size, PIECE))
        size -= len(piece)
        yield piece


def header(entry: Entry) -> bytes:
    """One member's header blocks."""
    records: dict[bytes, bytes] = {}
    seconds = entry.mtime_ns // 1_000_000_000
    if len(entry.name) > 100:
        records[b"path"] = entry.name
    if len(entry.link) > 100:
        records[b"linkpath"] = entry.link
    if entry.size >= _SMALL_SIZE:
        records[b"size"] = b"%d" % entry.size
    if entry.uid >= _SMALL_ID:
        records[b"uid"] = b"%d" % entry.uid
    if entry.gid >= _SMALL_ID:
        records[b"gid"] = b"%d" % entry.gid
    if not 0 <= seconds < _SMALL_SIZE:
        records[b"mtime"] = b"%d" % seconds
    for key, value in entry.xattrs.items():
        records[b"SCHILY.xattr." + key] = value
    block = _block(
        entry.kind,
        entry.name[:100],
        entry.link[:100],
        mode=entry.mode,
        uid=0 if b"uid" in records else entry.uid,
        gid=0 if b"gid" in records else entry.gid,
        size=0 if b"size" in records else entry.size,
        seconds=0 if b"mtime" in records else seconds,
        device=(entry.major, entry.minor),
    )
    if not records:
        return block
    data = b"".join(_record(key, value) for key, value in records.items())
    extended = _block(b"x", b"PaxHeaders.0/" + entry.name.rstrip(b"/").rpartition(b"/")[2][:80], b"", size=len(data))
    return extended + data + bytes(-len(data) % BLOCK) + block


# name, mode and owner, size and time, checksum, kind, link, magic and owners' names, device
_HEADER = struct.Struct("100s24s24s8sc100s72s16s167x")
_MAGIC = b"ustar\x0000"


def _block(
    kind: bytes,
    name: bytes,
    link: bytes,
    *,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    seconds: int = 0,
    device: tuple[int, int] = (0, 0),
) -> bytes:
    owner, devices, checksum = _repeated(kind, mode, uid, gid, device)
    numbers = b"%011o\0%011o\0" % (size, seconds)
    checksum += sum(name) + sum(numbers) + sum(link)
    return _HEADER.pack(name, owner, numbers, b"%06o\0 " % checksum, kind, link, _MAGIC, devices)


@lru_cache(maxsize=256)
def _repeated(kind: bytes, mode: int, uid: int, gid: int, device: tuple[int, int]) -> tuple[bytes, bytes, int]:
    """What many headers have in common: two fields, and what they and all that never changes add to the checksum."""
    owner, devices = b"%07o\0%07o\0%07o\0" % (mode, uid, gid), b"%07o\0%07o\0" % device
    # The checksum's own place counts as spaces; zeros need not be added up.
    return owner, devices, sum(owner) + sum(devices) + sum(kind) + sum(_MAGIC) + 8 * ord(" ")


def _record(key: bytes, value: bytes) -> bytes:
    """ "LENGTH KEY=VALUE\\n", the length counting itself."""
    bare = len(key) + len(value) + 3
    length = bare + len(str(bare))
    length = bare + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)
