"""Trees that are not made but found: images, what clients send, files from the web, Git repositories."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import os
import stat
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

from wherry.engine.builds.progress import Moved, Progress
from wherry.engine.builds.secure_git import reached_by_ssh
from wherry.engine.builds.trees import Client, Files, Result, Tree
from wherry.errors import InvalidParameter, NotFound, NotSupported, SystemFailure, Unavailable
from wherry.linux import processes
from wherry.model import build_graph as graph
from wherry.model.build_graph import Vertex
from wherry.model.dockerfile.git_urls import by_ssh
from wherry.model.file_list import FileList, Listed
from wherry.model.gotext import quote
from wherry.model.image import Image
from wherry.model.platforms import Platform
from wherry.model.provenance import Material
from wherry.model.proxies import from_environment, proxy_for
from wherry.storage.content import Contents, Writing

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

FindImage = Callable[[str, Platform | None, str], Awaitable[Image]]
"""An image by reference and platform; the third says whether to pull: "missing", "always" or "never"."""

Git = Callable[..., Awaitable[str]]

_PIECE = 1 << 18
_PORTS = {"http": 80, "https": 443}
_REDIRECTIONS = 10
_GIT_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ALLOW_PROTOCOL": "http:https:git",  # submodules too: nothing of this host
    "GIT_LFS_SKIP_SMUDGE": "0",
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
}
_PASSED_ON = ("PATH", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


class BuildSources:
    """Of one build. `find_image` answers the same for the same question all along."""

    def __init__(self, find_image: FindImage, contents: Contents, scratch: Path, known_hosts: str = "") -> None:
        self._find_image = find_image
        self._contents = contents
        self._scratch = scratch
        self._known_hosts = known_hosts
        self.materials: dict[Vertex, Material] = {}  # what came from elsewhere

    async def tree(self, vertex: Vertex, client: Client, progress: Progress) -> Result:
        """Raises WherryError."""
        operation = vertex.operation
        progress.started(vertex)
        match operation:
            case graph.ImageSource():
                image = await self._find_image(operation.reference, operation.platform, operation.pull)
                return Tree(image.chain_id, tuple(image.diff_ids))
            case graph.LocalSource():
                return await described(await client.files(operation.name, operation.include, operation.exclude))
            case graph.HttpSource():
                files = await self._fetch(operation, vertex, progress)
                (entry,) = files
                self.materials[vertex] = Material(operation.url, f"sha256:{entry.digest.hex()}")
                return await described(files)
            case graph.GitSource():
                files, commit = await self._clone(operation, client)
                uri = operation.remote + (f"#{operation.ref}" if operation.ref else "")
                self.materials[vertex] = Material(uri, f"sha1:{commit}")
                return await described(files)
            case _:
                raise NotSupported(f"{graph.kind(operation)} is no source")

    async def _fetch(self, operation: graph.HttpSource, vertex: Vertex, progress: Progress) -> FileList:
        aiohttp = await asyncio.to_thread(importlib.import_module, "aiohttp")  # 27 MB that few engines need
        patience = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
        try:
            async with (
                aiohttp.ClientSession(timeout=patience, auto_decompress=False) as session,
                await _got(session, operation.url) as answer,
            ):
                if answer.status >= 400:
                    raise NotFound(f"{operation.url}: invalid response status {answer.status}")
                name = operation.filename or _name_of(answer)
                total = answer.content_length or 0
                with await asyncio.to_thread(self._contents.begin) as writing:
                    async for piece in answer.content.iter_chunked(_PIECE):
                        await asyncio.to_thread(writing.write, piece)
                        progress.tell(Moved(vertex.digest, name, writing.size, total))
                    return await asyncio.to_thread(_fetched, writing, operation, name, answer.headers)
        except (aiohttp.ClientError, TimeoutError) as error:
            connections = importlib.import_module("wherry.registry.connections")
            raise connections.request_failure("GET", operation.url, error) from error

    async def _clone(self, operation: graph.GitSource, client: Client) -> tuple[FileList, str]:
        """The files, and the commit."""
        secure = by_ssh(operation.remote)
        if not secure and not operation.remote.startswith(("http://", "https://", "git://")):
            raise NotSupported(f"{operation.remote}: a Git repository is reached by https, http, git or ssh")
        if operation.ref.startswith("-"):
            raise InvalidParameter(f"invalid Git reference: {operation.ref}: it begins with a hyphen")
        with await asyncio.to_thread(tempfile.TemporaryDirectory, dir=self._scratch, prefix="git-") as folder:
            async with contextlib.AsyncExitStack() as stack:
                environment: Mapping[str, str] = {}
                if secure:
                    agent = await client.agent(operation.ssh or "default")
                    if agent is None:
                        raise NotFound(
                            f"no SSH key {quote(operation.ssh or 'default')} forwarded from the client: --ssh default"
                        )
                    environment = await stack.enter_async_context(
                        reached_by_ssh(Path(folder), agent, self._known_hosts)
                    )
                return await self._fetched(operation, Path(folder) / "tree", partial(_git, environment=environment))

    async def _fetched(self, operation: graph.GitSource, checkout: Path, git: Git) -> tuple[FileList, str]:
        await git("init", "--quiet", str(checkout))
        in_it = ("-C", str(checkout))
        await git(*in_it, "remote", "add", "origin", operation.remote)
        ref = operation.ref or "HEAD"
        try:
            await git(*in_it, "fetch", "--quiet", "--depth=1", "--no-tags", "origin", ref)
            await git(*in_it, "checkout", "--quiet", "--force", "FETCH_HEAD")
        except SystemFailure:  # a commit that the server does not give by itself
            await git(*in_it, "fetch", "--quiet", "--tags", "origin")
            await git(*in_it, "checkout", "--quiet", "--force", ref)
        commit = (await git(*in_it, "rev-parse", "HEAD")).strip()
        if operation.checksum and not commit.startswith(operation.checksum):
            raise InvalidParameter(f"expected checksum to match {operation.checksum}, got {commit}")
        if (checkout / ".gitmodules").exists():
            await git(*in_it, "submodule", "update", "--quiet", "--init", "--recursive", "--depth=1")
        return await asyncio.to_thread(self._take, checkout, operation), commit

    def _take(self, checkout: Path, operation: graph.GitSource) -> FileList:
        top = checkout / operation.subdir.strip("/")
        if not top.resolve().is_relative_to(checkout.resolve()) or not top.is_dir():
            raise NotFound(f"{operation.subdir}: no such directory in {operation.remote}")
        return list_directory(top, self._contents, skip=b"" if operation.keep_git else b".git")


async def _got(session: ClientSession, url: str) -> ClientResponse:
    """The answer behind redirections, each by its own way out. `trust_env` would take passwords from ~/.netrc, too."""
    proxies = from_environment(os.environ)
    for _ in range(_REDIRECTIONS):
        parts = urlsplit(url)
        if parts.scheme not in _PORTS:
            raise InvalidParameter(f"{url}: neither http nor https")
        try:
            port = parts.port or _PORTS[parts.scheme]
        except ValueError as error:
            raise InvalidParameter(f"{url}: {error}") from None
        proxy = proxy_for(proxies, parts.scheme, parts.hostname or "", port)
        answer = await session.get(url, proxy=proxy or None, allow_redirects=False)
        place = answer.headers.get("Location")
        if answer.status not in (301, 302, 303, 307, 308) or not place:
            return answer
        answer.release()
        url = urljoin(url, place)
    raise Unavailable(f"{url}: more than {_REDIRECTIONS} redirections")


async def described(files: FileList) -> Files:
    return Files(files, await asyncio.to_thread(files.digest))


def _name_of(answer: ClientResponse) -> str:
    """From Content-Disposition or the URL (RFC 6266)."""
    given = answer.content_disposition.filename if answer.content_disposition else ""
    name = os.path.basename(given or unquote(urlsplit(str(answer.real_url)).path))
    return name if name not in ("", ".", "..") else "download"


def _fetched(writing: Writing, operation: graph.HttpSource, name: str, headers: Mapping[str, str]) -> FileList:
    size = writing.size
    digest = writing.commit()
    found = f"sha256:{digest.hex()}"
    if operation.checksum and operation.checksum != found:
        raise InvalidParameter(f"digest mismatch {found}: {operation.checksum}")
    mode = stat.S_IFREG | operation.mode
    return FileList(
        [Listed(os.fsencode(name), mode, operation.uid, operation.gid, _modified(headers), size, b"", digest)]
    )


def _modified(headers: Mapping[str, str]) -> int:
    """Last-Modified in ns since the epoch, 0 where it is not told (RFC 9110, 8.8.2)."""
    text = headers.get("Last-Modified")
    try:
        return int(parsedate_to_datetime(text).timestamp()) * 10**9 if text else 0
    except (TypeError, ValueError):
        return 0


async def _git(*words: str, environment: Mapping[str, str]) -> str:
    """Raises Unavailable (no git), SystemFailure with what it said."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    try:
        finished = await processes.run(
            ["/usr/bin/git", *words], environment={**_GIT_ENVIRONMENT, **passed_on, **environment}
        )
    except FileNotFoundError:
        raise Unavailable("git is not installed: apt-get install git") from None
    if finished.code != 0:
        said = finished.errors.decode(errors="replace").strip()
        raise SystemFailure(f"git {' '.join(words)}: {said or f'exit code {finished.code}'}")
    return finished.output.decode(errors="replace")


def list_directory(top: Path, contents: Contents, *, skip: bytes = b"") -> FileList:
    """A directory of ours, its contents taken into the store; everything root's, as what a client sends. Blocking."""
    entries: list[Listed] = []

    def visit(path: bytes) -> None:
        for name in sorted(os.listdir(os.path.join(os.fsencode(top), path))):
            if name == skip and not path:
                continue
            inner = path + b"/" + name if path else name
            whole = os.path.join(os.fsencode(top), inner)
            found = os.lstat(whole)
            link = os.readlink(whole) if stat.S_ISLNK(found.st_mode) else b""
            digest = b""
            if stat.S_ISREG(found.st_mode):
                with open(whole, "rb", buffering=0) as file:
                    digest = hashlib.file_digest(file, "sha256").digest()
                    if contents.missing((digest,)):
                        file.seek(0)
                        with contents.begin() as writing:
                            while piece := file.read(_PIECE):
                                writing.write(piece, hashed=False)
                            writing.commit(digest)
            size = found.st_size if digest else 0
            entries.append(Listed(inner, found.st_mode, 0, 0, found.st_mtime_ns, size, link, digest))
            if stat.S_ISDIR(found.st_mode):
                visit(inner)

    visit(b"")
    return FileList(entries)
