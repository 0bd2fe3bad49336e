"""Settings of a container that have no test file of their own."""

from __future__ import annotations

import pytest

from tests.support.engine import Engine


def test_without_a_network(engine: Engine) -> None:
    look = ["sh", "-c", "ls /sys/class/net; cat /etc/hosts; hostname"]
    container = engine.run(look, NetworkDisabled=True, Hostname="box")
    assert engine.wait(container) == 0
    assert engine.logs(container)[0].decode().splitlines()[0] == "lo"
    assert engine.logs(container)[0].decode().splitlines()[-1] == "box"
    assert "box" not in engine.logs(container)[0].decode().splitlines()[1:-1]
    found = engine.inspect(container)
    assert found["HostConfig"]["NetworkMode"] in ("bridge", "default")
    assert found["Config"]["NetworkDisabled"] is True
    assert (found["NetworkSettings"]["Networks"], found["NetworkSettings"]["SandboxID"]) == ({}, "")
    assert (found["HostsPath"], found["ResolvConfPath"]) == ("", "")


def test_few_open_files_for_another_user(engine: Engine) -> None:
    limits = [{"Name": "nofile", "Soft": 12, "Hard": 20}]
    out = engine.output("id -u; ulimit -Sn; ulimit -Hn", User="1000:1000", host={"Ulimits": limits})
    assert out.split() == ["1000", "12", "20"]


def test_one_that_could_not_start_was_only_created(engine: Engine) -> None:
    container = engine.create(["/wt-not-there"])
    assert engine.http.post(f"/containers/{container}/start").status == 400
    state = engine.state(container)
    assert (state["Status"], state["ExitCode"], state["StartedAt"]) == ("created", 127, "0001-01-01T00:00:00Z")


@pytest.mark.parametrize("paths", ["MaskedPaths", "ReadonlyPaths"])
def test_paths_of_the_system_unconfined(engine: Engine, paths: str) -> None:
    assert engine.inspect(engine.create(["true"], host={paths: []}))["HostConfig"][paths] == []
    mounted = engine.output("grep ' /proc/' /proc/mounts || true", host={"MaskedPaths": [], "ReadonlyPaths": []})
    assert mounted == ""
