"""Query parameters and API versions."""

import pytest

from wherry.api import versions
from wherry.api.query import Query
from wherry.errors import InvalidParameter, SystemFailure


@pytest.mark.parametrize("text", ["1", "true", "yes", "maybe", "True", "on", "x"])
def test_true(text: str) -> None:
    assert Query(f"all={text}").boolean("all")


@pytest.mark.parametrize(
    "raw", ["all=", "all=0", "all=no", "all=false", "all=none", "all=False", "all=%20no%20", "all", ""]
)
def test_false(raw: str) -> None:
    assert not Query(raw).boolean("all")


def test_numbers() -> None:
    query = Query("a=5&b=-3&c=+4&d=x&e=99999999999999999999&f=")
    assert [query.integer(name) for name in "abf"] == [5, -3, None]
    with pytest.raises(InvalidParameter, match=r'^strconv.Atoi: parsing "x": invalid syntax$'):
        query.integer("d")
    with pytest.raises(SystemFailure, match=r'^strconv.Atoi: parsing "99999999999999999999": value out of range$'):
        query.integer("e", failure=True)
    with pytest.raises(InvalidParameter, match=r'^strconv.Atoi: parsing "": invalid syntax$'):
        query.required_integer("g")


def test_bytes_that_are_not_utf_8() -> None:
    query = Query("a=x%ffy&a=%e4%b8%ad&b=\udcfe")
    assert query.text("a") == "x\ufffdy"
    assert query.all("a") == ["x\ufffdy", "中"]
    assert query.text("b") == "\ufffd"
    assert query.file("a") == "x\udcffy"
    assert query.file("c") == ""


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("a=1;b=2", "invalid semicolon separator in query"),
        ("a=%zz&b=;", "invalid semicolon separator in query"),
        ("a=%zz", 'invalid URL escape "%zz"'),
        ("%4", 'invalid URL escape "%4"'),
        ("a=%41%", 'invalid URL escape "%"'),
        ("a=%1&b=%zz", 'invalid URL escape "%1"'),
    ],
)
def test_malformed_ones_are_refused(raw: str, why: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        Query(raw)
    assert str(caught.value) == why


def test_versions() -> None:
    assert versions.split("/v1.41/info") == ("1.41", "/info")
    assert versions.split("/v1.45.0/info") == ("1.45.0", "/info")
    assert versions.split("/info") == ("", "/info")
    assert versions.split("/vx/info") == ("", "/vx/info")
    assert versions.spoken("1.41") == (1, 41)
    assert versions.spoken("") == versions.NEWEST
    with pytest.raises(
        InvalidParameter, match=r"^client version 1.99 is too new. Maximum supported API version is 1.45$"
    ):
        versions.spoken("1.99")
    with pytest.raises(InvalidParameter) as caught:
        versions.spoken("1.10")
    assert str(caught.value) == (
        "client version 1.10 is too old. Minimum supported API version is 1.24, "
        "please upgrade your client to a newer version"
    )
