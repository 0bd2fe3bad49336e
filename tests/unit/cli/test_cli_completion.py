"""What the shells are offered."""

from __future__ import annotations

import pytest

from wherry.cli.completion import complete
from wherry.cli.table import COMMANDS

NAMES = {"container": ["db", "web"], "image": ["site:1", "base:latest"], "network": ["bridge"], "volume": ["data"]}


def offered(*words: str) -> list[str]:
    return [word for word, _ in complete(list(words), lambda kind, host: NAMES[kind]).candidates]


def files(*words: str) -> bool:
    return complete(list(words), lambda kind, host: NAMES[kind]).files


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["histor"], ["history"]),
        (["-H", "unix:///x", "histor"], ["history"]),
        (["volume", "pr"], ["prune"]),
        (["container", "ls", "--fo"], ["--format"]),
        (["rm", ""], ["db", "web"]),
        (["rm", "db", ""], ["web"]),
        (["rm", "-f", "w"], ["web"]),
        (["logs", "web", ""], []),
        (["run", "--network", ""], ["bridge"]),
        (["run", "--network=br"], ["--network=bridge"]),
        (["run", "-d", "--name", "x", "s"], ["site:1"]),
        (["run", "site:1", "--"], []),
        (["tag", "b"], ["base:latest"]),
        (["volume", "rm", ""], ["data"]),
        (["nonsense", ""], []),
        (["completion", ""], ["bash", "fish", "zsh"]),
    ],
)
def test_candidates(words: list[str], found: list[str]) -> None:
    assert offered(*words) == found


def test_files_where_nothing_is_known() -> None:
    assert files("load", "-i", "x")
    assert files("run", "--env-file", "")
    assert files("run", "site:1", "")
    assert not files("rm", "")


def test_every_command_is_offered() -> None:
    top = offered("")
    for paths, *_ in COMMANDS:
        for pattern in paths:
            first, _, rest = pattern.partition(" ")
            assert first in top
            if rest:
                assert rest.split("|")[0] in offered(first, "")
