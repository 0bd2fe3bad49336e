import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidParameter, NotFound, SystemFailure
from wherry.model.filters import ContainerQuery, Filters

WORDS = st.text(st.characters(codec="utf-8"), max_size=8)


@dataclass(frozen=True)
class View:
    id: str
    name: str
    created_at: int = 0
    status: str = "exited"
    exit_code: int = 0
    started: bool = True
    health: str = "none"
    labels: Mapping[str, str] = field(default_factory=dict)
    image_id: str = "sha256:1"
    volumes: frozenset[str] = frozenset()
    networks: Mapping[str, str] = field(default_factory=dict)
    exposed: frozenset[str] = frozenset()
    published: frozenset[str] = frozenset()

    @property
    def running(self) -> bool:
        return self.status == "running"


ONE = View(
    "aa11",
    "one",
    created_at=1,
    status="running",
    labels={"tier": "web"},
    networks={"bridge": "dea70"},
    exposed=frozenset({"80/tcp"}),
    published=frozenset({"18080/tcp"}),
)
TWO = View("bb22", "two", created_at=2, exit_code=3, labels={"tier": "db"}, image_id="sha256:2")
THREE = View("cc33", "three", created_at=3, status="created", started=False, volumes=frozenset({"data", "/v"}))
VIEWS = [TWO, ONE, THREE]


def container_id(ref: str) -> str:
    for view in VIEWS:
        if ref in (view.name, view.id):
            return view.id
    raise NotFound(f"No such container: {ref}")


def image_ids(ref: str) -> frozenset[str]:
    return {"base": frozenset({"sha256:1"}), "both": frozenset({"sha256:1", "sha256:2"})}.get(ref, frozenset())


def query(filters: dict[str, list[str]], *, all: bool = True, limit: int = 0) -> ContainerQuery:
    decoded = Filters.decode(json.dumps(filters))
    return ContainerQuery.make(decoded, all=all, limit=limit, container_id=container_id, image_ids=image_ids)


def names(filters: dict[str, list[str]], *, all: bool = True, limit: int = 0) -> str:
    return " ".join(view.name for view in query(filters, all=all, limit=limit).select(VIEWS))


@given(st.dictionaries(WORDS, st.lists(WORDS, max_size=4), max_size=4))
def test_both_encodings_say_the_same(fields: dict[str, list[str]]) -> None:
    lists = Filters.decode(json.dumps(fields))
    sets = Filters.decode(json.dumps({key: dict.fromkeys(values, True) for key, values in fields.items()}))
    assert lists == sets
    assert {key: set(values) for key, values in fields.items()} == {key: set(lists.get(key)) for key in fields}


@pytest.mark.parametrize("text", ["", "null", "{}", None])
def test_nothing_is_no_filter(text: str | None) -> None:
    assert not Filters.decode(text)


@pytest.mark.parametrize("text", ["x", "[]", '""', '{"a":"b"}', '{"a":[1]}', '{"a":["b"]} x'])
def test_malformed(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid filter$"):
        Filters.decode(text)


@given(WORDS, st.lists(WORDS), WORDS)
def test_exact_is_the_strictest_rule(key: str, values: list[str], value: str) -> None:
    filters = Filters({key: tuple(values)})
    if filters.exact(key, value):
        assert filters.prefix(key, value) and filters.pattern(key, value)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "three two one"),
        ({"status": ["running"]}, "one"),
        ({"status": ["running", "created"]}, "three one"),
        ({"status": []}, "three two one"),
        ({"exited": ["3"]}, "two"),
        ({"exited": ["0"]}, ""),
        ({"label": ["tier"]}, "two one"),
        ({"label": ["tier=db"]}, "two"),
        ({"label": ["tier", "nope"]}, ""),
        ({"ancestor": ["base"]}, "three one"),
        ({"ancestor": ["both"]}, "three two one"),
        ({"ancestor": ["ghost"]}, ""),
        ({"volume": ["data"]}, "three"),
        ({"volume": ["/v"]}, "three"),
        ({"publish": ["18080"]}, "one"),
        ({"publish": ["18000-18100/tcp"]}, "one"),
        ({"publish": ["18080/udp"]}, ""),
        ({"expose": ["80/tcp"]}, "one"),
        ({"expose": ["80"], "publish": ["1"]}, "one"),
        ({"network": ["bridge"]}, "one"),
        ({"network": ["dea"]}, "one"),
        ({"before": ["three"]}, "two one"),
        ({"before": ["two"]}, "one"),
        ({"since": ["one"]}, "three two"),
        ({"before": ["three"], "since": ["one"]}, "two"),
        ({"name": ["^/one$"]}, "one"),
        ({"name": ["^one$"]}, "one"),
        ({"name": ["t"]}, "three two"),
        ({"name": ["["]}, ""),
        ({"id": ["aa"]}, "one"),
        ({"is-task": ["false"]}, "three two one"),
        ({"is-task": ["true"]}, ""),
        ({"health": ["none"]}, "three two one"),
        ({"health": ["healthy"]}, ""),
        ({"isolation": ["x"]}, "three two one"),
    ],
)
def test_container_filters(filters: dict[str, list[str]], expected: str) -> None:
    assert names(filters) == expected


def test_only_running_ones_unless_asked() -> None:
    assert names({}, all=False) == "one"
    assert names({"status": ["exited"]}, all=False) == "two"
    assert names({"exited": ["3"]}, all=False) == ""


def test_a_limit_shows_the_newest_running_or_not() -> None:
    assert names({}, all=False, limit=2) == "three two"
    assert names({"label": ["tier"]}, all=False, limit=1) == "two"
    assert names({}, limit=-1) == "three two one"


@pytest.mark.parametrize(
    ("filters", "kind", "message"),
    [
        ({"nonsense": ["1"]}, InvalidParameter, "invalid filter 'nonsense'"),
        ({"Status": ["running"]}, InvalidParameter, "invalid filter 'Status'"),
        ({"status": ["bogus"]}, InvalidParameter, "invalid filter 'status=bogus'"),
        (
            {"exited": ["x"]},
            InvalidParameter,
            "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        ({"is-task": ["maybe"]}, InvalidParameter, "invalid filter 'is-task=[maybe]'"),
        ({"is-task": ["1", "0"]}, InvalidParameter, "invalid filter 'is-task=[1 0]'"),
        ({"is-task": []}, InvalidParameter, "invalid filter 'is-task'"),
        ({"health": ["bad"]}, InvalidParameter, "unrecognized filter value for health: bad"),
        ({"before": ["ghost"]}, NotFound, "No such container: ghost"),
        (
            {"publish": ["abc"]},
            SystemFailure,
            'error while looking up for publish abc: strconv.ParseUint: parsing "abc": invalid syntax',
        ),
        (
            {"publish": ["1-99999"]},
            SystemFailure,
            'error while looking up for publish 1-99999: strconv.ParseUint: parsing "99999": value out of range',
        ),
        ({"publish": ["80:90"]}, SystemFailure, "filter for 'publish' should not contain ':': 80:90"),
        ({"expose": [""]}, SystemFailure, "error while looking up for expose : Empty string specified for ports."),
        (
            {"expose": ["9-8"]},
            SystemFailure,
            "error while looking up for expose 9-8: Invalid range specified for the Port: 9-8",
        ),
    ],
)
def test_container_filter_errors(filters: dict[str, list[str]], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        query(filters)
    assert str(caught.value) == message
