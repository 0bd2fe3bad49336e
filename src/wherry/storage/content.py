"""Contents of files by their SHA-256: what clients have sent to builds, kept so that nothing is sent twice.

The first layer that needs a content gets the file itself, not a copy (`moving.py`). From then on the content is read
from that layer, and lacking when that is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from wherry.errors import InvalidParameter, NotFound
from wherry.linux.placement import spread
from wherry.model.failpoints import failpoint
from wherry.storage.appending import write_all
from wherry.storage.moving import Home, elsewhere
from wherry.storage.usage import disk_usage

FOLDER = 2000  # files
IN_MEMORY = 1 << 20  # bytes; what is smaller is hashed before a file is made for it
_TIMES = 3  # that a content is looked for: it may come back from a layer while it is opened

Moved = Callable[[], Iterable[tuple[str, Mapping[bytes, bytes]]]]
"""Directories that contents were moved to, each with the digests by path."""


def _nowhere() -> Iterable[tuple[str, Mapping[bytes, bytes]]]:
    return ()


class Contents:
    """The store. Blocking methods, from any thread. A content has its name, its digest, once it is complete.

        missing = contents.missing(wanted)
        for digest in missing:
            contents.put(data, digest)
        with open(contents.path(digest), "rb") as file: ...
        contents.collect(needed)                 # the others go

    On disk: `HH/HEX` by the first byte, and `tmp/FOLDER` for what is on its way.
    """

    def __init__(self, root: Path, moved: Moved = _nowhere) -> None:
        self._root = root
        self._moved_before = moved
        self._moved: dict[bytes, tuple[Home, bytes]] = {}  # the directory, and the path in it
        self._homes: set[Home] = set()  # of those
        self._occupied: int | None = None  # bytes on disk, once somebody asked
        self._temporary = root / "tmp"
        self._known: set[bytes] | None = None
        self._lock = threading.Lock()
        self._current = self._temporary
        self._left: list[Path] = []  # folders in which nothing is begun any more
        self._made = 0

    def _there(self) -> set[bytes]:
        with self._lock:
            if self._known is None:
                self._temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
                for name in os.listdir(self._temporary):
                    shutil.rmtree(self._temporary / name, ignore_errors=True)
                spread(self._temporary)
                self._known = {
                    bytes.fromhex(folder + name)
                    for folder in os.listdir(self._root)
                    if len(folder) == 2
                    for name in os.listdir(self._root / folder)
                }
                for directory, paths in self._moved_before():
                    home = Home(directory)
                    self._homes.add(home)
                    self._moved |= {digest: (home, path) for path, digest in paths.items()}
            return self._known

    def path(self, digest: bytes) -> str:
        name = digest.hex()
        return f"{self._root}/{name[:2]}/{name[2:]}"

    def missing(self, digests: Iterable[bytes]) -> set[bytes]:
        lacking = set(digests).difference(self._there())
        with self._lock:
            gone = {home for home in self._homes if not home.exists()}
            if gone:
                self._homes -= gone
                self._moved = {digest: place for digest, place in self._moved.items() if place[0] not in gone}
            return lacking.difference(self._moved)

    def _has(self, digest: bytes) -> bool:
        if digest in self._there():
            return True
        place = self._moved.get(digest)
        return place is not None and place[0].exists()

    def open(self, digest: bytes, size: int) -> int:
        """A descriptor for reading. Raises NotFound, also for one that a power failure has cut short."""
        try:
            fd = self._open(digest)
        except FileNotFoundError:
            self._forget(digest)
            raise NotFound(f"the content {digest.hex()} is not there any more: build again") from None
        if os.fstat(fd).st_size != size:
            os.close(fd)
            self._forget(digest)
            raise NotFound(f"the content {digest.hex()} is damaged: build again")
        return fd

    def _open(self, digest: bytes) -> int:
        for _ in range(_TIMES):
            with contextlib.suppress(FileNotFoundError):
                return os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
            with self._lock:  # which one that moves holds
                place = self._moved.get(digest)
            if place is not None:
                with contextlib.suppress(FileNotFoundError):
                    return place[0].open(place[1])
        raise FileNotFoundError

    def _forget(self, digest: bytes) -> None:
        self._there().discard(digest)
        self._moved.pop(digest, None)

    def move(self, digest: bytes, size: int, folder: int, name: bytes, home: Home, path: bytes) -> bool:
        """Let the file in the store become `name` in an opened folder, which is `path` in its home.

        False if it is not in the store, or that is on another file system. Raises OSError.
        """
        known = self._there()
        with self._lock:
            if digest not in known:
                return False
            try:
                if os.stat(self.path(digest)).st_size != size:
                    return False
                os.rename(self.path(digest), name, dst_dir_fd=folder)
            except OSError as error:
                if elsewhere(error):
                    return False
                raise
            known.discard(digest)
            self._homes.add(home)
            self._moved[digest] = home, path
            self._occupies(-size)
            return True

    def move_back(self, digest: bytes, root: int, path: bytes) -> None:
        """Undo that: the file is `path` below an opened directory."""
        known = self._there()
        with self._lock:
            self._moved.pop(digest, None)
            with contextlib.suppress(OSError):  # otherwise it is lacking, and sent again
                os.rename(path, self.path(digest), src_dir_fd=root)
                known.add(digest)
        self._occupied = None

    def _occupies(self, size: int) -> None:
        if self._occupied is not None:
            self._occupied += size

    def put(self, data: bytes | memoryview, digest: bytes = b"") -> bytes:
        """Keep a content that is in memory; returns its digest. Raises InvalidParameter if it is not the given one."""
        found = hashlib.sha256(data).digest()
        if digest and found != digest:
            raise InvalidParameter(f"content with digest {found.hex()} where {digest.hex()} was announced")
        if not self._has(found):
            with self.begin() as writing:
                writing.write(data, hashed=False)
                writing.commit(found)
        return found

    def take_sparse(self, fill: Callable[[int], None]) -> tuple[int, bytes]:
        """Keep a file with holes, which `fill` writes into an empty one; its size and digest."""
        with self.begin() as writing:
            writing.fill(fill)
            return writing.size, writing.commit()

    def begin(self) -> Writing:
        """For a content that comes in pieces."""
        self._there()
        while True:
            folder = self._folder()
            with contextlib.suppress(FileNotFoundError):  # it was empty, and has just been collected
                return Writing(self, f"{folder}/{secrets.token_hex(12)}")

    def _folder(self) -> Path:
        """Where files are made. A new folder now and then, so that the file system looks for room anew (`spread`)."""
        with self._lock:
            if self._made % FOLDER == 0:
                self._left.append(self._current)
                self._current = self._temporary / secrets.token_hex(8)
                self._current.mkdir(mode=0o700)
            self._made += 1
            return self._current

    def _leave(self) -> None:
        """The folders of what is on its way, but for those where something still is."""
        left = {*self._left, self._current} - {self._temporary}
        for folder in left:
            with contextlib.suppress(OSError):
                folder.rmdir()
        self._left = [folder for folder in left if folder.exists()]
        self._current, self._made = self._temporary, 0

    def admit(self, path: str, digest: bytes, size: int) -> None:
        """Give a complete file its name."""
        failpoint("contents.put.written")
        target = self.path(digest)
        while True:
            try:
                os.rename(path, target)
                break
            except FileNotFoundError:  # the first of its folder, which may have been empty and just collected
                os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        self._there().add(digest)
        with self._lock:
            self._occupies(size)

    def collect(self, needed: Collection[bytes]) -> None:
        """Remove what is not needed."""
        with self._lock:
            self._leave()
        for digest in self._there() - set(needed):
            self._there().discard(digest)
            Path(self.path(digest)).unlink(missing_ok=True)
        with self._lock:
            self._occupied = None
            for folder in self._root.glob("[0-9a-f][0-9a-f]"):
                with contextlib.suppress(OSError):  # not empty
                    folder.rmdir()

    def occupied(self) -> int:
        """Bytes on disk of what is in no layer, about."""
        if self._occupied is None:
            self._occupied = disk_usage(self._root) if self._root.exists() else 0
        return self._occupied


class Writing:
    """A content on its way in; leaving the block without `commit` forgets it."""

    def __init__(self, contents: Contents, path: str) -> None:
        self._contents = contents
        self._path = path
        self._hash = hashlib.sha256()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.size = 0

    def write(self, data: bytes | memoryview, *, hashed: bool = True) -> None:
        if hashed:
            self._hash.update(data)
        write_all(self._fd, data)
        self.size += len(data)

    def fill(self, fill: Callable[[int], None]) -> None:
        """Let somebody else write the whole file."""
        fill(self._fd)
        self.size = os.fstat(self._fd).st_size
        with open(self._path, "rb", buffering=0) as file:
            while piece := file.read(1 << 20):
                self._hash.update(piece)

    def commit(self, digest: bytes = b"") -> bytes:
        """`digest` where the caller has hashed the data. Returns the digest."""
        os.close(self._fd)
        self._fd = -1
        found = digest or self._hash.digest()
        self._contents.admit(self._path, found, self.size)
        return found

    def commit_as(self, digest: bytes) -> None:
        """Raises InvalidParameter if what was written is something else."""
        if self._hash.digest() != digest:
            raise InvalidParameter(f"content with digest {self._hash.hexdigest()} where {digest.hex()} was announced")
        self.commit(digest)

    def __enter__(self) -> Writing:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
