"""`--link` on the default bridge."""

from __future__ import annotations

from tests.support.engine import IDLE, Engine, eventually


def other(engine: Engine, **options: object) -> str:
    return engine.idle(name="wt-other", Env=["A=1", "HOME=/x"], ExposedPorts={"80/tcp": {}}, **options)


def test_environment_and_hosts(engine: Engine) -> None:
    identity = other(engine)
    address = engine.inspect(identity)["NetworkSettings"]["IPAddress"]
    out = engine.output("env; cat /etc/hosts", name="wt-me", host={"Links": ["wt-other:data"]}, Env=["DATA_NAME=mine"])
    lines = out.splitlines()
    assert f"DATA_PORT_80_TCP=tcp://{address}:80" in lines
    assert "DATA_ENV_A=1" in lines
    assert "DATA_ENV_HOME=/x" not in lines
    assert "DATA_NAME=mine" in lines
    assert f"{address}\tdata {identity[:12]} wt-other" in lines


def test_an_exec_has_the_variables(engine: Engine) -> None:
    other(engine)
    parent = engine.idle(host={"Links": ["wt-other"]})
    assert "WT_OTHER_ENV_A=1\n" in engine.exec(parent, ["env"])[1]


def test_names(engine: Engine) -> None:
    identity = other(engine)
    parent = engine.create(IDLE, name="wt-parent", host={"Links": ["wt-other:b", "wt-other:a", "wt-other:a"]})
    shown = [f"/wt-other:/wt-parent/{alias}" for alias in "ab"]
    assert sorted(engine.inspect(parent)["HostConfig"]["Links"]) == shown
    assert engine.inspect("wt-parent/a")["Id"] == identity
    listed = {one["Id"]: one["Names"] for one in engine.http.get("/containers/json", all=1).json()}
    assert sorted(listed[identity]) == ["/wt-other", "/wt-parent/a", "/wt-parent/b"]
    assert engine.http.post(f"/containers/{identity}/rename", name="wt-renamed").status == 204
    assert "/wt-renamed:/wt-parent/a" in engine.inspect(parent)["HostConfig"]["Links"]


def test_a_link_can_be_removed(engine: Engine) -> None:
    identity = other(engine)
    parent = engine.create(IDLE, name="wt-parent", host={"Links": ["wt-other:a"]})
    refused = engine.http.delete("/containers/wt-other", link=1)
    assert (refused.status, refused.message) == (500, "Conflict, cannot remove the default link name of the container")
    assert engine.http.delete("/containers/wt-parent/b", link=1).status == 404
    assert engine.http.delete("/containers/wt-parent/a", link=1).status == 204
    assert not engine.inspect(parent)["HostConfig"]["Links"]
    assert engine.state(identity)["Running"]


def test_to_one_that_does_not_run(engine: Engine) -> None:
    engine.create(IDLE, name="wt-other")
    answer = engine.failed_start(["true"], name="wt-parent", host={"Links": ["wt-other:a"]})
    assert answer.status == 500
    assert answer.message == "Cannot link to a non running container: /wt-other AS /wt-parent/a"


def test_to_one_elsewhere(engine: Engine) -> None:
    engine.idle(name="wt-other", host={"NetworkMode": "none"})
    answer = engine.failed_start(["true"], name="wt-parent", host={"Links": ["wt-other:a"]})
    assert answer.message == "Cannot link to /wt-other, as it does not belong to the default network"
    engine.idle(name="wt-host", host={"NetworkMode": "host"})
    answer = engine.try_create(["true"], host={"Links": ["wt-host"]})
    assert answer.status == 400
    assert answer.message.startswith("conflicting options: host type networking can't be used with links.")


def test_refused(engine: Engine) -> None:
    for written, status, message in (
        ("", 500, "empty string specified for links"),
        ("a:b:c", 500, "bad format for links: a:b:c"),
        ("wt-nobody:x", 400, "could not get container for wt-nobody: No such container: wt-nobody"),
        (":", 400, 'could not get container for : invalid name or ID supplied: ""'),
    ):
        answer = engine.try_create(["true"], host={"Links": [written]})
        assert (answer.status, answer.message) == (status, message)


def test_a_new_address_is_told(engine: Engine) -> None:
    first = engine.idle(name="wt-first")
    other(engine)
    parent = engine.idle(host={"Links": ["wt-other"]})
    before = engine.inspect("wt-other")["NetworkSettings"]["IPAddress"]
    assert f"{before}\twt-other" in engine.exec(parent, ["cat", "/etc/hosts"])[1]
    assert engine.http.post("/containers/wt-other/stop", t=0).status == 204
    engine.remove(first)
    taker = engine.idle(name="wt-taker")  # of the lowest address that is free
    second = engine.idle(name="wt-taker2")
    assert engine.http.post("/containers/wt-other/start").status == 204
    after = engine.inspect("wt-other")["NetworkSettings"]["IPAddress"]
    eventually(lambda: f"{after}\twt-other" in engine.exec(parent, ["cat", "/etc/hosts"])[1])
    for container in (taker, second):
        engine.remove(container)
