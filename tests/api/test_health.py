"""Health checks, seen from outside."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.engine import IDLE, Engine, eventually
from tests.support.images import base_tar

MS = 10**6


def check(test: list[str] | str, **settings: Any) -> dict[str, Any]:
    written = ["CMD-SHELL", test] if isinstance(test, str) else test
    return {"Test": written, "Interval": 200 * MS, "Timeout": 10_000 * MS, "Retries": 1, **settings}


def health(engine: Engine, container: str) -> dict[str, Any]:
    found = engine.state(container)["Health"]
    assert isinstance(found, dict)
    return found


def await_status(engine: Engine, container: str, status: str) -> dict[str, Any]:
    def probe() -> dict[str, Any] | None:
        found = health(engine, container)
        return found if found["Status"] == status else None

    return eventually(probe, what=status) or {}


def status_text(engine: Engine, container: str) -> str:
    (entry,) = engine.http.get("/containers/json", all=1, filters={"id": [container]}).json()
    return str(entry["Status"])


def listed(engine: Engine, status: str) -> list[str]:
    return [entry["Id"] for entry in engine.http.get("/containers/json", all=1, filters={"health": [status]}).json()]


def test_to_healthy_and_back(engine: Engine) -> None:
    container = engine.run(IDLE, Healthcheck=check("echo out; echo err >&2; test -e /ok", Interval=500 * MS))
    assert health(engine, container) == {"Status": "starting", "FailingStreak": 0, "Log": []}
    assert status_text(engine, container).endswith(" (health: starting)")
    assert container in listed(engine, "starting")
    bad = await_status(engine, container, "unhealthy")
    assert bad["FailingStreak"] >= 1
    assert set(bad["Log"][0]) == {"Start", "End", "ExitCode", "Output"}
    assert (bad["Log"][0]["ExitCode"], sorted(bad["Log"][0]["Output"].split())) == (1, ["err", "out"])
    assert status_text(engine, container).endswith(" (unhealthy)")
    engine.exec(container, ["touch", "/ok"])
    good = await_status(engine, container, "healthy")
    assert (good["FailingStreak"], good["Log"][-1]["ExitCode"]) == (0, 0)
    assert status_text(engine, container).endswith(" (healthy)")
    assert container in listed(engine, "healthy")
    eventually(lambda: len(health(engine, container)["Log"]) == 5)
    told = [
        event["Action"]
        for event in engine.http.get(
            "/events",
            since=0,
            until=f"{time.time():.9f}",
            filters={"container": [container], "event": ["health_status"]},
        ).json_lines()
    ]
    assert told == ["health_status: unhealthy", "health_status: healthy"]


def test_events_of_a_probe(engine: Engine) -> None:
    container = engine.run(IDLE, Healthcheck=check("exit 3"))
    await_status(engine, container, "unhealthy")
    filters = {"container": [container]}
    events = list(engine.http.get("/events", since=0, until=f"{time.time():.9f}", filters=filters).json_lines())
    told = [event["Action"] for event in events]
    at = told.index("exec_create: /bin/sh -c exit 3")
    assert told[at : at + 4] == [
        "exec_create: /bin/sh -c exit 3",
        "exec_start: /bin/sh -c exit 3",
        "exec_die",
        "health_status: unhealthy",
    ]
    attributes = [event["Actor"]["Attributes"] for event in events[at : at + 3]]
    assert len({entry["execID"] for entry in attributes}) == 1
    assert attributes[2]["exitCode"] == "3"


def test_a_command_that_is_not_there(engine: Engine) -> None:
    container = engine.run(IDLE, Healthcheck=check(["CMD", "/nope"]))
    (first, *_) = await_status(engine, container, "unhealthy")["Log"]
    assert first["ExitCode"] == -1
    assert first["Output"].endswith('exec: "/nope": stat /nope: no such file or directory: unknown')


def test_a_slow_probe_is_killed(engine: Engine) -> None:
    container = engine.run(IDLE, Healthcheck=check("echo begun; exec sleep 321", Timeout=300 * MS))
    (first, *_) = await_status(engine, container, "unhealthy")["Log"]
    assert (first["ExitCode"], first["Output"]) == (-1, "Health check exceeded timeout (300ms): begun\n")
    assert engine.http.post(f"/containers/{container}/stop", t=0).status == 204


def test_output_is_cut(engine: Engine) -> None:
    container = engine.run(IDLE, Healthcheck=check("i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo 123456789; done"))
    (first, *_) = await_status(engine, container, "healthy")["Log"]
    assert len(first["Output"]) == 4096 + len("...")
    assert first["Output"].endswith("...")


def test_pause_and_stop(engine: Engine) -> None:
    container = engine.run(IDLE, Healthcheck=check("true", Interval=700 * MS))
    await_status(engine, container, "healthy")
    assert engine.http.post(f"/containers/{container}/pause").status == 204
    assert health(engine, container)["Status"] == "unhealthy"
    assert status_text(engine, container).endswith(" (Paused)")
    assert engine.http.post(f"/containers/{container}/unpause").status == 204
    await_status(engine, container, "healthy")
    assert engine.http.post(f"/containers/{container}/stop", t=0).status == 204
    assert health(engine, container)["Status"] == "unhealthy"
    assert container in listed(engine, "unhealthy")
    ended = len(health(engine, container)["Log"])
    engine.start(container)
    begun = health(engine, container)
    assert (begun["Status"], begun["FailingStreak"]) == ("starting", 0)
    assert len(begun["Log"]) == ended


def test_start_period(engine: Engine) -> None:
    settings = {"StartPeriod": 3_600_000 * MS, "StartInterval": 100 * MS, "Interval": 3_600_000 * MS}
    container = engine.run(IDLE, Healthcheck=check("test -e /ok", **settings))
    eventually(lambda: len(health(engine, container)["Log"]) >= 3)
    found = health(engine, container)
    assert (found["Status"], found["FailingStreak"]) == ("starting", 0)
    engine.exec(container, ["touch", "/ok"])
    await_status(engine, container, "healthy")


@pytest.mark.parametrize("test", [["NONE"], ["X", "true"], []])
def test_no_check(engine: Engine, test: list[str]) -> None:
    container = engine.run(IDLE, Healthcheck={"Test": test})
    assert "Health" not in engine.state(container)
    assert "(" not in status_text(engine, container)
    assert container in listed(engine, "none")


def test_of_the_image(engine: Engine) -> None:
    engine.import_image(
        base_tar(), "wt-hc", "1", "ENV PATH=/bin", "HEALTHCHECK --interval=200ms CMD true", 'CMD ["sh"]'
    )
    created = engine.try_create(IDLE, Image="wt-hc:1")
    assert created.json()["Warnings"] == []
    container = created.json()["Id"]
    engine.start(container)
    assert engine.inspect(container)["Config"]["Healthcheck"]["Test"] == ["CMD-SHELL", "true"]
    await_status(engine, container, "healthy")
    silenced = engine.run(IDLE, Image="wt-hc:1", Healthcheck={"Test": ["NONE"]})
    assert "Health" not in engine.state(silenced)


def test_ends_with_the_container(engine: Engine) -> None:
    container = engine.run(IDLE, Healthcheck=check("sleep 300"))
    eventually(lambda: engine.inspect(container)["ExecIDs"])
    assert engine.http.post(f"/containers/{container}/kill").status == 204
    assert engine.wait(container) == 137
    eventually(lambda: not engine.inspect(container)["ExecIDs"])
    assert [entry["ExitCode"] for entry in health(engine, container)["Log"]] in ([], [137])
