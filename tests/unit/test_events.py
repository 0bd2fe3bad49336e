import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, UnixConnector
from hypothesis import given
from hypothesis import strategies as st

from wherry.api import events as api
from wherry.api.app import App
from wherry.api.server import Listener
from wherry.api.sockets import bind_unix
from wherry.engine.events import Events
from wherry.model.event_filters import event_holds
from wherry.model.events import Event
from wherry.model.filters import Filters
from wherry.storage.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(tmp_path / "db")
    yield database
    database.close()


def event(number: int, *, time_ns: int | None = None) -> Event:
    return Event(time_ns=number if time_ns is None else time_ns, type="container", action="start", id=str(number))


async def take(stream: AsyncIterator[Event], count: int) -> list[str]:
    return [(await anext(stream)).id for _ in range(count)]


async def everything(stream: AsyncIterator[Event]) -> list[str]:
    return [found.id async for found in stream]


async def test_replay_goes_over_into_following_without_hole_or_double(database: Database) -> None:
    events = Events(database)
    for number in range(300):
        events.emit(event(number))
    stream = events.stream(since_ns=0)
    seen = await take(stream, 300)
    events.emit(event(300))
    seen += await take(stream, 1)
    following = asyncio.ensure_future(take(stream, 50))
    for number in range(301, 351):
        events.emit(event(number))
        await asyncio.sleep(0)
    seen += await following
    assert seen == [str(number) for number in range(351)]


async def test_a_slow_listener_loses_nothing(database: Database) -> None:
    events = Events(database)
    stream = events.stream(since_ns=0)
    events.emit(event(0))
    assert await take(stream, 1) == ["0"]
    for number in range(1, 5000):
        events.emit(event(number))
    assert await take(stream, 4999) == [str(number) for number in range(1, 5000)]


async def test_without_times_only_new_ones_are_told(database: Database) -> None:
    events = Events(database)
    events.emit(event(1))
    following = asyncio.ensure_future(take(events.stream(), 1))
    await asyncio.sleep(0)
    events.emit(event(2))
    assert await following == ["2"]


async def test_bounds_are_inclusive_and_the_record_outlives_the_engine(database: Database) -> None:
    events = Events(database)
    for number in range(1, 10):
        events.emit(event(number))
    again = Events(database)
    assert await everything(again.stream(since_ns=3, until_ns=6)) == ["3", "4", "5", "6"]
    assert await everything(again.stream(until_ns=2)) == ["1", "2"]
    assert len(await everything(again.stream(since_ns=0, until_ns=0))) == 9


async def test_a_late_event_with_an_early_time_is_found(database: Database) -> None:
    events = Events(database)
    events.emit(event(1, time_ns=200))
    events.emit(event(2, time_ns=100))
    assert await everything(events.stream(since_ns=90, until_ns=300)) == ["1", "2"]
    assert await everything(events.stream(since_ns=150, until_ns=300)) == ["1"]


async def test_following_ends_at_until(database: Database) -> None:
    events = Events(database)
    following = asyncio.ensure_future(everything(events.stream(until_ns=time.time_ns() + 50_000_000)))
    await asyncio.sleep(0)
    events.emit(event(1))
    assert await following == ["1"]


async def test_what_is_rolled_back_is_never_told(database: Database) -> None:
    events = Events(database)
    following = asyncio.ensure_future(take(events.stream(), 1))
    await asyncio.sleep(0)
    with pytest.raises(ZeroDivisionError), database.transaction():
        events.emit(event(1))
        raise ZeroDivisionError
    await asyncio.sleep(0)
    with database.transaction():
        events.emit(event(2))
    assert await following == ["2"]


async def test_the_record_is_bounded(database: Database) -> None:
    events = Events(database, kept=100)
    for number in range(1, 2001):
        events.emit(event(number))
    (count,) = database.connection.execute("SELECT count(*) FROM events").fetchone()
    assert 100 <= count <= 100 + 256
    assert len(await everything(Events(database, kept=100).stream(since_ns=0, until_ns=5000))) == 100


