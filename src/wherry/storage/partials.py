"""Blobs on their way in, which outlive the process: what has been fetched once is not fetched again.

with partials.open(digest, size) as partial:      # takes up what an earlier attempt left, and hashes it
    follower = partial.follow()                   # for another thread, which reads along
    for piece in rest_of_the_blob(partial.size):
        partial.write(piece)
    partial.verify()                              # only now does the follower come to its end
    partial.commit()                              # ... and the blob has its name
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType

from wherry.errors import InvalidParameter, SystemFailure
from wherry.model.failpoints import failpoint
from wherry.storage.appending import WRITE_MAX
from wherry.storage.blobs import Blobs
from wherry.storage.following import Follower
from wherry.storage.room import Room

_CHUNK = 1 << 20


class WrongContent(InvalidParameter):
    """What came is not what the digest says; whoever has it elsewhere may be asked."""


class Partials:
    """The unfinished blobs of a store; one writer each (the caller sees to that). Blocking methods."""

    def __init__(self, root: Path, blobs: Blobs) -> None:
        self._root = root
        self._blobs = blobs
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def open(self, digest: str, size: int) -> Partial:
        """Begin, or go on where an earlier attempt ended. Raises InvalidParameter, SystemFailure."""
        target = self._blobs.path(digest)
        try:
            return Partial(self._root / target.name, target, digest, size)
        except OSError as error:
            raise SystemFailure(f"fetching {digest}: {error.strerror}") from error

    def sweep(self, *, age: float, room: int, busy: Collection[str] = ()) -> int:
        """Remove those not written to for `age` seconds, and the oldest where all take more than `room` bytes.

        `busy` are the digests of those under way, which stay. Returns the bytes that were removed.
        """
        now = time.time()
        taken = removed = 0
        found = []
        for path in self._root.iterdir():
            with contextlib.suppress(FileNotFoundError):  # it has just been completed
                found.append((path, path.stat()))
        for path, status in sorted(found, key=lambda pair: -pair[1].st_mtime):
            taken += status.st_size
            if f"sha256:{path.name}" not in busy and (now - status.st_mtime > age or taken > room):
                path.unlink(missing_ok=True)
                taken -= status.st_size
                removed += status.st_size
        return removed


class Partial:
    """One of them. `write`, `verify` and `commit` are for one thread; `follow` gives readers for others."""

    def __init__(self, path: Path, target: Path, digest: str, expected: int) -> None:
        self._path = path
        self._target = target
        self._digest = digest
        self._expected = expected
        self._hash = hashlib.sha256()
        self._room = Room(path.parent)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.utime(self._fd)  # in use again: not for the next sweep
        self._changed = threading.Condition()
        self._verified = False
        self._failed = False
        self.size = 0  # bytes that are there
        self.resumed = self._take_up()

    def _take_up(self) -> int:
        """Hash what is there; more than the blob can have is of no use."""
        if os.fstat(self._fd).st_size > self._expected:
            os.ftruncate(self._fd, 0)
        while piece := os.pread(self._fd, _CHUNK, self.size):
            self._hash.update(piece)
            self.size += len(piece)
        return self.size

    def write(self, data: bytes) -> None:
        """Append. Raises InvalidParameter for more than the blob has, SystemFailure when the disk is full."""
        self._room.take(len(data))
        if self.size + len(data) > self._expected:
            raise InvalidParameter(f"blob {self._digest} is longer than the {self._expected} bytes it was said to have")
        self._hash.update(data)
        view, offset = memoryview(data), self.size
        try:
            while view:
                written = os.pwrite(self._fd, view[:WRITE_MAX], offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            raise SystemFailure(f"fetching {self._digest}: {error.strerror}") from error
        with self._changed:
            self.size = offset
            self._changed.notify_all()
        failpoint("partials.write.written")

    def verify(self) -> None:
        """All is there. Raises WrongContent, and forgets it all, if it is not what the digest says."""
        found = "sha256:" + self._hash.hexdigest()
        if self.size != self._expected:
            raise InvalidParameter(f"blob {self._digest} ended after {self.size} of {self._expected} bytes")
        if found != self._digest:
            self._path.unlink(missing_ok=True)
            raise WrongContent(f"filesystem layer verification failed for digest {self._digest}: got {found}")
        with self._changed:
            self._verified = True
            self._changed.notify_all()

    def commit(self) -> None:
        """Give the verified blob its name."""
        assert self._verified
        failpoint("partials.commit.verified")
        os.rename(self._path, self._target)
        failpoint("partials.commit.renamed")

    def fail(self) -> None:
        """It will not be completed: followers are told. What was written is kept for the next attempt."""
        with self._changed:
            self._failed = True
            self._changed.notify_all()

    def follow(self) -> Follower:
        """A source of the blob's bytes while they arrive; its end comes only after `verify`."""
        return Follower(os.dup(self._fd), self._changed, lambda: (self.size, self._verified, self._failed))

    @property
    def open(self) -> bool:
        """It is not closed."""
        return self._fd >= 0

    def close(self) -> None:
        if not self._verified:
            self.fail()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Partial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
