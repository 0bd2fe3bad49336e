"""Older versions of the API: what was asked for and answered otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.engine import BASE, Engine
from tests.support.http import Client, Response

NEWEST = "v1.45"


def at(engine: Engine, version: str) -> Client:
    return Client(engine.http.path, version=version)


def try_create(engine: Engine, version: str, body: dict[str, Any], **query: Any) -> Response:
    return at(engine, version).post("/containers/create", {"Image": BASE, **body}, **query)


def created(engine: Engine, version: str, body: dict[str, Any], **query: Any) -> dict[str, Any]:
    """What a container of this request is, as the newest version shows it."""
    answer = try_create(engine, version, body, **query)
    assert answer.status == 201, answer.body
    return engine.inspect(answer.json()["Id"])


@pytest.mark.parametrize("version", ["v1.23", "v1.46", "v2.0"])
def test_versions_that_are_not_spoken(engine: Engine, version: str) -> None:
    answer = at(engine, version).get("/info")
    assert answer.status == 400
    assert answer.message.startswith(f"client version {version[1:]} is too ")


BIND = {"Type": "bind", "Source": "/usr", "Target": "/x"}
IGNORED: list[tuple[str, str, dict[str, Any], str, Any, Any]] = [
    # what is older, what is new enough, the request, where it shows, what shows for the older, for the newer
    ("v1.24", "v1.25", {"HostConfig": {"AutoRemove": True}}, "HostConfig.AutoRemove", False, True),
    ("v1.39", "v1.40", {}, "HostConfig.IpcMode", "shareable", "private"),
    ("v1.41", "v1.42", {"HostConfig": {"ConsoleSize": [5, 6]}}, "HostConfig.ConsoleSize", [0, 0], [5, 6]),
    ("v1.42", "v1.43", {"HostConfig": {"Annotations": {"a": "b"}}}, "HostConfig.Annotations", None, {"a": "b"}),
    (
        "v1.43",
        "v1.44",
        {"Healthcheck": {"Test": ["CMD", "true"], "StartInterval": 2_000_000}},
        "Config.Healthcheck.StartInterval",
        None,
        2_000_000,
    ),
    (
        "v1.39",
        "v1.40",
        {"HostConfig": {"Mounts": [{**BIND, "BindOptions": {"NonRecursive": True}}]}},
        "HostConfig.Mounts.0.BindOptions.NonRecursive",
        None,
        True,
    ),
]


def _found(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document[int(name)] if isinstance(document, list) else document.get(name)
        if document is None:
            return None
    return document


@pytest.mark.parametrize(
    ("older", "newer", "body", "path", "before", "after"), IGNORED, ids=[case[3] for case in IGNORED]
)
def test_what_an_older_client_could_not_know_is_ignored(
    engine: Engine, older: str, newer: str, body: dict[str, Any], path: str, before: Any, after: Any
) -> None:
    assert _found(created(engine, older, body), path) == before
    assert _found(created(engine, newer, body), path) == after


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "v1.43",
        {
            "HostConfig": {
                "Mounts": [
                    {
                        **BIND,
                        "ReadOnly": True,
                        "BindOptions": {"ReadOnlyForceRecursive": True, "Propagation": "rprivate"},
                    }
                ]
            }
        },
        "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer",
    ),
    (
        "v1.44",
        {
            "HostConfig": {
                "Mounts": [
                    {"Type": "volume", "Source": "wt-v", "Target": "/x", "VolumeOptions": {"Subpath": "a"}},
                ]
            }
        },
        "VolumeOptions.Subpath needs API v1.45 or newer",
    ),
]


@pytest.mark.parametrize(("version", "body", "message"), REFUSED, ids=[case[2] for case in REFUSED])
def test_what_is_meant_in_earnest_is_refused(engine: Engine, version: str, body: dict[str, Any], message: str) -> None:
    answer = try_create(engine, version, body)
    assert (answer.status, answer.message) == (400, message)


def test_options_of_another_type_of_mount(engine: Engine) -> None:
    body = {"HostConfig": {"Mounts": [{"Type": "tmpfs", "Target": "/x", "VolumeOptions": {"NoCopy": True}}]}}
    assert try_create(engine, "v1.41", body).status == 201
    assert try_create(engine, "v1.42", body).status == 400


def test_several_networks(engine: Engine) -> None:
    for name in ("wt-n", "wt-m"):
        assert engine.http.post("/networks/create", {"Name": name}).status == 201
    body = {
        "HostConfig": {"NetworkMode": "wt-n"},
        "NetworkingConfig": {"EndpointsConfig": {"wt-n": {}, "wt-m": {}}},
    }
    answer = try_create(engine, "v1.43", body)
    assert answer.status == 400
    assert answer.message.startswith("Container cannot be created with multiple network endpoints: wt-")
    container = created(engine, "v1.44", body)
    networks = at(engine, "v1.44").get(f"/containers/{container['Id']}/json").json()["NetworkSettings"]["Networks"]
    assert networks["wt-m"]["Aliases"] == [container["Id"][:12]]
    assert container["NetworkSettings"]["Networks"]["wt-m"]["Aliases"] is None


def test_the_container_wide_mac_address_is_outdated(engine: Engine) -> None:
    body = {"MacAddress": "02:42:ac:11:aa:bb"}
    assert try_create(engine, "v1.43", body).json()["Warnings"] == []
    (warning,) = try_create(engine, "v1.44", body).json()["Warnings"]
    assert warning.startswith("The container-wide MacAddress field is now deprecated.")


def test_a_platform_was_not_asked_for(engine: Engine) -> None:
    assert try_create(engine, "v1.40", {}, platform="linux/s390x").status == 201
    assert try_create(engine, "v1.41", {}, platform="linux/s390x").status == 404


def test_the_signal_of_a_stop_was_the_containers(engine: Engine) -> None:
    cmd = ["sh", "-c", "trap 'exit 7' USR1; trap 'exit 8' TERM; echo up; while :; do sleep 0.05; done"]
    for version, code in (("v1.41", 8), ("v1.42", 7)):
        container = engine.run(cmd)
        while not engine.logs(container)[0]:
            pass
        assert at(engine, version).post(f"/containers/{container}/stop", signal="USR1").status == 204
        assert engine.state(container)["ExitCode"] == code


def test_conditions_of_wait_were_not_known(engine: Engine) -> None:
    container = engine.run(["true"])
    engine.wait(container)
    assert at(engine, "v1.29").post(f"/containers/{container}/wait", condition="removed").json()["StatusCode"] == 0
    assert at(engine, "v1.30").post(f"/containers/{container}/wait", condition="x").status == 400


def test_info(engine: Engine) -> None:
    oldest, old, new = (at(engine, version).get("/info").json() for version in ("v1.24", "v1.41", "v1.42"))
    assert oldest["ExecutionDriver"] == "<not supported>"
    assert [entry.partition(",")[0] for entry in new["SecurityOptions"]] == [
        f"name={name}" for name in oldest["SecurityOptions"]
    ]
    assert "KernelMemory" in old
    assert "KernelMemory" not in new
    assert "ExecutionDriver" not in old


def test_images(engine: Engine) -> None:
    one = at(engine, "v1.43").get(f"/images/{BASE}/json").json()
    assert one["VirtualSize"] == one["Size"]
    assert one["ContainerConfig"]["AttachStdin"] is False
    newest = at(engine, NEWEST).get(f"/images/{BASE}/json").json()
    assert not {"VirtualSize", "ContainerConfig"} & set(newest)
    listed = {
        version: next(
            image for image in at(engine, version).get("/images/json").json() if BASE in (image["RepoTags"] or ())
        )
        for version in ("v1.42", "v1.43", "v1.44")
    }
    assert [image["RepoDigests"] for image in listed.values()] == [None, [], []]
    assert ["VirtualSize" in image for image in listed.values()] == [True, True, False]
    for version, counted in (("v1.41", False), ("v1.42", True)):
        images = at(engine, version).get("/images/json", **{"shared-size": 1}).json()
        assert all((image["SharedSize"] != -1) is counted for image in images)


def test_disk_usage(engine: Engine) -> None:
    old = at(engine, "v1.41").get("/system/df", type="image").json()
    new = at(engine, "v1.42").get("/system/df", type="image").json()
    assert old["BuilderSize"] >= 0
    assert old["Containers"] is not None
    assert "BuilderSize" not in new
    assert new["Containers"] is None


def test_what_a_commit_ran_with(engine: Engine) -> None:
    container = engine.create(["sleep", "5"], Hostname="wt-host")
    image = engine.http.post("/commit", {}, container=container, repo="wt-committed").json()["Id"]
    shown = at(engine, "v1.44").get(f"/images/{image}/json").json()
    assert shown["ContainerConfig"]["Cmd"] == ["sleep", "5"]
    assert shown["ContainerConfig"]["Hostname"] == "wt-host"
