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


def test_versions() -> None:
    assert versions.split("/v1.41/info") == ((1, 41), "/info")
    assert versions.split("/v1.45.0/info")[1] == "/info"
    assert versions.split("/info") == (versions.NEWEST, "/info")
    assert versions.split("/vx/info") == (versions.NEWEST, "/vx/info")
    with pytest.raises(
        InvalidParameter, match=r"^client version 1.99 is too new. Maximum supported API version is 1.45$"
    ):
        versions.split("/v1.99/info")
    with pytest.raises(InvalidParameter) as caught:
        versions.split("/v1.10/info")
    assert str(caught.value) == (
        "client version 1.10 is too old. Minimum supported API version is 1.24, "
        "please upgrade your client to a newer version"
    )
