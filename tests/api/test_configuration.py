"""Settings of a container that have no test file of their own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.images import base_tar


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


def test_triggers_of_its_own_and_not_its_image_s(engine: Engine) -> None:
    assert engine.inspect(engine.create(["true"], OnBuild=["RUN x"]))["Config"]["OnBuild"] == ["RUN x"]
    engine.import_image(base_tar(), "wt-triggers", "latest", "ONBUILD RUN y")
    assert engine.inspect(engine.create(["true"], Image="wt-triggers"))["Config"]["OnBuild"] is None


@pytest.mark.parametrize(
    ("network", "address", "problems"),
    [
        ("bridge", "1.2.3.4", ["no configured subnet or ip-range contain the IP address 1.2.3.4"]),
        (
            "none",
            "1.2.3.4",
            ["user specified IP address is supported only when connecting to networks with user configured subnets"],
        ),
        (
            "bridge",
            "bad",
            ["invalid IPv4 address: bad", "no configured subnet or ip-range contain the IP address bad"],
        ),
    ],
)
def test_an_address_in_a_network_of_the_engine_s(
    engine: Engine, network: str, address: str, problems: list[str]
) -> None:
    asked = {"EndpointsConfig": {network: {"IPAMConfig": {"IPv4Address": address}}}}
    answer = engine.try_create(["true"], NetworkingConfig=asked)
    first = "user specified IP address is supported on user defined networks only"
    listed = "".join(f"\n* {problem}" for problem in [first, *problems])
    assert answer.status == 400
    assert answer.message == f"invalid config for network {network}: invalid endpoint settings:{listed}"


@pytest.mark.parametrize("word", ["private", "x", "keep-id"])
def test_users_of_any_word_are_the_daemon_s_default(engine: Engine, word: str) -> None:
    container = engine.create(["true"], host={"UsernsMode": word})
    assert engine.inspect(container)["HostConfig"]["UsernsMode"] == word


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"Entrypoint": []}, {"Entrypoint": []}),
        ({"Entrypoint": ""}, {"Entrypoint": None}),
        ({"Healthcheck": {"Test": []}}, {"Healthcheck": {}}),
        ({"Healthcheck": {"Test": ["NONE", "x"]}}, {"Healthcheck": {"Test": ["NONE", "x"]}}),
        ({"Volumes": {}}, {"Volumes": None}),
        ({"Labels": None}, {"Labels": {}}),
        ({"WorkingDir": "/a/../b"}, {"WorkingDir": "/b"}),
        ({"MacAddress": "02:42:ac:11:00:99"}, {"MacAddress": "02:42:ac:11:00:99"}),
        (
            {"NetworkingConfig": {"EndpointsConfig": {"bridge": {"MacAddress": "02:42:ac:11:00:99"}}}},
            {"MacAddress": "02:42:ac:11:00:99"},
        ),
        ({}, {"MacAddress": None}),
    ],
)
def test_shown_as_given_or_as_it_is_meant(engine: Engine, given: dict[str, Any], shown: dict[str, Any]) -> None:
    container = engine.create(["true"], **given)
    for _ in range(2):  # before and after the start
        found = engine.inspect(container)["Config"]
        assert {key: found.get(key) for key in shown} == shown
        engine.start(container)
        engine.wait(container)


def test_no_variables_are_null(engine: Engine) -> None:
    engine.import_image(base_tar(), "wt-bare")
    assert engine.inspect(engine.create(["true"], Image="wt-bare"))["Config"]["Env"] is None
