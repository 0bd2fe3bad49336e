"""Restart policies, OOM kills and containers that remove themselves."""

from __future__ import annotations

import json
import time

import pytest

from tests.support.engine import Engine, eventually


def policy(name: str, count: int = 0) -> dict[str, object]:
    return {"RestartPolicy": {"Name": name, "MaximumRetryCount": count}}


def test_on_failure_counts(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "echo run; exit 3"], host=policy("on-failure", 2))
    inspect = eventually(
        lambda: (i := engine.inspect(container))["RestartCount"] == 2 and i["State"]["Status"] == "exited" and i
    )
    assert inspect["State"]["ExitCode"] == 3
    assert engine.logs(container)[0] == b"run\n" * 3


def test_on_failure_leaves_success_alone(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "echo run"], host=policy("on-failure"))
    assert engine.wait(container) == 0
    eventually(lambda: engine.state(container)["Status"] == "exited")
    assert engine.inspect(container)["RestartCount"] == 0


@pytest.mark.parametrize("name", ["always", "unless-stopped"])
def test_always_until_stopped(engine: Engine, name: str) -> None:
    container = engine.run(["sh", "-c", "echo run; sleep 0.1"], host=policy(name))
    eventually(lambda: engine.inspect(container)["RestartCount"] >= 2)
    assert engine.http.post(f"/containers/{container}/stop", t=1).status in (204, 304)
    eventually(lambda: engine.state(container)["Status"] == "exited")
    count = engine.inspect(container)["RestartCount"]
    runs = engine.logs(container)[0].count(b"run")
    time.sleep(0.8)
    assert engine.state(container)["Status"] == "exited"
    assert engine.inspect(container)["RestartCount"] == count
    assert engine.logs(container)[0].count(b"run") == runs


def test_restarting_is_seen(engine: Engine) -> None:
    """The delay doubles from 100 ms, so that after some restarts the container mostly waits."""
    container = engine.run(["false"], host=policy("always"))
    state = eventually(lambda: (s := engine.state(container))["Status"] == "restarting" and s)
    assert (state["Running"], state["Restarting"], state["ExitCode"]) == (True, True, 1)
    answer = engine.http.post(f"/containers/{container}/pause")
    assert answer.status == 409
    assert engine.http.delete(f"/containers/{container}", force=1).status == 204


def test_a_restarting_container_is_removed_by_force_only(engine: Engine) -> None:
    container = engine.run(["false"], host=policy("always"))
    eventually(lambda: engine.inspect(container)["RestartCount"] >= 3)
    time.sleep(0.3)  # that run has ended, and the next is 0.8 s away
    answer = engine.http.delete(f"/containers/{container}")
    assert answer.status == 409
    assert "container is restarting: stop the container before removing or force remove" in answer.message
    assert engine.http.delete(f"/containers/{container}", force=1).status == 204


def test_exec_into_a_restarting_container(engine: Engine) -> None:
    container = engine.run(["false"], name="wt-rs", host=policy("always"))
    eventually(lambda: engine.inspect(container)["RestartCount"] >= 4)
    eventually(lambda: engine.state(container)["Status"] == "restarting")
    answer = engine.http.post(f"/containers/{container}/exec", {"Cmd": ["true"]})
    assert answer.status == 409
    assert answer.message == f"Container {container} is restarting, wait until the container is running"


def test_a_kill_is_not_restarted(engine: Engine) -> None:
    container = engine.idle(host=policy("always"))
    engine.http.post(f"/containers/{container}/kill")
    eventually(lambda: engine.state(container)["Status"] == "exited")
    assert engine.inspect(container)["RestartCount"] == 0


def test_a_signal_sent_by_the_container_itself_is(engine: Engine) -> None:
    container = engine.run(
        ["sh", "-c", "test -e /again && exec sleep 60; touch /again; kill -KILL $$; exit 1"], host=policy("always")
    )
    eventually(lambda: engine.inspect(container)["RestartCount"] == 1)


