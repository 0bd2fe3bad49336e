"""Command lines by pflag's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.cli.flags import FlagError, HelpAsked, parse, parse_bool, parse_int
from wherry.cli.table import COMMANDS, GLOBAL_FLAGS, Flag
from wherry.cli.values import PARSERS

FLAGS: tuple[Flag, ...] = (
    ("all", "a", "bool", "All"),
    ("env", "e", "list/env", "Environment"),
    ("interactive", "i", "bool", "Stdin"),
    ("last", "n", "int", "Last"),
    ("name", "", "string", "Name"),
    ("network", "", "network", "Network"),
    ("timeout", "t", "int", "Grace"),
)


def test_forms_of_a_flag() -> None:
    for words in (["--name=x"], ["--name", "x"]):
        assert parse(FLAGS, words)[0].text("name") == "x"
    for words in (["-n", "3"], ["-n3"], ["-n=3"], ["--last=3"]):
        assert parse(FLAGS, words)[0].number("last") == 3


def test_clusters() -> None:
    flags, rest = parse(FLAGS, ["-ain", "5", "x"])
    assert flags.on("all")
    assert flags.on("interactive")
    assert flags.number("last") == 5
    assert rest == ["x"]


def test_booleans_take_no_following_word() -> None:
    flags, rest = parse(FLAGS, ["--all", "false", "--interactive=false"])
    assert flags.on("all")
    assert not flags.on("interactive")
    assert flags.changed("interactive")
    assert rest == ["false"]


def test_mixing_with_arguments() -> None:
    assert parse(FLAGS, ["x", "-a", "y"])[1] == ["x", "y"]
    flags, rest = parse(FLAGS, ["-a", "x", "-i", "y"], mixed=False)
    assert rest == ["x", "-i", "y"]
    assert not flags.on("interactive")


def test_double_dash_and_single_dash() -> None:
    assert parse(FLAGS, ["-", "--", "-a", "--name"])[1] == ["-", "-a", "--name"]
    assert parse(FLAGS, ["-a", "--", "-i"], mixed=False)[1] == ["-i"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["--nope=1"], "unknown flag: --nope"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-axi"], "unknown shorthand flag: 'x' in -xi"),
        (["---a"], "bad flag syntax: ---a"),
        (["--=a"], "bad flag syntax: --=a"),
        (["--name"], "flag needs an argument: --name"),
        (["-an"], "flag needs an argument: 'n' in -n"),
        (
            ["--all=maybe"],
            'invalid argument "maybe" for "-a, --all" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        (["-n", "x"], 'invalid argument "x" for "-n, --last" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        (["-e", "=x"], 'invalid argument "=x" for "-e, --env" flag: invalid environment variable: =x'),
    ],
)
def test_words_of_errors(words: list[str], message: str) -> None:
    with pytest.raises(FlagError) as caught:
        parse(FLAGS, words)
    assert str(caught.value) == message


def test_help() -> None:
    for words in (["--help"], ["x", "--help"], ["--help=true"]):
        with pytest.raises(HelpAsked):
            parse(FLAGS, words)
    with pytest.raises(HelpAsked) as caught:
        parse(FLAGS, ["-h"])
    assert caught.value.shorthand
    assert parse(FLAGS, ["--help=false"])[1] == []


def test_former_spellings() -> None:
    notes: list[str] = []
    flags, _ = parse(FLAGS, ["--net", "host", "--time=3"], warnings=notes)
    assert flags.items("network")[0]["Target"] == "host"
    assert flags.number("timeout") == 3
    assert notes == ["Flag --time has been deprecated, use --timeout instead"]


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_round_trip(value: int) -> None:
    assert parse_int(str(value)) == value


@pytest.mark.parametrize(("text", "value"), [("0x1f", 31), ("010", 8), ("0b101", 5), ("1_000", 1000), ("+7", 7)])
def test_integers_in_go_notation(text: str, value: int) -> None:
    assert parse_int(text) == value


@pytest.mark.parametrize("text", ["", "-", "1.5", "abc", " 1", "1 ", "08", "--1", "٣"])
def test_not_integers(text: str) -> None:
    with pytest.raises(ValueError, match="invalid syntax"):
        parse_int(text)


def test_integers_out_of_range() -> None:
    with pytest.raises(ValueError, match="value out of range"):
        parse_int("70000", 16, signed=False)
    with pytest.raises(ValueError, match="value out of range"):
        parse_int(str(2**63))


def test_booleans() -> None:
    assert all(parse_bool(text) for text in ("1", "t", "T", "TRUE", "true", "True"))
    assert not any(parse_bool(text) for text in ("0", "f", "F", "FALSE", "false", "False"))
    with pytest.raises(ValueError, match="invalid syntax"):
        parse_bool("yes")


@given(st.lists(st.builds("{}{}".format, st.characters(exclude_characters="-"), st.text())))
def test_words_without_a_dash_are_arguments(words: list[str]) -> None:
    assert parse(FLAGS, words)[1] == words


@given(st.lists(st.text()))
def test_all_after_the_double_dash_is_kept(words: list[str]) -> None:
    assert parse(FLAGS, ["-a", "--", *words])[1] == words


@given(st.text(), st.booleans())
def test_any_text_is_a_string_value(text: str, joined: bool) -> None:
    words = [f"--name={text}"] if joined else ["--name", text]
    assert parse(FLAGS, words)[0].text("name") == text


def test_every_kind_in_the_table_has_a_parser() -> None:
    kinds = {flag[2] for command in COMMANDS for flag in command[5]} | {flag[2] for flag in GLOBAL_FLAGS}
    assert kinds - {"bool", "string", "int", "list"} <= set(PARSERS)


def test_no_command_has_a_flag_twice() -> None:
    for paths, *_, flags in COMMANDS:
        names = [flag[0] for flag in flags]
        letters = [flag[1] for flag in flags if flag[1]]
        assert len(set(names)) == len(names), paths
        assert len(set(letters)) == len(letters), paths
