"""Paths inside a container as the API's archive operations take and give them (Go's path/filepath and io/fs)."""

from __future__ import annotations

import posixpath
import stat

# io/fs FileMode bits
_GO_BITS = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
    stat.S_IFCHR: (1 << 26) | (1 << 21),
    stat.S_IFREG: 0,
}
_SETUID, _SETGID, _STICKY = 1 << 23, 1 << 22, 1 << 20


def go_mode(mode: int) -> int:
    """A file mode as Go's io/fs numbers it."""
    bits = (mode & 0o777) | _GO_BITS.get(stat.S_IFMT(mode), 1 << 19)
    for bit, go in ((stat.S_ISUID, _SETUID), (stat.S_ISGID, _SETGID), (stat.S_ISVTX, _STICKY)):
        if mode & bit:
            bits |= go
    return bits


def absolute(path: str) -> str:
    """The path from the root; a slash or a dot at its end, which ask for a directory, are kept."""
    clean = posixpath.normpath("/" + path).replace("//", "/")
    if clean == "/":
        return clean
    if posixpath.basename(path) == ".":
        return clean + "/."
    return clean + "/" if path.endswith("/") else clean


def base(path: str) -> str:
    """The last part of a path, as Go's filepath.Base: "." for a path that ends in a dot, "/" for the root."""
    return posixpath.basename(path.rstrip("/")) or "/"
