"""What of the build cache goes: filters of a prune, bounds of space, and `builder.gc` of the daemon's file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidParameter
from wherry.model.cache_rules import CacheRules, Rule, Space, Wanted, read, wanted
from wherry.model.filters import Filters

GB = 1 << 30
DISK = 100 * 10**9


@dataclass
class Found:
    id: str = "abc123"
    kind: str = "regular"
    description: str = "RUN make"
    in_use: bool = False
    shared: bool = False
    parents: tuple[str, ...] = ("below",)


@pytest.mark.parametrize(
    ("filters", "matches"),
    [
        ({}, True),
        ({"id": ["c12"]}, True),
        ({"id": ["^c12"]}, False),
        ({"type": ["regular"]}, True),
        ({"type": ["exec.cachemount"]}, False),
        ({"description": ["RUN make"]}, True),
        ({"description": ["RUN"]}, False),
        ({"inuse": ["true"]}, False),
        ({"inuse": ["0"], "private": ["1"]}, True),
        ({"shared": ["true"]}, False),
        ({"label": ["x"]}, False),
        ({"parent": ["below"]}, True),
        ({"parent": ["belo"]}, False),
        ({"label!": ["x"]}, True),
    ],
)
def test_filters(filters: dict[str, list[str]], matches: bool) -> None:
    assert wanted(Filters({key: tuple(values) for key, values in filters.items()})).matches(Found()) is matches


@pytest.mark.parametrize(
    ("space", "used", "free", "kept"),
    [
        (Space(), 10, 5, 0),
        (Space(reserved=4), 10, 5, 4),
        (Space(max_used=8), 10, 5, 8),
        (Space(reserved=4, max_used=8), 10, 5, 8),
        (Space(reserved=9, max_used=8), 10, 5, 9),
        (Space(min_free=5), 10, 5, 10),
        (Space(min_free=7), 10, 5, 8),
        (Space(min_free=70), 10, 5, 0),
        (Space(reserved=3, min_free=70), 10, 5, 3),
        (Space(max_used=6, min_free=7), 10, 5, 6),
        (Space(max_used=9, min_free=7), 10, 5, 8),
    ],
)
def test_how_much_may_stay(space: Space, used: int, free: int, kept: int) -> None:
    assert space.kept(used, free) == kept


@given(st.builds(Space, *[st.integers(0, 100)] * 3), st.integers(0, 100), st.integers(0, 100))
def test_what_is_reserved_stays(space: Space, used: int, free: int) -> None:
    assert space.kept(used, free) >= space.reserved


@pytest.mark.parametrize(
    ("value", "rules"),
    [
        ({}, (Rule(space=Space(10 * 10**9)),)),
        ({"gc": {"enabled": True}}, (Rule(space=Space(10 * 10**9)),)),
        ({"gc": {"enabled": False, "defaultKeepStorage": "1GB"}}, ()),
        ({"gc": {"defaultKeepStorage": "20GB"}}, (Rule(space=Space(20 * GB)),)),
        (
            {"gc": {"defaultReservedSpace": "1g", "defaultMaxUsedSpace": "2g", "defaultMinFreeSpace": "3g"}},
            (Rule(space=Space(GB, 2 * GB, 3 * GB)),),
        ),
        (
            {"gc": {"policy": [{"keepStorage": "10GB", "filter": ["unused-for=2200h"]}, {"all": True}]}},
            (Rule(Wanted(until="2200h"), Space(10 * GB)), Rule(space=Space(10 * 10**9), all=True)),
        ),
        (
            {"gc": {"policy": [{"maxUsedSpace": "1GB", "minFreeSpace": "2GB", "keepDuration": "48h",
                "filter": ["type=source.local,type=exec.cachemount"]}]}},
            (Rule(Wanted(kinds=("source.local", "exec.cachemount"), until="48h"), Space(0, GB, 2 * GB)),),
        ),
        ({"gc": {"policy": [{"reservedSpace": "1GB", "filter": ["inuse = false", "type==regular"]}]}},
            (Rule(Wanted(kinds=("regular",), flags={"inuse": False}), Space(GB)),)),
        ({"entitlements": {"network-host": True, "security-insecure": False}}, (Rule(space=Space(10 * 10**9)),)),
    ],
)  # fmt: skip
def test_the_file(value: Any, rules: tuple[Rule, ...]) -> None:
    assert read(value).completed(DISK) == rules


def test_a_small_disk_keeps_two_gigabytes() -> None:
    assert CacheRules().completed(10**9) == (Rule(space=Space(2 * 10**9)),)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "builder must be an object, not []"),
        ({"gcc": {}}, "builder has no option gcc: there are entitlements, gc"),
        ({"gc": {"enable": True}}, "gc has no option enable"),
        ({"gc": {"enabled": "yes"}}, "must be true or false, not 'yes'"),
        ({"gc": {"defaultKeepStorage": "lots"}}, "invalid size: 'lots'"),
        ({"gc": {"defaultKeepStorage": 5}}, "must be a string, not 5"),
        ({"gc": {"defaultKeepStorage": "1g", "defaultReservedSpace": "1g"}}, "defaultKeepStorage is the older name"),
        ({"gc": {"policy": {}}}, "policy must be a list of rules, not {}"),
        ({"gc": {"policy": [{"keep": "1g"}]}}, "policy has no option keep"),
        ({"gc": {"policy": [{"filter": "unused-for=1h"}]}}, "filter must be a list such as"),
        ({"gc": {"policy": [{"filter": ["unused-for"]}]}}, "invalid filter 'unused-for': it is NAME=VALUE"),
        ({"gc": {"policy": [{"filter": ["colour=red"]}]}}, "invalid filter 'colour'"),
        ({"gc": {"policy": [{"filter": ["type=nonsense"]}]}}, "unknown type 'nonsense' in a filter"),
        ({"gc": {"policy": [{"filter": ["unused-for=1h", "until=2h"]}]}}, "conflicting filters"),
        ({"gc": {"policy": [{"filter": ["unused-for=1h"], "keepDuration": "1h"}]}}, "conflicting filters"),
        ({"gc": {"policy": [{"keepDuration": "soon"}]}}, '"keepDuration" filter expects a duration'),
        ({"entitlements": {"security-insecure": True}}, "security-insecure is not supported"),
        ({"entitlements": {"network-host": False}}, "network-host cannot be turned off"),
    ],
)
def test_what_the_file_cannot_say(value: Any, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        read(value)
    assert str(caught.value).startswith(message)
