"""Ignore files: reading, matching, and what a walk needs to know."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidParameter
from wherry.model.dockerfile.ignore import IgnoreRules, ignore_file_names, read_patterns


def test_lines_are_cleaned() -> None:
    text = "\ufeff a \n#comment\n\n/b//c/../d/\n! x/ \n #not a comment\n/\n"
    assert read_patterns(text) == ["a", "b/d", "!x", "#not a comment", "/"]


def test_the_names_of_ignore_files() -> None:
    assert ignore_file_names("docker/app.Dockerfile") == ("docker/app.Dockerfile.dockerignore", ".dockerignore")


@pytest.mark.parametrize(
    ("patterns", "ignored", "left"),
    [
        (["a"], ["a", "a/b", "a/b/c"], ["b/a", "aa"]),
        (["*/a"], ["x/a", "x/a/b"], ["a", "x/y/a"]),
        (["**/a"], ["a", "x/a", "x/y/a/b"], ["xa"]),
        (["a/**"], ["a/b", "a/b/c"], ["a", "b/a"]),
        (["a/**/b"], ["a/b", "a/x/b", "a/x/y/b/z"], ["a/xb", "b"]),
        (["**"], ["a", "a/b"], []),
        (["a?c"], ["abc", "aéc"], ["ac", "a/c"]),
        (["[a-c]x", "[^d]y"], ["bx", "ay"], ["dx", "dy"]),
        (["a\\*b"], ["a*b"], ["axb"]),
        (["*", "!a"], ["b", "b/a"], ["a", "a/x"]),
        (["a", "!a/b"], ["a", "a/c"], ["a/b", "a/b/c"]),
        (["a", "!a/b", "a/b/c"], ["a/b/c"], ["a/b", "a/b/d"]),
        (["!a", "a"], ["a"], []),
        (["a**b"], ["ab", "ax/b", "a/x/y/b"], ["axb", "b"]),
    ],
)
def test_matching(patterns: list[str], ignored: list[str], left: list[str]) -> None:
    rules = IgnoreRules(patterns)
    assert [path for path in [*ignored, *left] if rules.ignores(path)] == ignored


@pytest.mark.parametrize("pattern", ["[", "a[]", "[b-", "a\\", "!", "a**b**c**d**e**f"])
def test_bad_patterns_are_refused_by_name(pattern: str) -> None:
    with pytest.raises(InvalidParameter, match=re.escape(pattern.replace("\\", "\\\\"))):
        IgnoreRules([pattern])


def test_a_directory_that_may_hold_exceptions_is_walked() -> None:
    rules = IgnoreRules(["*", "!a/b/c", "!x*/y"])
    held = [path for path in ("a", "a/b", "a/c", "b", "x1", "a/b/c") if rules.may_hold_exceptions(path)]
    assert held == ["a", "a/b", "x1"]
    assert not IgnoreRules(["*"]).may_hold_exceptions("a")


_component = st.text(alphabet="ab*?", min_size=1, max_size=3).filter(lambda part: "**" not in part)
_pattern = st.lists(st.one_of(_component, st.just("**")), min_size=1, max_size=4).map("/".join)
_path = st.lists(st.text(alphabet="ab", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join)


def _plainly(pattern: str) -> re.Pattern[str]:
    """The documented translation, one token after another."""
    text, position = "", 0
    while position < len(pattern):
        if pattern.startswith("**", position):
            position += 2
            position += pattern.startswith("/", position)
            text += "(?:.*/)?" if position < len(pattern) else ".*"
            continue
        text += {"*": "[^/]*", "?": "[^/]"}.get(pattern[position], re.escape(pattern[position]))
        position += 1
    return re.compile(text)


def _with_parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


@given(st.lists(_pattern, max_size=4), _path)
def test_any_pattern_that_matches_a_path_or_a_parent_keeps_it_out(patterns: list[str], path: str) -> None:
    matches = any(_plainly(pattern).fullmatch(one) for pattern in patterns for one in _with_parents(path))
    assert IgnoreRules(patterns).ignores(path) == matches


@given(st.lists(st.tuples(st.booleans(), _pattern), max_size=4), st.booleans(), _path)
def test_the_last_pattern_decides_if_it_matches_the_path(
    earlier: list[tuple[bool, str]], negated: bool, path: str
) -> None:
    """One that matches a parent only counts if it changed something there, as in the reference."""
    for last in (path, "**"):
        rules = IgnoreRules(["!" * flag + pattern for flag, pattern in [*earlier, (negated, last)]])
        assert rules.ignores(path) == (not negated)


def test_a_pattern_that_changed_nothing_of_a_parent_is_forgotten() -> None:
    assert IgnoreRules(["!**", "?/?", "!?"]).ignores("a/a")
    assert not IgnoreRules(["a", "!a/b", "a"]).ignores("a/b")


@given(_pattern, _path)
def test_a_walk_that_skips_directories_finds_all_that_is_left(pattern: str, path: str) -> None:
    rules = IgnoreRules(["*", "!" + pattern])
    if rules.ignores(path):
        return
    parts = path.split("/")
    for depth in range(1, len(parts)):
        parent = "/".join(parts[:depth])
        assert not rules.ignores(parent) or rules.may_hold_exceptions(parent)


def test_no_pattern_is_slow() -> None:
    path = "/".join("a" * 500)
    for pattern in ("**/a/" * 12 + "b", "*a" * 40 + "b", "**/*a*a*a*a*b" * 3):
        assert not IgnoreRules([pattern]).ignores(path)


@given(st.text(alphabet="ab*?[]^-\\!/# .", max_size=12), _path)
def test_any_pattern_is_matched_or_refused(text: str, path: str) -> None:
    try:
        rules = IgnoreRules(read_patterns(text))
    except InvalidParameter as error:
        assert "pattern" in str(error)
    else:
        rules.ignores(path)
