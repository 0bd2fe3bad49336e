"""What of a directory goes to a build: walking it, and the digests of its files, remembered from build to build.

A digest is taken from memory where nothing about the file has changed (inode, size, times of content and status): a
second build reads only what is new. What was changed within the last moment before it was read is read again next time.
Files are read by several threads: the kernel's and the hash's part of it go on side by side.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import struct
import time
from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct

from wherry.model.dockerfile.ignore import IgnoreRules, Matched
from wherry.model.file_list import Listed

_HANDS = min(4, os.cpu_count() or 1)  # threads that hash
_PIECE = 256 << 10  # bytes; what stays in a processor's cache
_MOMENT = 2_000_000_000  # ns in which a file system may give two changes the same time
_SIZE = struct.Struct(">Q")
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Remembered(Struct, array_like=True, gc=False):
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    digest: bytes


class Digests:
    """Digests of one directory's files, kept in the user's cache directory."""

    def __init__(self, directory: str) -> None:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:32]
        self._path = os.path.join(base, "wherry", "build", name)
        self._known: dict[bytes, _Remembered] = {}
        self._changed = False
        try:
            with open(self._path, "rb") as file:
                self._known = msgspec.msgpack.decode(file.read(), type=dict[bytes, _Remembered])
        except (OSError, msgspec.DecodeError):
            pass

    def known(self, path: bytes, found: os.stat_result) -> bytes:
        """The digest of a file that has not changed; b"" for any other."""
        known = self._known.get(path)
        if known is not None and (known.inode, known.size, known.mtime_ns, known.ctime_ns) == (
            found.st_ino,
            found.st_size,
            found.st_mtime_ns,
            found.st_ctime_ns,
        ):
            return known.digest
        return b""

    def read(self, path: bytes, whole: bytes, buffer: memoryview) -> tuple[bytes, int]:
        """Digest and size of a file, read into `buffer` piece by piece. From any thread. Raises OSError."""
        began = time.time_ns()
        hashed, size = hashlib.sha256(), 0
        fd = os.open(whole, _OPEN)
        try:
            now = os.fstat(fd)
            while taken := os.readv(fd, [buffer]):
                hashed.update(buffer[:taken])
                size += taken
        finally:
            os.close(fd)
        digest = hashed.digest()
        if max(now.st_mtime_ns, now.st_ctime_ns) < began - _MOMENT and size == now.st_size:
            self._known[path] = _Remembered(now.st_ino, size, now.st_mtime_ns, now.st_ctime_ns, digest)
            self._changed = True
        return digest, size

    def save(self) -> None:
        """Remember for the next build; a cache directory that cannot be written is no failure."""
        if not self._changed:
            return
        half = f"{self._path}.{os.getpid()}"
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.msgpack.encode(self._known))
            os.replace(half, self._path)
        except OSError:
            pass


class Directory:
    """A directory that a build may ask for: its list, then some of the files in it."""

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)
        self._top = os.fsencode(self.path)
        self._digests = Digests(self.path)
        self._paths: dict[bytes, bytes] = {}  # by digest

    @property
    def identity(self) -> str:
        """The same for the same directory from one build to the next."""
        return f"{socket.gethostname()}:{self.path}"

    def entries(self, include: Iterable[str], exclude: Iterable[str]) -> list[Listed]:
        """Everything that the patterns let through, folders of it included. Raises OSError."""
        rules = IgnoreRules(exclude)
        wanted = set(include)
        while True:
            found = list(self._walk(rules, IgnoreRules(sorted(wanted))))
            more = _targets(found, wanted) - wanted if wanted else set()
            if not more:
                break
            wanted |= more
        found = self._digested(found)
        self._digests.save()
        self._paths = {entry.digest: entry.path for entry in found if entry.digest}
        return found

    def contents(self, digests: Iterable[bytes]) -> Iterator[memoryview]:
        """Each file's size, then its bytes, as a build takes them; nothing of one that is gone.

        A piece is good until the next one is asked for.
        """
        block = memoryview(bytearray(_PIECE))
        filled = 0
        for digest in digests:
            try:
                fd = os.open(os.path.join(self._top, self._paths[digest]), _OPEN)
            except (KeyError, OSError):
                continue
            try:
                left = os.fstat(fd).st_size
                if len(block) - filled < _SIZE.size:
                    yield block[:filled]
                    filled = 0
                _SIZE.pack_into(block, filled, left)
                filled += _SIZE.size
                while left and (taken := os.readv(fd, [block[filled : filled + left]])):
                    left -= taken
                    filled += taken
                    if filled == len(block):
                        yield block
                        filled = 0
            finally:
                os.close(fd)
        if filled:
            yield block[:filled]

    def _digested(self, found: list[Listed]) -> list[Listed]:
        """The same with the digests that were not remembered. Raises OSError."""
        new = [place for place, entry in enumerate(found) if stat.S_ISREG(entry.mode) and not entry.digest]

        def read(first: int) -> list[Listed | None]:
            buffer = memoryview(bytearray(_PIECE))
            return [self._read(found[place], buffer) for place in new[first::hands]]

        hands = min(_HANDS, len(new))
        whole: list[Listed | None] = [*found]
        if hands:
            from concurrent.futures import ThreadPoolExecutor  # which a build with nothing new need not load

            with ThreadPoolExecutor(hands) as pool:
                for first, entries in enumerate(pool.map(read, range(hands))):
                    for place, entry in zip(new[first::hands], entries, strict=True):
                        whole[place] = entry
        return [entry for entry in whole if entry is not None]

    def _read(self, entry: Listed, buffer: memoryview) -> Listed | None:
        """None if it is gone."""
        try:
            digest, size = self._digests.read(entry.path, os.path.join(self._top, entry.path), buffer)
        except FileNotFoundError:
            return None
        return Listed(entry.path, entry.mode, 0, 0, entry.mtime_ns, size, b"", digest)

    def _walk(self, rules: IgnoreRules, taken: IgnoreRules) -> Iterator[Listed]:
        waiting: list[Listed] = []  # folders that come if something in them does
        pending: list[tuple[bytes, Matched, Matched]] = [(b"", rules.root, taken.root)]
        stack: list[tuple[bytes, Iterator[os.DirEntry[bytes]], Matched, Matched]] = []
        plain = not rules and not taken
        while pending or stack:
            if pending:
                path, out, into = pending.pop()
                with os.scandir(os.path.join(self._top, path)) as entries:
                    stack.append((path, iter(sorted(entries, key=lambda entry: entry.name)), out, into))
            path, children, out, into = stack[-1]
            child = next(children, None)
            if child is None:
                stack.pop()
                if waiting and waiting[-1].path == path:
                    waiting.pop()
                continue
            inner = path + b"/" + child.name if path else child.name
            text = "" if plain else os.fsdecode(inner)
            out = out if not rules else rules.enter(text, out)
            into = into if not taken else taken.enter(text, into)
            kept = not out.ignored and (not taken or into.ignored)
            folder = child.is_dir(follow_symlinks=False)
            if not kept and not folder:
                if out.ignored or not child.is_symlink() or not taken_below(taken, text):
                    continue
                kept = True  # a link on the way to something that is asked for
            if not kept and out.ignored and not rules.may_hold_exceptions(text):
                continue
            if not kept and taken and not taken_below(taken, text):
                continue
            listed = self._listed(inner, child)
            if listed is None:
                continue
            if kept:
                yield from waiting
                waiting.clear()
                yield listed
            elif folder:
                waiting.append(listed)
            if folder:
                pending.append((inner, out, into))

    def _listed(self, path: bytes, child: os.DirEntry[bytes]) -> Listed | None:
        """None for what builds do not take: sockets and devices, and what is gone meanwhile."""
        try:
            found = child.stat(follow_symlinks=False)
            kind = stat.S_IFMT(found.st_mode)
            mode = kind | found.st_mode & 0o7777
            if kind == stat.S_IFREG:
                known = self._digests.known(path, found)
                return Listed(path, mode, 0, 0, found.st_mtime_ns, found.st_size, b"", known)
            if kind == stat.S_IFLNK:
                return Listed(path, stat.S_IFLNK | 0o777, 0, 0, found.st_mtime_ns, 0, os.readlink(child.path))
            if kind in (stat.S_IFDIR, stat.S_IFIFO):
                return Listed(path, mode, 0, 0, found.st_mtime_ns)
        except FileNotFoundError:
            pass
        return None


def taken_below(taken: IgnoreRules, directory: str) -> bool:
    """Whether something below a directory may be asked for: patterns to take are those to leave out, turned around."""
    parts = directory.split("/")
    for pattern in taken.patterns:
        for part, component in zip(pattern.split("/"), parts, strict=False):
            if any(character in part for character in "*?[\\"):
                return True
            if part != component:
                break
        else:
            return True
    return False


def _targets(found: list[Listed], wanted: set[str]) -> set[str]:
    """Where the symlinks lead that were asked for, or that are on the way to what was."""
    links = {os.fsdecode(entry.path): os.fsdecode(entry.link) for entry in found if entry.link}
    more: set[str] = set()
    for path in wanted:
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            link = links.get("/".join(parts[:depth]))
            if link is not None:
                base = "" if link.startswith("/") else "/".join(parts[: depth - 1])
                rest = parts[depth:]
                target = os.path.normpath("/" + "/".join([base, link, *rest])).strip("/")
                more.add(target or "*")
    return more
