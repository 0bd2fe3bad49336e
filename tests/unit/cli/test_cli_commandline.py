"""Which command the words name, the texts of help and of usage errors, and what starting costs in imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wherry.cli.commandline import Help, arity_problem, find, resolve, spellings
from wherry.cli.commands.images import rows
from wherry.cli.errors import Failure
from wherry.cli.help import flag_lines, wrap
from wherry.cli.table import COMMANDS, GROUPS, LATER
from wherry.model.template import parse


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["ps"], "ps"),
        (["container", "list"], "container ls"),
        (["image", "remove", "x"], "image rm"),
        (["-D", "-H", "unix:///x", "ps", "-a"], "ps"),
        (["run", "-d", "image", "--rm"], "run"),
    ],
)
def test_finding(words: list[str], path: str) -> None:
    assert resolve(words).path == path


def test_flags_after_the_image_are_the_containers() -> None:
    invocation = resolve(["run", "-d", "image", "sh", "--rm"])
    assert invocation.arguments == ["image", "sh", "--rm"]
    assert not invocation.flags.changed("rm")


@pytest.mark.parametrize(
    ("words", "text", "code"),
    [
        (["foo"], "wherry: unknown command: wherry foo\n\nRun 'wherry --help' for more information", 1),
        (
            ["container", "foo"],
            "wherry: unknown command: wherry container foo\n\nUsage:  wherry container\n\n"
            "Run 'wherry container --help' for more information",
            1,
        ),
        (
            ["run", "--nope"],
            "unknown flag: --nope\n\nUsage:  wherry run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\n"
            "Run 'wherry run --help' for more information",
            125,
        ),
        (
            ["run"],
            "wherry: 'wherry run' requires at least 1 argument\n\n"
            "Usage:  wherry run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\n"
            "See 'wherry run --help' for more information",
            1,
        ),
        (
            ["ps", "x"],
            "wherry: 'wherry ps' accepts no arguments\n\nUsage:  wherry ps [OPTIONS]\n\n"
            "Run 'wherry ps --help' for more information",
            1,
        ),
        (["trust"], "wherry: 'wherry trust' is not there yet", 1),
        (["volume", "update", "x"], "wherry: 'wherry volume update' is not there yet", 1),
    ],
)
def test_words_of_usage_errors(words: list[str], text: str, code: int) -> None:
    with pytest.raises(Failure) as caught:
        resolve(words)
    assert (caught.value.text, caught.value.code) == (text, code)


@pytest.mark.parametrize(
    ("count", "least", "most", "text"),
    [
        (0, 1, -1, "requires at least 1 argument"),
        (1, 2, 2, "requires 2 arguments"),
        (3, 1, 2, "requires at least 1 and at most 2 arguments"),
        (2, 0, 1, "requires at most 1 argument"),
        (5, 1, -1, ""),
    ],
)
def test_arity(count: int, least: int, most: int, text: str) -> None:
    assert arity_problem(count, least, most) == text


@pytest.mark.parametrize("words", [[], ["--help"], ["help"], ["-v"], ["container"], ["run", "--help"], ["help", "ps"]])
def test_help(words: list[str]) -> None:
    with pytest.raises(Help) as caught:
        resolve(words)
    assert "herry" in caught.value.text


def test_every_command_has_help_and_a_home() -> None:
    for paths, *_, module, _flags in COMMANDS:
        for pattern in paths:
            for path in spellings(pattern):
                assert find(path) is not None
                assert path not in LATER
                with pytest.raises(Help):
                    resolve([*path.split(), "--help"])
                assert " " not in path or path.split()[0] in GROUPS
        name, _, function = module.partition(":")
        loaded = __import__(f"wherry.cli.commands.{name}", fromlist=["run"])
        assert callable(getattr(loaded, function or "run"))


def test_wrapping_keeps_lines_and_avoids_orphans() -> None:
    usage = "Automatically remove the container and its associated anonymous volumes when it exits"
    assert wrap(usage, 41, 79) == (
        "Automatically remove the\n"
        + " " * 41
        + "container and its associated\n"
        + " " * 41
        + "anonymous volumes when it exits"
    )
    assert wrap("a\nb", 4, 79) == "a\n    b"


def test_hidden_flags_are_not_listed() -> None:
    assert flag_lines((("seen", "s", "bool", "Seen"), ("hidden", "", "int", "")), 79) == ["  -s, --seen   Seen"]


def test_lines_of_an_image() -> None:
    image = {"RepoTags": ["a:1", "b:2", "a:3"], "RepoDigests": ["a@sha256:x", "c@sha256:y"]}
    plain = [(row["repository"], row["tag"]) for row in rows(image, digests=False)]
    assert plain == [("a", "1"), ("a", "3"), ("b", "2"), ("c", "<none>")]
    full = [(row["repository"], row["tag"], row["digest"]) for row in rows(image, digests=True)]
    assert full == [
        ("a", "1", "sha256:x"),
        ("a", "3", "sha256:x"),
        ("b", "2", "<none>"),
        ("c", "<none>", "sha256:y"),
    ]
    assert [row["repository"] for row in rows({"RepoTags": ["<none>:<none>"]}, digests=False)] == ["<none>"]


def test_typed_values_print_as_go_does() -> None:
    from wherry.cli.structs import Struct

    container = Struct(
        "container.InspectResponse",
        {
            "Id": "x",
            "State": {"Status": "running", "ExitCode": 3},
            "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "1.2.3.4", "HostPort": "9"}]}, "Memory": 5},
            "Config": {"Healthcheck": {"Test": ["NONE"], "Interval": 3 * 10**9}, "Env": None},
        },
    )
    template = (
        "{{.ID}} {{.State.ExitCode}} {{.HostConfig.PortBindings}} {{.Config.Env}} {{.Config.Labels}} "
        "{{.Config.StopTimeout}} {{.Config.Healthcheck.Interval}} {{json .Config.Healthcheck}} {{.Mounts}}"
    )
    assert parse(template).render(container) == (
        'x 3 map[80/tcp:[{1.2.3.4 9}]] [] map[] <nil> 3s {"Test":["NONE"],"Interval":3000000000} []'
    )


HEAVY = (
    "asyncio",
    "argparse",
    "aiohttp",
    "dataclasses",
    "http",
    "inspect",
    "json",
    "msgspec",
    "re",
    "socket",
    "typing",
)


def test_ps_imports_nothing_heavy() -> None:
    source = Path(__file__).parents[3] / "src"
    script = (
        f"import sys; sys.path.insert(0, {str(source)!r}); import wherry.cli.main, wherry.cli.context, "
        f"wherry.cli.commands.ps; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
