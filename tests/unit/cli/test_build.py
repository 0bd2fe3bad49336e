"""`build` on the command line: options as those of an order and of a plan."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wherry.cli.build_outputs import read_outputs
from wherry.cli.commands import build
from wherry.cli.errors import Failure
from wherry.cli.flags import parse
from wherry.cli.table import COMMANDS
from wherry.errors import InvalidParameter
from wherry.model.build_graph import Ulimit
from wherry.model.build_session import UlimitOption
from wherry.model.dockerfile.options import ImageContext, LocalContext


def surroundings(*words: str) -> Any:
    (command,) = (command for command in COMMANDS if "build" in command[0])
    flags, arguments = parse(command[5], list(words))
    return SimpleNamespace(flags=flags, arguments=arguments)


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "Dockerfile").write_text("FROM a\n")
    (tmp_path / "Other").write_text("FROM b\n")
    (tmp_path / ".dockerignore").write_text("x/\n")
    (tmp_path / "Other.dockerignore").write_text("# c\n!y\n")
    return tmp_path


def test_the_dockerfile_and_its_ignore_file(context: Path) -> None:
    found = build._sources(surroundings(str(context)))
    assert (found.dockerfile, found.exclude) == (b"FROM a\n", ["x"])
    found = build._sources(surroundings("-f", str(context / "Other"), str(context)))
    assert (found.dockerfile, found.exclude) == (b"FROM b\n", ["!y"])


def test_limits_of_an_order(context: Path) -> None:
    asked = surroundings("--ulimit", "nofile=5:6", str(context))
    assert build._order(asked, build._sources(asked), []).ulimits == [UlimitOption("nofile", 5, 6)]


def test_options_of_a_plan(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "v")
    monkeypatch.delenv("NOT_SET", raising=False)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
    words = (
        "--build-arg A=1=2 --build-arg FROM_HERE --build-arg NOT_SET --label l --label m=n --target t --platform arm64 "
        "--network default --add-host h:1.2.3.4 --shm-size 1k --ulimit nofile=5:6 "
        f"--build-context I=docker-image://x --build-context d={context} --allow network.host {context}"
    ).split()
    asked = surroundings(*words)
    options = build._plan_options(asked, build._sources(asked))
    assert options.build_args == {"A": "1=2", "FROM_HERE": "v", "SOURCE_DATE_EPOCH": "7"}
    assert options.labels == {"l": "", "m": "n"}
    assert (options.target, str(options.platform), options.epoch) == ("t", "linux/arm64", 7)
    assert (options.network, options.extra_hosts, options.shm_size) == ("", ("h:1.2.3.4",), 1024)
    assert options.ulimits == (Ulimit("nofile", 5, 6),)
    assert options.contexts == {"i": ImageContext("x"), "d": LocalContext("d", ("x",))}
    assert options.main == LocalContext("context", ("x",))
    assert options.allow == {"network.host"}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--build-arg", "SOURCE_DATE_EPOCH=now"), "invalid SOURCE_DATE_EPOCH: now: it is a number of seconds"),
        (
            ("--build-context", "g=https://h/r.git"),
            "--check and --plan do not fetch the build context g=https://h/r.git",
        ),
        (("--build-context", "x"), "invalid context value: x, expected key=value"),
    ],
)
def test_what_a_plan_cannot_have(words: tuple[str, ...], text: str, context: Path) -> None:
    asked = surroundings(*words, str(context))
    with pytest.raises(Failure) as caught:
        build._plan_options(asked, build._sources(asked))
    assert caught.value.text == text


def test_a_platform_that_is_none(context: Path) -> None:
    asked = surroundings("--platform", "a/b/c/d", str(context))
    with pytest.raises(InvalidParameter):
        build._plan_options(asked, build._sources(asked))


def test_forms_of_a_plan(context: Path) -> None:
    asked = surroundings("--plan=picture", str(context))
    with pytest.raises(Failure, match="invalid argument for --plan: picture: it is text or mermaid"):
        build._only_plan(asked, build._sources(asked))


def test_a_file_to_write_needs_its_folder(context: Path) -> None:
    with pytest.raises(Failure, match=r"open .*/none/x\.tar: no such file"):
        read_outputs([f"type=oci,dest={context}/none/x.tar"])
    assert read_outputs([f"type=local,dest={context}/none/x"])[1][0].type == "tar"  # folders are made
