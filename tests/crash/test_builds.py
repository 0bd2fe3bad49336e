"""Builds: killed at each step. Nothing runs on, nothing is half there, and what was finished is kept."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from tests.build.test_sessions import Client
from tests.crash.conftest import Box
from tests.support.engine import eventually
from tests.support.http import Disconnected
from tests.support.images import Entry, tar

DOCKERFILE = (
    "FROM wt-base\nLABEL wt=crash\nRUN echo first > /first\n"
    "RUN --mount=type=cache,target=/c,id=wt-crash echo kept >> /c/f && cp /c/f /second\nCOPY file /third\n"
)
CONTEXT = tar([Entry("Dockerfile", DOCKERFILE.encode()), Entry("file", b"sent\n")])
PLACES = [
    "contents.put.written",
    "snapshots.prepare.made",
    "snapshots.prepare.renamed",
    "builds.exec.prepared",
    "builds.exec.ended",
    "snapshots.settle.told",
    "snapshots.settle.moved",
    "snapshots.settle.renamed",
    "builds.exec.kept",
    "builds.mounts.made",
    "builds.file.prepared",
    "builds.file.done",
    "contents.move.moved",
    "builds.file.filled",
    "builds.cache.recorded",
    "images.admit.recorded",
]


def build(box: Box, **query: object) -> list[dict[str, object]]:
    answer = box.engine.http.post("/build", body=CONTEXT, t="wt-crashed", rm=1, **query)
    assert answer.status == 200, answer.body
    return answer.json_lines()


def prune(box: Box) -> None:
    assert box.engine.http.post("/build/prune", all=1).status == 200
    box.engine.http.post("/images/prune", filters=json.dumps({"dangling": ["true"]}))


@pytest.mark.parametrize("place", PLACES)
def test_killed_at(box: Box, place: str) -> None:
    box.daemon.stop()
    box.daemon.start(failpoint=place)
    with contextlib.suppress(Disconnected, ConnectionError, OSError):
        build(box)
    assert box.daemon.died()
    box.daemon.start()
    assert "error" not in build(box)[-1]
    assert box.engine.output(["cat", "/first", "/second", "/third"], Image="wt-crashed").endswith("kept\nsent\n")
    box.engine.tidy()
    box.engine.http.delete("/images/wt-crashed", force=1)
    prune(box)
    box.assert_nothing_left()


@pytest.mark.parametrize("place", ["pushes.layers.packed", "builds.export.layers-sent", "builds.export.configured"])
def test_killed_while_a_cache_is_exported(box: Box, tmp_path: Path, place: str) -> None:
    box.daemon.stop()
    box.daemon.start(failpoint=place)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")  # exported layers stay compressed
    client = Client(box.daemon, tmp_path)
    to = f"type=local,dest={tmp_path}/cache,mode=max"
    client.build(tmp_path, "-t", "wt-crashed", "--cache-to", to, code=1)
    assert box.daemon.died()
    assert not (tmp_path / "cache" / "index.json").exists() and not list((tmp_path / "cache").rglob("*.part"))
    box.daemon.start()
    client.build(tmp_path, "-t", "wt-crashed", "--cache-to", to)
    assert (tmp_path / "cache" / "index.json").exists()
    box.engine.http.delete("/images/wt-crashed", force=1)
    prune(box)
    box.assert_nothing_left()


@pytest.mark.parametrize("place", ["builds.dress.stored", "builds.dress.recorded"])
def test_killed_while_an_image_gets_its_attestations(box: Box, tmp_path: Path, place: str) -> None:
    box.daemon.stop()
    box.daemon.start(failpoint=place)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    client = Client(box.daemon, tmp_path)
    options = ("-t", "wt-crashed", "--annotation", "a=b", "--provenance", "true")
    client.build(tmp_path, *options, code=1)
    assert box.daemon.died()
    box.daemon.start()
    client.build(tmp_path, *options)
    assert b"in-toto" in box.engine.http.get("/images/wt-crashed/get").body
    box.engine.http.delete("/images/wt-crashed", force=1)
    prune(box)
    box.assert_nothing_left()


def test_what_was_finished_before_a_crash_is_not_done_again(box: Box) -> None:
    box.daemon.stop()
    box.daemon.start(failpoint="builds.file.prepared")  # the last step
    with contextlib.suppress(Disconnected, ConnectionError, OSError):
        build(box)
    assert box.daemon.died()
    box.daemon.start()
    log = "".join(str(line.get("stream", "")) for line in build(box))
    assert log.count("Using cache") == 2
    box.engine.http.delete("/images/wt-crashed", force=1)
    prune(box)


def test_a_step_that_runs_does_not_outlive_the_daemon_for_long(box: Box) -> None:
    context = tar([Entry("Dockerfile", b"FROM wt-base\nRUN echo begun; exec sleep 345678\n")])
    with box.engine.http.stream("POST", "/build", body=context) as stream:
        lines = stream.json_lines()
        while "begun" not in next(lines).get("stream", ""):
            pass
        box.crash()
    eventually(lambda: not _running(b"sleep\x00345678\x00"), what="the end of the step")
    prune(box)
    box.assert_nothing_left()


def _running(command: bytes) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes() == command:
                return True
    return False
