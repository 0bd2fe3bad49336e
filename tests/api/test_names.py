"""How containers are named, listed and found."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.engine import Engine, eventually


def test_by_name_and_prefix(engine: Engine) -> None:
    container = engine.create(["true"], name="wt-n")
    for reference in (container, container[:12], container[:10], "wt-n"):
        assert engine.inspect(reference)["Id"] == container
    assert engine.http.get("/containers/wt/json").status == 404
    assert engine.http.get(f"/containers/{container[1:]}/json").status == 404


def test_a_name_wins_over_a_prefix(engine: Engine) -> None:
    first = engine.create(["true"])
    other = engine.create(["true"])
    name = first[:14]
    assert engine.http.post(f"/containers/{other}/rename", name=name).status == 204
    assert engine.inspect(name)["Id"] == other
    assert engine.inspect(first[:15])["Id"] == first


def test_ambiguous_prefix(engine: Engine) -> None:
    """Two of seventeen identifiers share their first digit."""
    containers: dict[str, str] = {}
    while True:
        container = engine.create(["true"])
        if container[0] in containers:
            break
        containers[container[0]] = container
    answer = engine.http.get(f"/containers/{container[0]}/json")
    assert (answer.status, answer.message) == (400, f"multiple IDs found with provided prefix: {container[0]}")
    answer = engine.http.delete(f"/containers/{container[0]}")
    assert (answer.status, answer.message) == (400, f"multiple IDs found with provided prefix: {container[0]}")


def test_generated_names(engine: Engine) -> None:
    names = {engine.inspect(engine.create(["true"]))["Name"] for _ in range(5)}
    assert len(names) == 5
    assert all(re.fullmatch(r"/[a-z]+_[a-z]+\d?", name) for name in names)


def test_a_name_that_is_none(engine: Engine) -> None:
    for name in ("/", "//x", "-x", "x"):
        answer = engine.try_create(["true"], name=name)
        rule = "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        assert (answer.status, answer.message) == (400, f"Invalid container name ({name}), {rule}")


def test_a_name_is_free_after_removal(engine: Engine) -> None:
    for _ in range(2):
        container = engine.idle(name="wt-again")
        assert engine.http.delete(f"/containers/{container}", force=1).status == 204


def test_of_many_who_ask_for_a_name_one_gets_it(engine: Engine) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: engine.try_create(["true"], name="wt-wanted"), range(8)))
    assert sorted(answer.status for answer in answers) == [201, *[409] * 7], [answer.body for answer in answers]
    (made,) = [answer.json()["Id"] for answer in answers if answer.status == 201]
    refused = f'The container name "/wt-wanted" is already in use by container "{made}"'
    assert all(refused in answer.message for answer in answers if answer.status == 409)
    assert engine.inspect("wt-wanted")["Id"] == made


def listed(engine: Engine, **query: object) -> list[str]:
    answer = engine.http.get("/containers/json", **query)
    assert answer.status == 200, answer.body
    return [c["Names"][0] for c in answer.json() if c["Names"][0].startswith("/wt-l")]


def test_list(engine: Engine) -> None:
    running = engine.idle(name="wt-l1", Labels={"wt-label": "a", "other": "x"})
    created = engine.create(["true"], name="wt-l2", Labels={"wt-label": "b"})
    exited = engine.run(["sh", "-c", "exit 3"], name="wt-l3")
    engine.wait(exited)

    eventually(lambda: listed(engine) == ["/wt-l1"])
    assert listed(engine, all=1) == ["/wt-l3", "/wt-l2", "/wt-l1"]
    assert listed(engine, all=1, filters={"name": ["wt-l"]}, limit=2) == ["/wt-l3", "/wt-l2"]

    def by(**filters: list[str]) -> list[str]:
        return listed(engine, all=1, filters=filters)

    assert by(name=["wt-l2"]) == ["/wt-l2"]
    assert by(name=["^/wt-l2$"]) == ["/wt-l2"]
    assert by(name=["wt-l2", "wt-l1"]) == ["/wt-l2", "/wt-l1"]
    assert by(id=[created]) == ["/wt-l2"]
    assert by(id=[created[:12]]) == ["/wt-l2"]
    assert by(status=["exited"], name=["wt-l"]) == ["/wt-l3"]
    assert by(status=["created", "running"], name=["wt-l"]) == ["/wt-l2", "/wt-l1"]
    assert by(exited=["3"]) == ["/wt-l3"]
    assert by(label=["wt-label"]) == ["/wt-l2", "/wt-l1"]
    assert by(label=["wt-label=a"]) == ["/wt-l1"]
    assert by(label=["wt-label", "other"]) == ["/wt-l1"]
    assert by(ancestor=["wt-base"], name=["wt-l"]) == ["/wt-l3", "/wt-l2", "/wt-l1"]
    assert by(before=["wt-l2"]) == ["/wt-l1"]
    assert by(since=["wt-l1"]) == ["/wt-l3", "/wt-l2"]
    assert by(network=["bridge"], name=["wt-l1"]) == ["/wt-l1"]
    assert listed(engine, filters={"status": ["exited"], "name": ["wt-l"]}) == ["/wt-l3"]
    assert running


def test_list_shows(engine: Engine) -> None:
    binding = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    engine.idle(name="wt-l1", Labels={"a": "b"}, ExposedPorts={"80/tcp": {}}, host={"PortBindings": binding})

    def shown() -> Any:
        (entry,) = engine.http.get("/containers/json", filters={"name": ["wt-l1"]}).json()
        return entry if entry["Ports"] else None

    entry = eventually(shown)
    assert entry["Image"] == "wt-base:latest"
    assert entry["ImageID"].startswith("sha256:")
    assert entry["Command"] == "sh -c 'trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done'"
    assert isinstance(entry["Created"], int)
    assert entry["Labels"] == {"a": "b"}
    assert entry["State"] == "running"
    assert entry["Status"].startswith(("Up Less than a second", "Up 1 second"))
    assert entry["HostConfig"]["NetworkMode"] in ("bridge", "default")
    (port,) = entry["Ports"]
    assert (port["IP"], port["PrivatePort"], port["Type"]) == ("127.0.0.1", 80, "tcp")
    assert port["PublicPort"] > 0
    assert entry["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert entry["Mounts"] == []
    entry = next(c for c in engine.http.get("/containers/json", size=1).json() if c["Names"] == ["/wt-l1"])
    assert entry["SizeRootFs"] >= 1_000_000
    assert entry.get("SizeRw", 0) >= 0


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"nope": ["x"]}, "invalid filter 'nope'"),
        ({"status": ["nope"]}, "invalid filter 'status=nope'"),
        ("{", "invalid filter"),
        ({"exited": ["a"]}, "invalid filter 'exited=a': strconv.Atoi: parsing \"a\": invalid syntax"),
    ],
)
def test_bad_filters(engine: Engine, filters: object, message: str) -> None:
    answer = engine.http.get("/containers/json", filters=filters)
    assert (answer.status, answer.message) == (400, message)


def test_filter_before_nobody(engine: Engine) -> None:
    answer = engine.http.get("/containers/json", filters={"before": ["wt-nope"]})
    assert (answer.status, answer.message) == (404, "No such container: wt-nope")


def test_filters_in_the_old_shape(engine: Engine) -> None:
    """{"name": {"x": true}}, as clients of API 1.22 and later send it."""
    engine.create(["true"], name="wt-l1")
    assert listed(engine, all=1, filters={"name": {"wt-l1": True}}) == ["/wt-l1"]
