from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidParameter
from wherry.model import timestamps as ts

MOMENTS = st.integers(min_value=-62135596800 * ts.SECOND, max_value=253402300799 * ts.SECOND + 999_999_999)
NOW = 1_800_000_000 * ts.SECOND


def test_formats() -> None:
    assert ts.rfc3339_nano(0) == "0001-01-01T00:00:00Z"
    assert ts.rfc3339_nano(1_500_000_000) == "1970-01-01T00:00:01.5Z"
    assert ts.rfc3339_nano(NOW) == "2027-01-15T08:00:00Z"
    assert ts.rfc3339_fixed(1_500_000_000) == "1970-01-01T00:00:01.500000000Z"


@given(MOMENTS)
def test_what_is_written_is_read_back(moment: int) -> None:
    assert ts.parse_when(ts.rfc3339_fixed(moment)) == moment
    if moment:
        assert ts.parse_when(ts.rfc3339_nano(moment)) == moment


@given(st.integers(min_value=0, max_value=10**10), st.integers(min_value=0, max_value=999_999_999))
def test_unix_seconds_with_nanoseconds(seconds: int, fraction: int) -> None:
    assert ts.parse_unix(f"{seconds}.{fraction:09d}") == seconds * ts.SECOND + fraction
    assert ts.parse_unix(str(seconds)) == seconds * ts.SECOND


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_a_clear_error(text: str) -> None:
    for parse in (ts.parse_unix, ts.parse_when):
        try:
            assert isinstance(parse(text), int)
        except InvalidParameter as error:
            assert str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("1h", 'strconv.ParseInt: parsing "1h": invalid syntax'),
        (" 1", 'strconv.ParseInt: parsing " 1": invalid syntax'),
        (".5", 'strconv.ParseInt: parsing "": invalid syntax'),
        ("1.x", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("2026-01-01T00:00:00.5Z", 'strconv.ParseInt: parsing "2026-01-01T00:00:00": invalid syntax'),
        ("9" * 20, f'strconv.ParseInt: parsing "{"9" * 20}": value out of range'),
    ],
)
def test_unix_errors_are_those_of_the_real_engine(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        ts.parse_unix(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", 'failed to parse value as time or duration: "x"'),
        ("", 'failed to parse value as time or duration: ""'),
        ("1d", 'failed to parse value as time or duration: "1d"'),
        ("2026-13-01", 'parsing time "2026-13-01": month out of range'),
        ("2026-02-30", 'parsing time "2026-02-30": day out of range'),
        ("2026-01-01T25:00:00Z", 'parsing time "2026-01-01T25:00:00Z": hour out of range'),
    ],
)
def test_errors_of_moments(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        ts.parse_when(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1h", NOW - 3600 * ts.SECOND),
        ("-1m", NOW + 60 * ts.SECOND),
        ("1h1m1.5s", NOW - 3661 * ts.SECOND - 500_000_000),
        ("0", 0),
        ("10.5", 10_500_000_000),
        ("2027-01-15", 1_799_971_200 * ts.SECOND),
        ("2027-01-15T08", NOW),
        ("2027-01-15T8", NOW),
        ("2027-01-15T08:00", NOW),
        ("2027-01-15T08:00Z", NOW),
        ("2027-01-15T10:00:00+02:00", NOW),
        ("2027-01-15T08:00:00.25", NOW + 250_000_000),
        ("20260101", 20260101 * ts.SECOND),
    ],
)
def test_moments(text: str, expected: int) -> None:
    assert ts.parse_when(text, now_ns=NOW) == expected


def test_dates_without_offset_are_in_the_given_zone() -> None:
    assert ts.parse_when("2027-01-15T10:00", zone=timezone(timedelta(hours=2))) == NOW


@given(st.integers(min_value=0, max_value=10**7), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_durations(hours: int, minutes: int, seconds: int, milliseconds: int) -> None:
    expected = ((hours * 60 + minutes) * 60 + seconds) * ts.SECOND + milliseconds * 1_000_000
    text = f"{hours}h{minutes}m{seconds}s{milliseconds}ms"
    limit = 2**63
    assert ts.duration_ns(text) == (expected if expected < limit else None)


@given(st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)), st.integers(-23, 23))
def test_offsets_agree_with_the_standard_library(moment: datetime, hours: int) -> None:
    aware = moment.replace(microsecond=0, tzinfo=timezone(timedelta(hours=hours)))
    seconds = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    assert ts.parse_when(aware.isoformat()) == seconds * ts.SECOND