def test_started_by_hand_counts_anew(engine: Engine) -> None:
    container = engine.run(["false"], host=policy("on-failure", 1))
    eventually(lambda: engine.inspect(container)["RestartCount"] == 1 and engine.state(container)["Status"] == "exited")
    engine.start(container)
    assert engine.inspect(container)["RestartCount"] in (0, 1)
    eventually(lambda: engine.state(container)["Status"] == "exited")


def test_inspect_shows_the_policy(engine: Engine) -> None:
    container = engine.create(["true"], host=policy("on-failure", 5))
    assert engine.inspect(container)["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 5}
    container = engine.create(["true"])
    assert engine.inspect(container)["HostConfig"]["RestartPolicy"]["Name"] in ("", "no")


def test_oom_is_seen(engine: Engine) -> None:
    limits = {"Memory": 16 << 20, "MemorySwap": 16 << 20}
    container = engine.run(["sh", "-c", "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo survived"], host=limits)
    assert engine.wait(container) == 137
    state = engine.state(container)
    assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)
    answer = engine.http.get(
        "/events", since=0, until=_now(engine), filters={"container": [container], "event": ["oom", "die"]}
    )
    assert {event["Action"] for event in answer.json_lines()} == {"oom", "die"}


def test_oom_of_a_child(engine: Engine) -> None:
    """It and its pipeline offer themselves: under load the kernel may want a second victim before the first is gone."""
    limits = {"Memory": 16 << 20, "MemorySwap": 16 << 20}
    script = "sh -c 'echo 1000 > /proc/self/oom_score_adj; x=$(head -c 60000000 /dev/zero | tr \"\\0\" x)'; echo alive"
    container = engine.run(["sh", "-c", script], host=limits)
    assert engine.wait(container) == 0
    assert engine.logs(container)[0] == b"alive\n"


def test_oom_flag_is_cleared_by_the_next_start(engine: Engine) -> None:
    limits = {"Memory": 16 << 20, "MemorySwap": 16 << 20}
    script = "test -e /again && exit 0; touch /again; x=$(head -c 60000000 /dev/zero | tr '\\0' x)"
    container = engine.run(["sh", "-c", script], host=limits)
    engine.wait(container)
    assert engine.state(container)["OOMKilled"]
    engine.start(container)
    assert engine.wait(container) == 0
    assert not engine.state(container)["OOMKilled"]


def _now(engine: Engine) -> int:
    return int(time.time()) + 1


def test_auto_remove(engine: Engine) -> None:
    container = engine.create(["true"], host={"AutoRemove": True, "Binds": ["/anonymous"]})
    (mount,) = engine.inspect(container)["Mounts"]
    assert mount["Type"] == "volume"
    assert engine.http.get(f"/volumes/{mount['Name']}").status == 200
    with engine.http.stream("POST", f"/containers/{container}/wait", condition="removed") as stream:
        engine.start(container)
        assert json.loads(stream.read())["StatusCode"] == 0
    assert engine.http.get(f"/containers/{container}/json").status == 404
    eventually(lambda: engine.http.get(f"/volumes/{mount['Name']}").status == 404)


def test_auto_remove_keeps_named_volumes(engine: Engine) -> None:
    container = engine.create(["true"], host={"AutoRemove": True, "Binds": ["wt-kept:/named"]})
    with engine.http.stream("POST", f"/containers/{container}/wait", condition="removed") as stream:
        engine.start(container)
        stream.read()
    assert engine.http.get("/volumes/wt-kept").status == 200


def test_auto_remove_after_stop_and_kill(engine: Engine) -> None:
    for verb in ("stop", "kill"):
        container = engine.idle(name="wt-gone", host={"AutoRemove": True})
        assert engine.http.post(f"/containers/{container}/{verb}").status == 204
        eventually(lambda: engine.http.get("/containers/wt-gone/json").status == 404)


def test_auto_remove_after_a_failed_start(engine: Engine) -> None:
    container = engine.create(["nosuch"], host={"AutoRemove": True})
    assert engine.http.post(f"/containers/{container}/start").status == 400
    eventually(lambda: engine.http.get(f"/containers/{container}/json").status == 404)
