"""Flags that are newer than the BuildKit that we compare with: the examples of the Dockerfile reference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.cases import BASE, Case, Made
from tests.build.wherry import Command
from tests.support.daemon import Wherryd, temporary_folder

FILES = {
    name: Made(name.encode())
    for name in "x/a.txt x/y/b.txt x/y/c.md z/a.txt z/y/d.txt top.txt top.md one/two/three.go".split()
}


@pytest.fixture(scope="module")
def command() -> Iterator[Command]:
    daemon = Wherryd(temporary_folder())
    daemon.start()
    try:
        found = Command(daemon)
        found.prepare()
        yield found
    finally:
        daemon.dispose()


@pytest.mark.parametrize(
    ("copy", "expected"),
    [
        ("COPY ./x/a.txt ./z/a.txt /o/", "a.txt"),
        ("COPY --parents ./x/a.txt ./z/a.txt /o/", "x/a.txt z/a.txt"),
        ("COPY --parents ./x/./y/*.txt /o/", "y/b.txt"),
        ("COPY --parents x/y /o/", "x/y/b.txt x/y/c.md"),
        ("COPY --parents */y/*.txt /o/", "x/y/b.txt z/y/d.txt"),
        ("COPY --parents **/*.go /o/", "one/two/three.go"),
        ("COPY --parents one /o/", "one/two/three.go"),
        ("COPY --exclude=*.txt top.* /o/", "top.md"),
        ("COPY --exclude=**/*.txt x /o/", "y/c.md"),
        ("COPY --exclude=y x /o/", "a.txt"),
        ("COPY --exclude=*.md --exclude=**/y . /o/", "one/two/three.go top.txt x/a.txt z/a.txt"),
        ("ADD --exclude=*.txt x z /o/", "y/b.txt y/c.md y/d.txt"),
    ],
)
def test_parents_and_exclude(copy: str, expected: str, command: Command, tmp_path: Path) -> None:
    built = command.build(Case("", f"FROM {BASE}\n{copy}\n", FILES), tmp_path)
    found = [path.removeprefix("o/") for path, entry in sorted(built.changes[-1].items()) if entry["kind"] == "file"]
    assert [path for path in found if not path.startswith("Dockerfile")] == expected.split()
