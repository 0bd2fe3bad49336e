"""Where the files of a build come from when they come before it: an archive in the request, a URL, or Git."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterable
from pathlib import Path
from typing import NoReturn

from wherry.engine.builds.cache import Cache
from wherry.engine.builds.progress import Message, Progress
from wherry.engine.builds.sources import BuildSources
from wherry.engine.builds.trees import Client, Files
from wherry.engine.builds.uploads import Uploaded, identity, read_archive, without
from wherry.errors import InvalidParameter, NotFound, WherryError
from wherry.model import build_graph as graph
from wherry.model.dockerfile.git_urls import is_web, parse_git_url
from wherry.model.dockerfile.ignore import IGNORE_FILE, IgnoreRules, ignore_file_names, read_patterns
from wherry.model.file_list import FileList, Listed
from wherry.model.provenance import Material
from wherry.storage.content import Contents
from wherry.storage.source_trees import ListedTree, resolve
from wherry.storage.streams import compression_of, consume

DOCKERFILE_MAX = 16 << 20  # bytes
_USTAR = slice(257, 262)


class Contexts:
    """Takes contexts in, and remembers which contents which project has, so that they are not collected."""

    def __init__(self, contents: Contents, cache: Cache, scratch: Path) -> None:
        self._contents = contents
        self._cache = cache
        self._scratch = scratch

    async def uploaded(self, stream: AsyncIterable[bytes]) -> FileList:
        """From a tar archive. Raises InvalidParameter."""
        return await consume(stream, lambda source: read_archive(source, self._contents))

    async def remote(
        self, url: str, dockerfile: str, client: Client | None = None, known_hosts: str = ""
    ) -> tuple[FileList, Material]:
        """From a Git repository, an archive, or a file, which then is the Dockerfile; and what that was.

        Raises WherryError.
        """
        git = parse_git_url(url)
        if git is not None:
            keep_git = bool(git.keep_git)
            source = graph.GitSource(git.remote, git.ref, git.subdir, keep_git=keep_git, checksum=git.checksum)
            files, material = await self._found(source, client, known_hosts)
            return self._ignoring(files, dockerfile), material
        if not is_web(url):
            raise InvalidParameter(f'unable to prepare context: "{url}" is neither a URL nor a Git repository')
        try:
            fetched, material = await self._found(graph.HttpSource(url, filename="fetched"))
        except WherryError as error:
            raise type(error)(f"error downloading remote context {url}: {error}") from None
        (entry,) = fetched
        return await asyncio.to_thread(self._unpacked, entry, dockerfile), material

    async def _found(
        self, source: graph.Operation, client: Client | None = None, known_hosts: str = ""
    ) -> tuple[FileList, Material]:
        sources = BuildSources(_no_image, self._contents, self._scratch, known_hosts)
        vertex = graph.Vertex(source)
        result = await sources.tree(vertex, client or Uploaded(FileList(())), Progress(_Nobody()))
        assert isinstance(result, Files)
        return result.files, sources.materials[vertex]

    def _unpacked(self, entry: Listed, dockerfile: str) -> FileList:
        with open(self._contents.open(entry.digest, entry.size), "rb") as file:
            head = file.read(512)
            file.seek(0)
            if compression_of(head[:6]) or head[_USTAR] == b"ustar":
                return self._ignoring(read_archive(file, self._contents), dockerfile)
        name = os.fsencode(dockerfile)
        return FileList([Listed(name, stat.S_IFREG | 0o644, 0, 0, entry.mtime_ns, entry.size, b"", entry.digest)])

    def _ignoring(self, files: FileList, dockerfile: str) -> FileList:
        """A repository's own ignore file counts, as it does in a directory."""
        patterns = next(
            (text for name in ignore_file_names(dockerfile) if (text := self.read(files, name)) is not None), b""
        )
        return without(files, read_patterns(patterns.decode(errors="replace"))) if patterns else files

    def without_told(self, files: FileList, dockerfile: str) -> FileList:
        """An archive from a client, which has left out what is ignored but for the files that say what to do: these
        are left out now, if they are ignored too. Blocking, briefly."""
        patterns = self.read(files, IGNORE_FILE)
        if patterns is None:
            return files
        rules = IgnoreRules(read_patterns(patterns.decode(errors="replace")))
        told = {os.fsencode(name) for name in (IGNORE_FILE, dockerfile) if rules.ignores(name)}
        return FileList(entry for entry in files if entry.path not in told) if told else files

    def read(self, files: FileList, path: str) -> bytes | None:
        """A regular file's bytes, symlinks followed inside the list; None if there is none. Blocking, briefly."""
        tree = ListedTree(files, self._contents)
        try:
            real = resolve(tree, os.fsencode(path), follow=True)
        except NotFound:
            return None
        node = tree.look(real)
        if node is None or not stat.S_ISREG(node.mode):
            return None
        if node.size > DOCKERFILE_MAX:
            raise InvalidParameter(f"{path} is larger than {DOCKERFILE_MAX} bytes")
        with open(tree.open(real, node), "rb") as file:
            return file.read()

    def remember(self, files: FileList, name: str) -> None:
        """These are the contents that the project of that name has now."""
        self._cache.keep_list(name, sorted(files.contents()))

    def name_of(self, files: FileList, dockerfile: str) -> str:
        return identity(files, dockerfile)


class _Nobody:
    def tell(self, message: Message, /) -> None:
        return

    async def room(self) -> None:
        return


async def _no_image(reference: str, platform: object, pull: str) -> NoReturn:
    raise NotFound(f"{reference} is no context")
