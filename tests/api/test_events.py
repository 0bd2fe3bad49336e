"""Events: what is told, with which attributes, live and from the past."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.engine import IDLE, Engine, eventually


def past(engine: Engine, **filters: list[str]) -> list[dict[str, Any]]:
    return list(engine.http.get("/events", since=0, until=f"{time.time():.9f}", filters=filters).json_lines())


def actions(engine: Engine, container: str) -> list[str]:
    return [event["Action"] for event in past(engine, container=[container])]


def test_a_life(engine: Engine) -> None:
    container = engine.idle(name="wt-ev", Labels={"wt-k": "v"})
    engine.http.post(f"/containers/{container}/stop")
    eventually(lambda: {"die", "stop"} <= set(actions(engine, container)))
    told = actions(engine, container)
    assert told[:3] == ["create", "start", "kill"]
    assert set(told[3:]) == {"die", "stop"}  # in either order on the real engine
    for event in past(engine, container=[container]):
        assert event["Type"] == "container"
        assert event["status"] == event["Action"]
        assert event["id"] == event["Actor"]["ID"] == container
        assert event["from"] == "wt-base:latest"
        assert event["scope"] == "local"
        assert event["time"] == event["timeNano"] // 10**9
        attributes = event["Actor"]["Attributes"]
        assert (attributes["name"], attributes["image"], attributes["wt-k"]) == ("wt-ev", "wt-base:latest", "v")
        if event["Action"] == "die":
            assert attributes["exitCode"] == "0"
            assert float(attributes["execDuration"]) >= 0
        if event["Action"] == "kill":
            assert attributes["signal"] == "15"
    assert engine.http.delete(f"/containers/{container}").status == 204
    eventually(lambda: actions(engine, container)[-1] == "destroy")


def test_other_verbs(engine: Engine) -> None:
    container = engine.create(IDLE, name="wt-ev")
    engine.http.post(f"/containers/{container}/rename", name="wt-ev2")
    engine.start(container)
    eventually(lambda: engine.logs(container)[0] == b"up\n")
    engine.http.post(f"/containers/{container}/pause")
    engine.http.post(f"/containers/{container}/unpause")
    engine.http.post(f"/containers/{container}/restart")
    eventually(lambda: engine.logs(container)[0] == b"up\nup\n")
    engine.http.post(f"/containers/{container}/kill", signal="HUP")
    engine.http.post(f"/containers/{container}/kill")
    eventually(lambda: actions(engine, container).count("die") == 2)
    told = actions(engine, container)
    assert told[:6] == ["create", "rename", "start", "pause", "unpause", "kill"]
    assert set(told[6:8]) == {"die", "stop"}
    assert told[8:] == ["start", "restart", "kill", "kill", "die"]
    (rename,) = past(engine, container=[container], event=["rename"])
    assert rename["Actor"]["Attributes"]["oldName"] == "/wt-ev"
    signals = [e["Actor"]["Attributes"]["signal"] for e in past(engine, container=[container], event=["kill"])]
    assert signals == ["15", "1", "9"]


def test_exec_and_attach(engine: Engine) -> None:
    container = engine.idle()
    engine.exec(container, ["sh", "-c", "exit 3"])
    eventually(lambda: "exec_die" in actions(engine, container))
    assert actions(engine, container) == [
        "create",
        "start",
        "exec_create: sh -c exit 3",
        "exec_start: sh -c exit 3",
        "exec_die",
    ]
    died = past(engine, container=[container])[-1]["Actor"]["Attributes"]
    assert died["exitCode"] == "3"
    assert len(died["execID"]) == 64
    with engine.http.hijack(f"/containers/{container}/attach", stream=1, stdout=1):
        eventually(lambda: actions(engine, container)[-1] == "attach")
    engine.http.post(f"/containers/{container}/resize", h=3, w=4)


def test_networks_and_volumes(engine: Engine) -> None:
    container = engine.run(["true"], host={"Binds": ["wt-vol:/v"]})
    engine.wait(container)

    def networking() -> list[dict[str, Any]]:
        told = past(engine, type=["network"])
        return [event for event in told if event["Actor"]["Attributes"].get("container") == container]

    eventually(lambda: [event["Action"] for event in networking()] == ["connect", "disconnect"])
    attributes = networking()[0]["Actor"]["Attributes"]
    assert (attributes["name"], attributes["type"]) == ("bridge", "bridge")
    engine.http.delete(f"/containers/{container}")
    engine.http.delete("/volumes/wt-vol")
    told = [e["Action"] for e in past(engine, volume=["wt-vol"])]
    assert told[-4:] == ["create", "mount", "unmount", "destroy"]
    created = past(engine, volume=["wt-vol"])[-4]
    assert created["Actor"]["Attributes"]["driver"] == "local"


def test_images(engine: Engine) -> None:
    engine.http.post("/images/wt-base/tag", repo="wt-evented", tag="1")
    engine.http.delete("/images/wt-evented:1")
    told = [
        e["Action"] for e in past(engine, type=["image"]) if e["Actor"]["Attributes"].get("name", "") == "wt-evented:1"
    ]
    assert told[0] == "tag"
    assert past(engine, type=["image"], event=["untag"])


def test_live(engine: Engine) -> None:
    with engine.http.stream("GET", "/events", filters={"type": ["container"], "label": ["wt-live"]}) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "application/json"
        container = engine.run(["true"], Labels={"wt-live": "1"})
        events = stream.json_lines()
        assert [next(events)["Action"] for _ in range(3)] == ["create", "start", "die"]
    assert container


def test_live_stops_at_until(engine: Engine) -> None:
    answer = engine.http.get("/events", since=f"{time.time():.9f}", until=f"{time.time() + 0.3:.9f}")
    assert answer.status == 200


def test_filters(engine: Engine) -> None:
    first = engine.run(["true"], name="wt-f1", Labels={"wt-which": "one"})
    second = engine.run(["true"], name="wt-f2", Labels={"wt-which": "two"})
    engine.wait(first)
    engine.wait(second)
    eventually(lambda: "die" in actions(engine, second))

    def ids(**filters: list[str]) -> set[str]:
        return {e["Actor"]["ID"] for e in past(engine, **filters)}

    assert ids(label=["wt-which=one"]) == {first}
    assert ids(container=["wt-f2"], event=["die"]) == {second}
    assert {first, second} <= ids(event=["die"])
    assert {e["Action"] for e in past(engine, container=["wt-f1"], event=["create", "die"])} == {"create", "die"}
    assert {e["Type"] for e in past(engine, type=["volume"])} <= {"volume"}
    assert {first, second} <= ids(image=["wt-base:latest"])


@pytest.mark.parametrize("query", [{"since": "x"}, {"until": "x"}, {"filters": "{"}])
def test_refused(engine: Engine, query: dict[str, object]) -> None:
    answer = engine.http.get("/events", **{"until": "1", **query})
    assert answer.status in (400, 500)
    assert answer.message
