"""A runtime that is there before its configuration: it waits, reads it twice, and is not left waiting."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wherry.runtime.feeding import SpecFeed

READS_TWICE = ["sh", "-c", 'echo here >started; cat config.json; echo; cat config.json; echo "."']


@contextmanager
def runtime(bundle: Path) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(READS_TWICE, cwd=bundle, stdout=subprocess.PIPE, text=True) as process:
        yield process


@pytest.mark.parametrize("size", [10, 65536, 65537, 900_000])
def test_it_waits_and_reads_the_same_twice(tmp_path: Path, size: int) -> None:
    spec = b"x" * size
    with SpecFeed(tmp_path, early=True) as feed, runtime(tmp_path) as process:
        while not (tmp_path / "started").exists():
            assert process.poll() is None
        feed.put(spec)
        output, _ = process.communicate()
    assert output == f"{spec.decode()}\n{spec.decode()}.\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "started"]


def test_it_may_come_late(tmp_path: Path) -> None:
    with SpecFeed(tmp_path, early=True) as feed:
        feed.put(b"spec")
        with runtime(tmp_path) as process:
            assert process.communicate()[0] == "spec\nspec.\n"


def test_without_a_spec_it_finds_nothing(tmp_path: Path) -> None:
    with SpecFeed(tmp_path, early=True) as feed:
        process = subprocess.Popen(READS_TWICE, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        assert feed.early
    with process:
        assert process.communicate()[0] == "\n.\n"


def test_a_runtime_that_comes_later_finds_a_file(tmp_path: Path) -> None:
    with SpecFeed(tmp_path, early=False) as feed:
        assert not (tmp_path / "config.json").exists()
        feed.put(b"spec")
    assert (tmp_path / "config.json").read_bytes() == b"spec"
