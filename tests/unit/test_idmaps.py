"""Maps between the users of containers and those of the host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidParameter
from wherry.model.idmaps import NOBODY, IdMap, IdRange, first_free, kernel_text, parse_remap, ranges

TEXT = "alice:100000:1000\nbob:7:7\nalice:300000:500\n1001:5000:10\n# no\nalice:x:1\n"
ALICE = (IdRange(0, 100000, 1000), IdRange(1000, 300000, 500))


def test_all_ranges_of_a_user_one_after_the_other() -> None:
    assert ranges(TEXT, ["alice", "1001"], file="f") == (*ALICE, IdRange(1500, 5000, 10))
    assert kernel_text(ALICE) == "0 100000 1000\n1000 300000 500\n"


def test_none() -> None:
    with pytest.raises(InvalidParameter, match="no subordinate IDs for carol in /etc/subuid: add a line such as"):
        ranges(TEXT, ["carol", "9"], file="/etc/subuid")


@pytest.mark.parametrize(("value", "meant"), [("a", ("a", "a")), ("a:b", ("a", "b")), ("1000:1001", ("1000", "1001"))])
def test_written(value: str, meant: tuple[str, str]) -> None:
    assert parse_remap(value) == meant


@pytest.mark.parametrize("value", ["", ":b", "a:", "a:b:c"])
def test_malformed(value: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_remap(value)


@given(st.integers(0, 1499))
def test_there_and_back(identity: int) -> None:
    ids = IdMap(ALICE, ALICE)
    assert ids.to_container(*ids.to_host(identity, identity)) == (identity, identity)


def test_who_has_no_place() -> None:
    ids = IdMap(ALICE, ALICE)
    assert ids.root == (100000, 100000)
    assert ids.to_container(0, 99999) == (NOBODY, NOBODY)
    with pytest.raises(InvalidParameter, match="Container ID 1500 cannot be mapped to a host ID"):
        ids.to_host(1500, 0)
    assert ids.size == 1500


@given(st.lists(st.tuples(st.integers(90_000, 500_000), st.integers(0, 90_000)), max_size=8), st.integers(1, 70_000))
def test_free_ones_are_nobody_s(taken: list[tuple[int, int]], size: int) -> None:
    start = first_free("".join(f"x:{first}:{count}\n" for first, count in taken), size)
    assert start >= 100_000
    assert all(start + size <= first or first + count <= start for first, count in taken if count)
