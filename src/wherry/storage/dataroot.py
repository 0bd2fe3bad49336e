"""The data root: a directory that belongs to one daemon at a time and says which layout it has.

descriptor = open_data_root(Path("/var/lib/wherry"))   # creates or checks it, and takes it
...                                                    # a second call from any process raises SystemFailure
os.close(descriptor)                                   # or the process's end, however it comes, gives it back
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from wherry.errors import SystemFailure

LAYOUT = 1
"""Version of the arrangement of files in a data root. Raise it only together with code that converts older ones."""

_VERSION = "version"
_LOCK = "lock"
_HARMLESS = {_LOCK, "lost+found", f".{_VERSION}.new"}
"""What may lie in a directory that is not a data root yet: a new file system's own, or a killed first start's."""


def open_data_root(path: Path) -> int:
    """Create `path` (mode 0700) or check that it is a data root of this layout, and hold it until the result is closed.

    Returns a file descriptor (close-on-exec) that owns an flock(2); blocking, some file operations.
    Raises SystemFailure if another daemon holds it, if it is somebody else's directory, or of another layout.
    """
    descriptor = _hold(path, 0o700, "data root")
    try:
        _check_layout(path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_exec_root(path: Path) -> int:
    """As `open_data_root`, of a directory (mode 0711) without a layout: whoever holds it sweeps what is not its own."""
    return _hold(path, 0o711, "exec root")


def _hold(path: Path, mode: int, kind: str) -> int:
    remedy = f"choose another --{kind.replace(' ', '-')}"
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        path.chmod(mode)
        descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SystemFailure(f"{kind} {path}: {error.strerror}; {remedy}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise SystemFailure(f"{kind} {path} is in use by another daemon (PID {holder}): stop it or {remedy}") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _check_layout(path: Path) -> None:
    version = path / _VERSION
    try:
        found = version.read_text().strip()
    except FileNotFoundError:
        if strangers := sorted(set(os.listdir(path)) - _HARMLESS):
            raise SystemFailure(
                f"{path} is not a Wherry data root and not empty (it holds {strangers[0]}): choose another --data-root"
            ) from None
        _write_durably(version, f"{LAYOUT}\n")
        return
    if found != str(LAYOUT):
        raise SystemFailure(
            f"data root {path} has layout version {found}, this Wherry knows {LAYOUT}: "
            "upgrade Wherry or choose another --data-root"
        )


def _write_durably(path: Path, text: str) -> None:
    """The file is there whole or not at all, also after a power cut."""
    half = path.with_name(f".{path.name}.new")
    with open(half, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
