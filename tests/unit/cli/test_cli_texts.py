"""Sizes, durations, times, tables, quoted text: Go's and Docker's forms."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.cli.humanize import bytes_size, ellipsis, human_duration, human_size, short_id
from wherry.cli.ports import displayable
from wherry.cli.tabular import align, table
from wherry.model import jsontext
from wherry.model.gotext import quote, title, unquote
from wherry.model.gotime import format_duration, format_time, moment, parse_duration
from wherry.model.sizes import ram_in_bytes


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (1982000, "1.982MB"), (123456789, "123.5MB"), (10**12, "1TB")],
)
def test_human_size(size: int, text: str) -> None:
    assert human_size(size) == text


def test_three_digits() -> None:
    assert human_size(1982000, 3) == "1.98MB"


@pytest.mark.parametrize(
    ("size", "text"), [(1024, "1KiB"), (25276502016, "23.54GiB"), (1, "1B"), (512 << 20, "512MiB")]
)
def test_bytes_size(size: int, text: str) -> None:
    assert bytes_size(size) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("32", 32),
        ("32b", 32),
        ("1k", 1024),
        ("1K", 1024),
        ("1kb", 1024),
        ("1KiB", 1024),
        ("1.5g", 3 << 29),
        ("2 mb", 2 << 20),
    ],
)
def test_ram_in_bytes(text: str, size: int) -> None:
    assert ram_in_bytes(text) == size


@pytest.mark.parametrize("text", ["", "abc", "-1", "1.2.3", "k", "1kk", ".5"])
def test_not_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="invalid"):
        ram_in_bytes(text)


@given(st.integers(0, 10**15))
def test_a_number_is_its_own_size(value: int) -> None:
    assert ram_in_bytes(str(value)) == value


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_human_duration(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("3s", 3 * 10**9),
        ("1h30m", 5400 * 10**9),
        ("-1.5s", -15 * 10**8),
        ("300ms", 3 * 10**8),
        ("0", 0),
        (".5us", 500),
        ("1µs", 1000),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", 'time: missing unit in duration "3"'),
        ("", 'time: invalid duration ""'),
        ("x", 'time: invalid duration "x"'),
        ("3d", 'time: unknown unit "d" in duration "3d"'),
        ("1.2.3s", 'time: invalid duration "1.2.3s"'),
    ],
)
def test_not_durations(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_duration(text)
    assert str(caught.value) == message


@given(st.integers(-(10**17), 10**17))
def test_durations_round_trip(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1700000000", "1700000000"),
        ("1700000000.5", "1700000000.5"),
        ("2023-11-14T22:13:20Z", "1700000000.000000000"),
        ("2023-11-14T22:13:20.25Z", "1700000000.250000000"),
        ("2023-11-15T00:13:20+02:00", "1700000000.000000000"),
        ("10m", "999400"),
        ("-10m", "1000600"),
    ],
)
def test_moments(text: str, seconds: str) -> None:
    assert moment(text, now=1_000_000.0) == seconds


def test_not_a_moment() -> None:
    with pytest.raises(ValueError, match='failed to parse value as time or duration: "nonsense"'):
        moment("nonsense")


def test_times_as_go_prints_them() -> None:
    assert format_time("2026-11-24T10:22:28.79215738Z") == "2026-11-24 10:22:28.79215738 +0000 UTC"
    assert format_time("0001-01-01T00:00:00Z") == "0001-01-01 00:00:00 +0000 UTC"


def test_ellipsis() -> None:
    assert ellipsis("abcdef", 6) == "abcdef"
    assert ellipsis("abcdefg", 6) == "abcde…"
    assert ellipsis("日本語日本語", 6) == "日本…"
    assert ellipsis("x", 0) == ""


@given(st.text(), st.integers(0, 40))
def test_ellipsis_never_grows(text: str, width: int) -> None:
    assert len(ellipsis(text, width)) <= max(len(text), 1)


def test_short_ids() -> None:
    assert short_id("sha256:0123456789abcdef") == "0123456789ab"
    assert short_id("0123456789abcdef") == "0123456789ab"


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a", '"a"'),
        ('a"b', '"a\\"b"'),
        ("a\nb\t", '"a\\nb\\t"'),
        ("é", '"é"'),
        ("\x01", '"\\x01"'),
        ("\u2028", '"\\u2028"'),
    ],
)
def test_quote(text: str, quoted: str) -> None:
    assert quote(text) == quoted


@given(st.text())
def test_quote_and_unquote(text: str) -> None:
    assert unquote(quote(text)) == text


def test_title() -> None:
    assert title("hello wide-world o'neil") == "Hello Wide-World O'neil"


def test_columns_follow_their_neighbours() -> None:
    text = "A\tBB\tC\nlong long long\tx\ty\n\nshort\tz\n"
    assert align(text) == ("A                BB        C\nlong long long   x         y\n\nshort     z\n")


@given(st.lists(st.lists(st.text("abcdé ", max_size=20), min_size=3, max_size=3), max_size=8))
def test_table_is_what_aligning_gives(rows: list[list[str]]) -> None:
    header = ["ONE", "TWO", "THREE"]
    text = "".join("\t".join(line) + "\n" for line in [header, *rows])
    assert table(header, rows) == align(text)


def port(private: int, public: int = 0, address: str = "", protocol: str = "tcp") -> dict[str, Any]:
    return {"PrivatePort": private, "PublicPort": public, "IP": address, "Type": protocol}


@pytest.mark.parametrize(
    ("ports", "text"),
    [
        ([], ""),
        ([port(80)], "80/tcp"),
        ([port(80), port(81), port(83)], "80-81/tcp, 83/tcp"),
        ([port(80, 8080, "0.0.0.0"), port(80, 8080, "::")], "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
        ([port(9001, 9001, "1.2.3.4"), port(9000, 9000, "1.2.3.4")], "1.2.3.4:9000-9001->9000-9001/tcp"),
        ([port(53, protocol="udp"), port(53)], "53/tcp, 53/udp"),
    ],
)
def test_ports(ports: list[dict[str, Any]], text: str) -> None:
    assert displayable(ports) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_json_round_trips(value: Any) -> None:
    assert jsontext.loads(jsontext.dumps(value)) == value
    assert json.loads(jsontext.dumps(value)) == value
    assert jsontext.loads(json.dumps(value)) == value


@given(JSON)
def test_indented_json_is_the_same_value(value: Any) -> None:
    indented = jsontext.indent(json.dumps(value))
    assert json.loads(indented) == value
    if value not in ([], {}):
        assert indented == json.dumps(value, indent=4, separators=(",", ": ")).replace("[\n\n", "[")


@pytest.mark.parametrize("text", ["", "{", "[1,]", "1 2", "nope"])
def test_not_json(text: str) -> None:
    with pytest.raises(ValueError):
        jsontext.loads(text)


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (1.5, "1.5"), (1e21, "1e+21"), (1e-7, "1e-7"), (0.000001, "0.000001")]
)
def test_floats_as_go_writes_them(value: float, text: str) -> None:
    assert jsontext.number(value) == text
