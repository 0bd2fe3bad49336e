"""`build` on the command line: what is read from disk and environment, and how options become those of a plan."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from tests.support.base_images import HOST
from wherry.cli.buildfiles import plan_options, read_given
from wherry.cli.errors import Failure
from wherry.cli.flags import Flags, parse
from wherry.cli.table import COMMANDS
from wherry.model.build_graph import Ulimit
from wherry.model.dockerfile.options import ImageContext, LocalContext


def flags_of(*words: str) -> Flags:
    (command,) = (command for command in COMMANDS if "build" in command[0])
    return parse(command[5], list(words))[0]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM a\n")
    (tmp_path / "Other").write_text("FROM b\n")
    (tmp_path / ".dockerignore").write_text("x/\n")
    (tmp_path / "Other.dockerignore").write_text("# c\n!y\n")
    return tmp_path


def test_the_dockerfile_and_its_ignore_file(context: Path) -> None:
    given = read_given(flags_of(), str(context))
    assert (given.dockerfile, given.name, given.patterns) == (b"FROM a\n", "Dockerfile", ("x",))
    given = read_given(flags_of("-f", str(context / "Other")), str(context))
    assert (given.dockerfile, given.name, given.patterns) == (b"FROM b\n", "Other", ("!y",))


def test_standard_input(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"FROM c\n")))
    given = read_given(flags_of("-f", "-"), str(context))
    assert (given.dockerfile, given.context, given.patterns) == (b"FROM c\n", str(context), ("x",))
    with pytest.raises(Failure, match="can't use stdin for both"):
        read_given(flags_of("-f", "-"), "-")


@pytest.mark.parametrize(
    ("words", "path", "text"),
    [
        ((), "/nowhere", 'ERROR: unable to prepare context: path "/nowhere" not found'),
        (("-f", "/nowhere"), "/", "ERROR: failed to read dockerfile: open /nowhere: no such file or directory"),
        (
            (),
            "https://h/r.git",
            "https://h/r.git is not at hand: give a directory, or the Dockerfile on standard input",
        ),
    ],
)
def test_what_is_not_there(words: tuple[str, ...], path: str, text: str) -> None:
    with pytest.raises(Failure) as caught:
        read_given(flags_of(*words), path)
    assert caught.value.text == text


def test_options(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "v")
    monkeypatch.delenv("NOT_SET", raising=False)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
    words = (
        "--build-arg A=1=2 --build-arg FROM_HERE --build-arg NOT_SET --label l --label m=n --target t --platform arm64 "
        "--no-cache-filter a,b --network default --add-host h:1.2.3.4 --shm-size 1k --ulimit nofile=5:6 "
        f"--build-context I=docker-image://x --build-context d={context} --allow network.host"
    ).split()
    flags = flags_of(*words)
    options = plan_options(flags, read_given(flags, str(context)), HOST)
    assert options.build_args == {"A": "1=2", "FROM_HERE": "v", "SOURCE_DATE_EPOCH": "7"}
    assert options.labels == {"l": "", "m": "n"}
    assert (options.target, str(options.platform), options.epoch) == ("t", "linux/arm64", 7)
    assert options.no_cache_stages == {"a", "b"}
    assert (options.network, options.extra_hosts, options.shm_size) == ("", ("h:1.2.3.4",), 1024)
    assert options.ulimits == (Ulimit("nofile", 5, 6),)
    assert options.contexts == {"i": ImageContext("x"), "d": LocalContext("d", ("x",))}
    assert options.main == LocalContext("context", ("x",))
    assert options.allow == {"network.host"}


def test_the_cache_serves_all_some_or_nothing(context: Path) -> None:
    def stages(*words: str) -> frozenset[str] | None:
        flags = flags_of(*words)
        return plan_options(flags, read_given(flags, str(context)), HOST).no_cache_stages

    assert stages() is None
    assert stages("--no-cache") == frozenset()
    assert stages("--no-cache-filter", "x") == {"x"}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("x", "invalid context value: x, expected key=value"),
        ("x=oci-layout:///y", "oci-layout:///y is not at hand: a named context is a directory or docker-image://NAME"),
        ("x=/nowhere", 'ERROR: failed to get build context x: path "/nowhere" not found'),
    ],
)
def test_named_contexts_that_are_none(given: str, text: str, context: Path) -> None:
    flags = flags_of("--build-context", given)
    with pytest.raises(Failure) as caught:
        plan_options(flags, read_given(flags, str(context)), HOST)
    assert caught.value.text == text


def test_an_epoch_is_a_number(context: Path) -> None:
    flags = flags_of("--build-arg", "SOURCE_DATE_EPOCH=now")
    with pytest.raises(Failure, match="invalid SOURCE_DATE_EPOCH: now"):
        plan_options(flags, read_given(flags, str(context)), HOST)
