"""Which Git repositories a build's source may be: nothing of this host's, and no options in a reference's place."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from wherry.engine.builds.progress import Progress
from wherry.engine.builds.sources import _GIT_ENVIRONMENT, BuildSources
from wherry.engine.builds.trees import Client
from wherry.errors import WherryError
from wherry.model.build_graph import GitSource, Vertex
from wherry.storage.content import Contents


class _Nobody:
    def tell(self, message: object, /) -> None: ...

    async def room(self) -> None: ...


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (GitSource("https://127.0.0.1:1/r.git", "--upload-pack=touch /tmp/x"), "invalid Git reference"),
        (GitSource("file:///r.git"), "is reached by https, http, git or ssh"),
        (GitSource("/r.git"), "is reached by https, http, git or ssh"),
    ],
)
def test_refused_before_git_is_asked(tmp_path: Path, source: GitSource, words: str) -> None:
    sources = BuildSources(cast("object", None), cast(Contents, None), tmp_path)  # type: ignore[arg-type]
    with pytest.raises(WherryError, match=words):
        asyncio.run(sources.tree(Vertex(source), cast(Client, None), Progress(_Nobody())))


def test_submodules_are_neither_files_of_this_host_nor_reached_by_its_keys() -> None:
    assert not {"file", "ssh"} & set(_GIT_ENVIRONMENT["GIT_ALLOW_PROTOCOL"].split(":"))
