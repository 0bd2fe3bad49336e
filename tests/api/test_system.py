"""Versions, ping, info, and the words for what does not exist."""

from __future__ import annotations

import json
import socket

import pytest

from tests.support.engine import Engine
from tests.support.http import Client


def test_ping(engine: Engine) -> None:
    for client in (engine.http, Client(engine.http.path, version="")):
        answer = client.get("/_ping")
        assert (answer.status, answer.body) == (200, b"OK")
        assert answer.headers["ostype"] == "linux"
        assert answer.headers["api-version"] >= "1.45"
        assert answer.headers["cache-control"] == "no-cache, no-store, must-revalidate"
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        head = client.head("/_ping")
        assert (head.status, head.body, head.headers["api-version"]) == (200, b"", answer.headers["api-version"])


def test_version(engine: Engine) -> None:
    version = engine.http.get("/version").json()
    assert version["ApiVersion"] == "1.45"
    assert version["MinAPIVersion"] == "1.24"
    assert version["Os"] == "linux"
    assert {"Version", "GitCommit", "KernelVersion", "Arch", "Components"} <= version.keys()
    assert version["Components"][0]["Name"] == "Engine"


def test_info(engine: Engine) -> None:
    info = engine.http.get("/info").json()
    assert info["OSType"] == "linux"
    assert info["NCPU"] >= 1
    assert info["MemTotal"] > 0
    assert info["CgroupVersion"] in ("1", "2")
    assert info["DefaultRuntime"] in info["Runtimes"]
    assert isinstance(info["Warnings"], list | None)
    container = engine.run(["sleep", "60"])
    engine.create(["true"])
    info = engine.http.get("/info").json()
    assert info["ContainersRunning"] >= 1
    assert info["Containers"] >= 2
    assert info["Containers"] == info["ContainersRunning"] + info["ContainersPaused"] + info["ContainersStopped"]
    engine.remove(container)


def test_old_and_new_clients(engine: Engine) -> None:
    def version(asked: str) -> tuple[int, str]:
        answer = Client(engine.http.path, version=asked).get("/version")
        return answer.status, "" if answer.status == 200 else answer.message

    assert version("v1.24") == (200, "")
    assert version("") == (200, "")
    assert version("v1.23") == (
        400,
        "client version 1.23 is too old. Minimum supported API version is 1.24, "
        "please upgrade your client to a newer version",
    )
    status, message = version("v1.99")
    assert status == 400
    assert message.startswith("client version 1.99 is too new. Maximum supported API version is 1.")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nope"), ("DELETE", "/version"), ("POST", "/containers/json"), ("GET", "/build")]
)
def test_unknown_path_or_method(engine: Engine, method: str, path: str) -> None:
    answer = engine.http.request(method, path)
    assert (answer.status, answer.message) == (404, "page not found")
    assert answer.headers["content-type"] == "application/json"


def test_one_connection_serves_many_requests(engine: Engine) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(engine.http.path))
        for _ in range(3):
            connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"\r\n\r\nOK"):
                more = connection.recv(4096)
                assert more, answer
                answer += more


NOBODY = [
    ("GET", "/containers/wt-nope/json"),
    ("GET", "/containers/wt-nope/logs?stdout=1"),
    ("POST", "/containers/wt-nope/start"),
    ("POST", "/containers/wt-nope/stop"),
    ("POST", "/containers/wt-nope/restart"),
    ("POST", "/containers/wt-nope/pause"),
    ("POST", "/containers/wt-nope/unpause"),
    ("POST", "/containers/wt-nope/wait"),
    ("POST", "/containers/wt-nope/rename?name=wt-other"),
    ("POST", "/containers/wt-nope/resize?h=1&w=1"),
    ("DELETE", "/containers/wt-nope"),
]


@pytest.mark.parametrize(("method", "path"), NOBODY)
def test_no_such_container(engine: Engine, method: str, path: str) -> None:
    answer = engine.http.request(method, path)
    assert (answer.status, answer.message) == (404, "No such container: wt-nope")


def test_bytes_that_are_not_utf_8_are_told_as_replaced(engine: Engine) -> None:
    nobody = (404, "No such container: wt-\ufffd")
    for path, expected in (
        (b"/containers/wt-%ff/json", nobody),
        (b"/containers/wt-\xff/json", nobody),
        (b"/containers/wt-\xff/archive?path=/", nobody),
    ):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(engine.http.path))
            connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert (int(head.split(b" ")[1]), json.loads(body)["message"]) == expected, path


def test_no_such_other_things(engine: Engine) -> None:
    for method, path, words in (
        ("GET", "/images/wt-nope/json", "No such image: wt-nope:latest"),
        ("GET", "/images/wt-nope:1/json", "No such image: wt-nope:1"),
        ("DELETE", "/images/wt-nope", "No such image: wt-nope:latest"),
        ("POST", "/images/wt-nope/tag?repo=x", "No such image: wt-nope:latest"),
        ("POST", "/containers/wt-nope/kill", "cannot kill container: wt-nope: No such container: wt-nope"),
        ("GET", "/networks/wt-nope", "network wt-nope not found"),
        ("GET", "/volumes/wt-nope", "get wt-nope: no such volume"),
        ("DELETE", "/volumes/wt-nope", "get wt-nope: no such volume"),
        ("GET", "/exec/wt-nope/json", "No such exec instance: wt-nope"),
        ("POST", "/exec/wt-nope/resize?h=1&w=1", "No such exec instance: wt-nope"),
    ):
        answer = engine.http.request(method, path)
        assert (answer.status, answer.message) == (404, words), path
    answer = engine.http.post("/containers/wt-nope/exec", {"Cmd": ["true"]})
    assert (answer.status, answer.message) == (404, "No such container: wt-nope")
    answer = engine.http.post("/exec/wt-nope/start", {})
    assert (answer.status, answer.message) == (404, "No such exec instance: wt-nope")


def test_features_of_runtimes(engine: Engine) -> None:
    told = engine.http.get("/info").json()["Runtimes"]["runc"]["status"]["org.opencontainers.runtime-spec.features"]
    assert "linux" in json.loads(told)
    older = Client(engine.http.path, version="v1.43").get("/info").json()["Runtimes"]["runc"]
    assert older.keys() == {"path"}
