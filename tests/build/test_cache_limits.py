"""`builder.gc` of the daemon's file: what was longest unused is given up, by itself, when more is used than may be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.build.client import Client, dockerfile
from tests.support.daemon import DaemonFailed, Wherryd, temporary_folder
from tests.support.engine import Engine

Start = Callable[[dict[str, Any]], Client]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Start]:
    daemon = Wherryd(temporary_folder())

    def start(gc: dict[str, Any]) -> Client:
        file = tmp_path / "daemon.json"
        file.write_text(json.dumps({"builder": {"gc": gc}}))
        daemon.start("--config-file", str(file))
        Engine("wherry", daemon.socket).prepare()
        return Client(daemon, tmp_path / "home")

    yield start
    daemon.dispose()


def step(client: Client, folder: Path, name: str) -> None:
    """A build of one step of a megabyte, of which no image is made."""
    dockerfile(folder, f"FROM wt-base\nRUN dd if=/dev/urandom of=/{name} bs=1024 count=1024\n")
    client.build(folder, "--output", f"type=tar,dest={folder.parent}/out.tar")


def steps(client: Client) -> set[str]:
    found = client.engine.http.get("/system/df", type="build-cache").json()["BuildCache"]
    return {entry["Description"].split()[4].removeprefix("of=/") for entry in found if "RUN" in entry["Description"]}


def test_the_longest_unused_goes(started: Start, folder: Path) -> None:
    client = started({"enabled": True, "defaultKeepStorage": "2500kb"})
    for name in ("first", "second", "first", "third"):
        step(client, folder, name)
    assert steps(client) == {"first", "third"}


def test_rules_one_after_the_other(started: Start, folder: Path) -> None:
    """The first is about nothing that there is, the second bounds what is used, and reserves less than that."""
    rules = [{"keepStorage": "1kb", "filter": ["unused-for=48h"]}, {"reservedSpace": "1kb", "maxUsedSpace": "2500kb"}]
    client = started({"policy": rules})
    for name in ("first", "second", "third"):
        step(client, folder, name)
    assert steps(client) == {"second", "third"}


def test_turned_off(started: Start, folder: Path) -> None:
    client = started({"enabled": False, "defaultKeepStorage": "1kb"})
    for name in ("first", "second"):
        step(client, folder, name)
    assert steps(client) == {"first", "second"}
    client("builder", "prune", "-f", "--keep-storage", "1500kb")
    assert steps(client) == {"second"}
    client("builder", "prune", "-f", "--filter", "type=exec.cachemount")
    assert steps(client) == {"second"}


def test_by_what_it_stands_on(started: Start, folder: Path) -> None:
    client = started({})
    dockerfile(folder, "FROM wt-base\nRUN touch /one\nRUN touch /two\nRUN touch /three\n")
    client.build(folder, "--output", f"type=tar,dest={folder.parent}/out.tar")
    found = client.engine.http.get("/system/df", type="build-cache").json()["BuildCache"]
    names = {entry["ID"]: entry["Description"].rpartition("/")[2] for entry in found}
    assert sorted((names[entry["ID"]], names.get(*entry.get("Parents", [""]))) for entry in found) == [
        ("one", None),
        ("three", "two"),
        ("two", "one"),
    ]
    two = next(id for id, name in names.items() if name == "two")
    client("builder", "prune", "-f", "--filter", f"parent={two}")
    left = client.engine.http.get("/system/df", type="build-cache").json()["BuildCache"]
    assert {names[entry["ID"]] for entry in left} == {"one", "two"}


def test_a_mistake_in_it_keeps_the_daemon_from_starting(started: Start) -> None:
    with pytest.raises(DaemonFailed, match="builder: gc has no option defaultKeepStorag"):
        started({"defaultKeepStorag": "1GB"})
