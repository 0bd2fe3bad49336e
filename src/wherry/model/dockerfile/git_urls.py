"""Which strings name a Git repository, and what of it (build context reference, "Git repositories")."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from msgspec import Struct

from wherry.model.dockerfile.source import DockerfileError
from wherry.model.gotext import quote

_SCP = re.compile(r"(?:[A-Za-z0-9_.-]+@)[A-Za-z0-9.-]+:(?!//).+")
_QUERY = ("ref", "tag", "branch", "subdir", "checksum", "commit", "keep-git-dir", "submodules")


class GitUrl(Struct, frozen=True):
    """`remote` as Git takes it; `ref` "" is the remote's default; `subdir` "" is all of it."""

    remote: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git: bool | None = None


def parse_git_url(text: str) -> GitUrl | None:
    """None if it is no repository but a path or a file on the web. Raises DockerfileError for what only half is one."""
    if text.startswith(("http://", "https://")):
        split = urlsplit(text)
        if not split.path.endswith(".git"):
            return None
        return _read(text)
    if text.startswith(("git://", "ssh://")):
        return _read(text)
    if text.startswith("github.com/"):
        return _read("https://" + text)
    if _SCP.fullmatch(text):
        remote, _, fragment = text.partition("#")
        ref, _, subdir = fragment.partition(":")
        return GitUrl(remote, ref, subdir.strip("/"))
    return None


def _read(text: str) -> GitUrl:
    split = urlsplit(text)
    ref, _, subdir = split.fragment.partition(":")
    checksum = ""
    keep_git: bool | None = None
    for key, value in parse_qsl(split.query, keep_blank_values=True):
        match key:
            case "ref":
                ref = value
            case "tag":
                ref = f"refs/tags/{value}"
            case "branch":
                ref = f"refs/heads/{value}"
            case "subdir":
                subdir = value
            case "checksum" | "commit":
                checksum = value
            case "keep-git-dir" if value in ("", "1", "true", "0", "false"):
                keep_git = value in ("", "1", "true")
            case "keep-git-dir":
                raise DockerfileError(f"invalid keep-git-dir value: {quote(value)}")
            case "submodules":
                raise DockerfileError(
                    "query submodules of a Git repository is not supported: submodules are always checked out"
                )
            case _:
                raise DockerfileError(f"unexpected query {quote(key)}")
    remote = urlunsplit((split.scheme, split.netloc, split.path, "", ""))
    return GitUrl(remote, ref, subdir.strip("/"), checksum, keep_git)


def by_ssh(remote: str) -> bool:
    """Whether a remote is reached by SSH: ssh://…, or user@host:path."""
    return remote.startswith("ssh://") or ("://" not in remote and "@" in remote.split("/")[0])


def is_web(text: str) -> bool:
    """A file on the web rather than a repository there."""
    return text.startswith(("http://", "https://")) and parse_git_url(text) is None
