"""Contents of files as a client sends them to a build."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from wherry.errors import NotFound
from wherry.storage.content import IN_MEMORY, Contents
from wherry.storage.tar import Source

_HANDS = 2  # threads that keep contents
_HANDFUL = 1 << 19  # bytes of contents that one of them is given at once, at least
_HANDFUL_FILES = 64
_PIECE = 1 << 20  # bytes
_KEEPING = 8  # handfuls that wait for them


def take_contents(source: Source, digests: list[bytes], contents: Contents) -> None:
    """Each content behind its size, a 64-bit number, big-endian. Blocking. Raises InvalidParameter, NotFound.

    Small ones are hashed and written by other threads, a bounded number at once.
    """
    stream = _Reader(source)
    keeping: deque[Future[None]] = deque()
    handful: list[tuple[memoryview, bytes]] = []
    held = 0

    def keep(handful: list[tuple[memoryview, bytes]]) -> None:
        for data, digest in handful:
            contents.put(data, digest)

    with ThreadPoolExecutor(_HANDS, "contents") as pool:
        for digest in digests:
            head = stream.exactly(8)
            if head is None:
                raise NotFound("a file is not there any more: build again")
            size = int.from_bytes(head, "big")
            if size <= IN_MEMORY:
                handful.append((stream.expected(size), digest))
                held += size
                if held >= _HANDFUL or len(handful) == _HANDFUL_FILES:
                    keeping.append(pool.submit(keep, handful))
                    handful, held = [], 0
                if len(keeping) > _KEEPING:
                    keeping.popleft().result()
                continue
            with contents.begin() as writing:
                while size:
                    data = stream.expected(min(size, IN_MEMORY))
                    writing.write(data)
                    size -= len(data)
                writing.commit_as(digest)
        keep(handful)
        for kept in keeping:
            kept.result()
    while source.read(_PIECE):
        pass


class _Reader:
    """Reads so many bytes as are asked for; what lies in one piece of the source is not copied."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._rest = memoryview(b"")

    def exactly(self, size: int) -> memoryview | None:
        """None where the source ends before."""
        if len(self._rest) < size:
            pieces: list[bytes | memoryview] = [self._rest]
            held = len(self._rest)
            while held < size:
                piece = self._source.read(_PIECE)
                if not piece:
                    return None
                pieces.append(piece)
                held += len(piece)
            self._rest = memoryview(b"".join(pieces))
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def expected(self, size: int) -> memoryview:
        """Raises NotFound where the source ends before."""
        found = self.exactly(size)
        if found is None:
            raise NotFound("a file became shorter while it was sent: build again")
        return found
