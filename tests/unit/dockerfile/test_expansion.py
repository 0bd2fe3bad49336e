"""Words with quotes, escapes and variables."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wherry.model.dockerfile.expansion import Lexer, shown
from wherry.model.dockerfile.patterns import InvalidPattern, replaced, without_prefix, without_suffix
from wherry.model.dockerfile.source import DockerfileError

VALUES = {"x": "foo", "empty": "", "path": "/usr/lib/x.tar.gz", "sp": "a  b"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$x", "foo"),
        ("${x}y $xy", "fooy "),
        ("'$x' \"$x\" \\$x", "$x foo $x"),
        ('"a\\"b\\\\c\\d"', 'a"b\\c\\d'),
        ("a\\", "a"),
        ("$", "$"),
        ("$1a $$", "a "),
        ("${none:-d} ${empty:-d} ${empty-d} ${none-d} ${x:-d}", "d d  d foo"),
        ("${none:+a}${empty:+a}${empty+b}${x:+c}", "bc"),
        ("${none:-${empty:-${x}}}", "foo"),
        ("${path#*/} ${path##*/} ${path%.*} ${path%%.*}", "usr/lib/x.tar.gz x.tar.gz /usr/lib/x.tar /usr/lib/x"),
        ("${x/o/0} ${x//o/0} ${path/\\/usr/}", "f0o f00 /lib/x.tar.gz"),
        ("${x:?no}", "foo"),
        ("<<EOF", "<<EOF"),
        ("é$x", "éfoo"),
    ],
)
def test_texts(text: str, result: str) -> None:
    assert Lexer().word(text, VALUES) == result


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${x", "failed to process \"${x\": syntax error: missing '}'"),
        ("${", "failed to process \"${\": syntax error: missing '}'"),
        ("${}", 'failed to process "${}": syntax error: bad substitution'),
        ("${x:=y}", 'failed to process "${x:=y}": unsupported modifier (:=) in substitution'),
        ("${x!}", 'failed to process "${x!}": unsupported modifier (!) in substitution'),
        ("${none?}", 'failed to process "${none?}": none: is not allowed to be unset'),
        ("${empty:?}", 'failed to process "${empty:?}": empty: is not allowed to be empty'),
        ("${none:?say}", 'failed to process "${none:?say}": none: say'),
        ("'a", 'failed to process "\'a": unexpected end of statement while looking for matching single-quote'),
        ('"a', 'failed to process "\\"a": unexpected end of statement while looking for matching double-quote'),
        ("${x/a}", "failed to process \"${x/a}\": syntax error: missing '/' in ${}"),
        ("${x#\\a}", "failed to process \"${x#\\\\a}\": invalid pattern (\\a) in substitution: invalid escape '\\a'"),
    ],
)
def test_what_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        Lexer().expand(text, VALUES)
    assert str(caught.value) == message


def test_words_are_split_after_variables_but_not_inside_quotes() -> None:
    assert Lexer().expand("a $sp \"$sp\" 'c d' e\\ f", VALUES).words == ["a", "a", "b", "a  b", "c d", "e f"]


def test_variables_are_told_by_whether_they_have_a_value() -> None:
    found = Lexer().expand("$x $y ${z:-$empty}", VALUES)
    assert (found.matched, found.unmatched) == ({"x", "empty"}, {"y", "z"})


def test_the_other_escape_character() -> None:
    assert Lexer("`").word("a`$x \\$x", VALUES) == "a$x \\foo"


def test_quotes_without_meaning() -> None:
    assert Lexer(plain_quotes=True).word("'$x' \"y\" \\$x", VALUES) == "'foo' \"y\" $x"


def test_what_people_see_keeps_quotes_and_unknown_variables() -> None:
    assert shown(Lexer(), "RUN '$x' $x ${y:-z} \"q\"", VALUES) == "RUN '$x' foo ${y:-z} \"q\""
    assert shown(Lexer(), "RUN '", VALUES) == "RUN '"


@given(st.text(alphabet="ax$ {}:-+?#%/'\"\\`<*", max_size=40), st.booleans())
@example("${x:-" * 300, False)
@example("${x##" + "*a" * 200 + "}", False)
def test_any_text_is_expanded_or_refused(text: str, raw: bool) -> None:
    lexer = Lexer(keep_quotes=raw, keep_escapes=raw, keep_unset=raw)
    try:
        lexer.expand(text, {"x": "a" * 50, "a": ""})
    except DockerfileError as error:
        assert str(error).startswith("failed to process ")


@given(st.text(alphabet="abc /\n", max_size=30))
def test_a_quoted_text_is_itself(text: str) -> None:
    assert Lexer().expand(f"'{text}'", {}).text == text
    assert Lexer().expand(f'"{text}"', {}).text == text


def _expression(pattern: str, greedy: bool) -> str:
    star = ".*" if greedy else ".*?"
    return "".join(star if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)


_pattern = st.text(alphabet="ab*?", max_size=5)
_value = st.text(alphabet="ab\n", max_size=12)


@given(_value, _pattern, st.booleans())
def test_prefixes_are_those_that_an_expression_finds(value: str, pattern: str, longest: bool) -> None:
    match = re.match(_expression(pattern, longest), value)
    assert without_prefix(value, pattern, longest) == (value[match.end() :] if match else value)


@given(_value, _pattern, st.booleans())
def test_suffixes_are_prefixes_from_behind(value: str, pattern: str, longest: bool) -> None:
    behind = without_prefix(value[::-1], pattern[::-1], longest)[::-1]
    assert without_suffix(value, pattern, longest) == behind


@given(_value, _pattern.filter(bool), st.booleans())
@example("aab", "*", True)
def test_replacing_is_as_an_expression_does(value: str, pattern: str, everywhere: bool) -> None:
    expected = re.sub(_expression(pattern, True), "X", value, count=0 if everywhere else 1)
    if everywhere and set(pattern) == {"*"}:
        return  # after a match, Python finds one more that is empty; Go does not
    assert replaced(value, pattern, "X", everywhere) == expected


def test_a_pattern_takes_no_more_than_its_time() -> None:
    assert without_prefix("a" * 20_000, "*a" * 50 + "b", True) == "a" * 20_000


def test_a_pattern_that_ends_in_an_escape_is_refused() -> None:
    with pytest.raises(InvalidPattern):
        without_prefix("a", "a\\", False)
