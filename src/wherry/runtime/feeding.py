"""config.json of one start, given to a runtime that is already there.

Executing and linking a runtime takes milliseconds, which need not follow on the making of root and network: a familiar
crun is let go at once and finds a FIFO in the place of config.json, where it waits. It reads it twice, to make the
container and to keep a copy: so a file takes the place of the FIFO before the first reader is fed.

    with SpecFeed(bundle, early=True) as feed:
        monitor.go()                 # the runtime loads itself and waits
        ...
        feed.put(spec)               # it goes on; if this is never called, it finds an empty file, and fails
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from wherry.errors import SystemFailure

PIPE_SIZE = 65536  # bytes that a pipe holds, unless it is told otherwise (pipe(7))


class SpecFeed:
    """A context manager. Without `early`, config.json is a file that `put` writes, and the runtime is let go later."""

    def __init__(self, bundle: Path, *, early: bool) -> None:
        self.early = early
        self._path = bundle / "config.json"
        self._pipe = -1

    def __enter__(self) -> SpecFeed:
        if self.early:
            os.mkfifo(self._path, 0o600)
            # also for reading: opening it never waits, for the runtime neither (fifo(7))
            self._pipe = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        return self

    def put(self, spec: bytes) -> None:
        """Give the spec, once (blocking). Raises SystemFailure, OSError."""
        self._place(spec)
        if self._pipe >= 0:
            try:
                self._feed(spec)
            finally:
                self._close()

    def __exit__(self, *_: object) -> None:
        if self._pipe >= 0:
            self._place(b"")
            self._close()

    def _place(self, spec: bytes) -> None:
        whole = self._path.with_suffix(".new")
        descriptor = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(spec)
        whole.replace(self._path)

    def _feed(self, spec: bytes) -> None:
        """At once and without waiting: the runtime may come late, and then reads the file."""
        if len(spec) > PIPE_SIZE:
            try:
                fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, len(spec))
            except PermissionError:
                raise SystemFailure(
                    f"the container's configuration, {len(spec)} bytes, is larger than the host lets a pipe be: "
                    "raise the sysctl fs.pipe-max-size"
                ) from None
        os.write(self._pipe, spec)

    def _close(self) -> None:
        os.close(self._pipe)
        self._pipe = -1