async def test_a_listener_that_goes_away_leaves_nothing(database: Database) -> None:
    events = Events(database)
    following = asyncio.ensure_future(take(events.stream(), 1))
    await asyncio.sleep(0)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    assert not events._waiting


CONTAINER = Event(
    time_ns=1_500_000_000,
    type="container",
    action="exec_start: sh -c x",
    id="abcd",
    attributes={"name": "web", "image": "repo:5000/base:1", "tier": "db"},
)
IMAGE = Event(time_ns=1, type="image", action="tag", id="sha256:1", attributes={"name": "base:1"})


@pytest.mark.parametrize(
    ("key", "value", "event", "expected"),
    [
        ("type", "container", CONTAINER, True),
        ("type", "image", CONTAINER, False),
        ("event", "exec_start", CONTAINER, True),
        ("event", "exec_start: sh -c x", CONTAINER, True),
        ("event", "exec", CONTAINER, False),
        ("event", "tag", IMAGE, True),
        ("container", "ab", CONTAINER, True),
        ("container", "web", CONTAINER, True),
        ("container", "bc", CONTAINER, False),
        ("container", "abcd", IMAGE, False),
        ("image", "repo:5000/base:1", CONTAINER, True),
        ("image", "repo:5000/base", CONTAINER, True),
        ("image", "base", CONTAINER, False),
        ("image", "base", IMAGE, True),
        ("image", "sha256:1", IMAGE, True),
        ("label", "tier=db", CONTAINER, True),
        ("label", "tier=web", CONTAINER, False),
        ("scope", "local", CONTAINER, True),
        ("scope", "swarm", CONTAINER, False),
        ("volume", "v", CONTAINER, False),
        ("nonsense", "x", CONTAINER, True),
    ],
)
def test_filters(key: str, value: str, event: Event, expected: bool) -> None:
    assert event_holds(Filters({key: (value,)}), event) is expected


@given(st.dictionaries(st.sampled_from(["type", "event", "container", "label", "image"]), st.lists(st.text())))
def test_a_filter_never_lets_more_through(fields: dict[str, list[str]]) -> None:
    filters = Filters({key: tuple(values) for key, values in fields.items()})
    narrower = Filters({**filters.fields, "scope": ("swarm",)})
    assert not event_holds(narrower, CONTAINER)
    assert event_holds(Filters(), CONTAINER) or not event_holds(filters, CONTAINER)


def test_messages_are_the_real_engines() -> None:
    assert json.dumps(api.encode(CONTAINER)) == json.dumps(
        {
            "status": "exec_start: sh -c x",
            "id": "abcd",
            "from": "repo:5000/base:1",
            "Type": "container",
            "Action": "exec_start: sh -c x",
            "Actor": {"ID": "abcd", "Attributes": {"image": "repo:5000/base:1", "name": "web", "tier": "db"}},
            "scope": "local",
            "time": 1,
            "timeNano": 1_500_000_000,
        }
    )
    assert list(api.encode(IMAGE)) == ["status", "id", "Type", "Action", "Actor", "scope", "time", "timeNano"]
    volume = Event(time_ns=1, type="volume", action="create", id="v")
    assert list(api.encode(volume)) == ["Type", "Action", "Actor", "scope", "time", "timeNano"]


async def test_over_http_headers_come_first_and_lines_as_they_happen(database: Database, tmp_path: Path) -> None:
    events = Events(database)
    socket = tmp_path / "api.sock"
    async with (
        Listener(App(api.routes(events)), [bind_unix(socket, None)]),
        ClientSession("http://d", connector=UnixConnector(str(socket))) as client,
    ):
        async with client.get("/events") as response:
            assert response.headers["Transfer-Encoding"] == "chunked"
            assert response.headers["Content-Type"] == "application/json"
            await asyncio.sleep(0.01)
            events.emit(CONTAINER)
            assert json.loads(await response.content.readline())["id"] == "abcd"
        async with client.get("/events?since=1.5&until=2") as response:
            assert [json.loads(line)["timeNano"] async for line in response.content] == [1_500_000_000]
