"""The daemon is killed at every step that changes something; the next one finishes it or undoes it.

A story makes, uses and removes one of everything. Which states each thing may be in is kept beside it: before a
request, what was and what is asked; once it is answered, what was asked alone.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.api.test_limits import V2, limit
from tests.crash.conftest import Box
from tests.support.daemon import SOURCE, DaemonFailed
from tests.support.engine import BASE, Engine, eventually
from tests.support.http import Disconnected
from tests.support.images import Entry, base_tar, docker_archive, folder, tar
from tests.support.immutable import immutable, written

COUNTER = ["sh", "-c", "trap 'exit 3' TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done"]
ARCHIVE = docker_archive(
    [base_tar(), tar([folder("d"), Entry("d/f", b"crash\n")])],
    ["wt-crash:1"],
    Env=["PATH=/bin"],
    Cmd=["cat", "/d/f"],
)
# Come once in the life of a host, or when the engine leaves it: tests/kernel kills at these.
HOST_ONLY = ("networks.open.bridge-made", "networks.recover.accepts", "networks.recover.forwarding", "networks.close.")
TRANSFERS = ("pulls.", "pushes.", "partials.")  # want a registry: test_transfers kills at these
EXPORTS = ("builds.export.", "builds.dress.")  # want our client: test_builds kills at these
V1_ONLY = ("start.enter.",)  # where a container's process enters its cgroups by itself
GONE = (ConnectionError, FileNotFoundError, Disconnected)


def failpoints() -> list[str]:
    names: set[str] = set()
    for path in Path(SOURCE).rglob("*.py"):
        names.update(re.findall(r'\bfailpoint\("([^"]+)"\)', path.read_text()))
    elsewhere = (*HOST_ONLY, *TRANSFERS, *EXPORTS, *(V1_ONLY if V2 else ()))
    return sorted(name for name in names if not name.startswith(elsewhere))


class Story:
    """Ends where it ends: at the last page, or where the daemon dies."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.allowed: dict[str, set[str]] = {}

    @contextmanager
    def doing(self, thing: str, *outcomes: str) -> Iterator[None]:
        """`outcomes[0]` once answered; any of them, or what was, if not."""
        self.allowed[thing] = self.allowed.get(thing, {"absent"}) | set(outcomes)
        yield
        self.allowed[thing] = {outcomes[0]}

    def tell(self, name: str) -> None:
        """The chapters in which the failpoint may come."""
        chapters = [self.images, self.commits, self.life, self.policies, self.volumes, self.long_log, self.health]
        chapters += [self.networks, self.builds]
        first = next((chapter for prefix, chapter in self._where().items() if name.startswith(prefix)), None)
        for chapter in [first] if first else chapters:
            chapter()

    def _where(self) -> dict[str, Callable[[], None]]:
        life = (
            "create.",
            "ready.",
            "start.",
            "end.",
            "remove.",
            "exec.",
            "update.",
            "networks.",
            "snapshots.prepare",
            "snapshots.remove",
        )
        own = tuple(f"networks.{verb}." for verb in ("create", "connect", "disconnect", "remove"))
        return {
            **dict.fromkeys(own, self.networks),
            **dict.fromkeys(("snapshots.settle.",), self.builds),
            **dict.fromkeys(("images.commit.", "snapshots.copy."), self.commits),
            "snapshots.prepare.mount-points": self.commits,
            "remove.buried": self.burial,
            **dict.fromkeys(("images.", "blobs.", "snapshots.unpack"), self.images),
            **dict.fromkeys(life, self.life),
            "volumes.": self.volumes,
            "logs.": self.long_log,
            **dict.fromkeys(("builds.", "contents."), self.builds),
            "health.": self.health,
        }

    def images(self) -> None:
        http = self.engine.http
        with self.doing("image wt-crash:1", "present"):
            assert self.engine.load(ARCHIVE).status == 200
        with self.doing("image wt-in:1", "present"):
            self.engine.import_image(tar([Entry("x", b"y")]), "wt-in", "1")
        with self.doing("image wt-tag:1", "present"):
            assert http.post("/images/wt-crash:1/tag", repo="wt-tag", tag="1").status == 201
        with self.doing("image wt-crash:1", "absent"):
            assert http.delete("/images/wt-crash:1").status == 200
        with self.doing("image wt-tag:1", "absent"):
            assert http.delete("/images/wt-tag:1").status == 200

    def commits(self) -> None:
        engine, http = self.engine, self.engine.http
        with self.doing("wt-made", "exited", "created", "running"):
            self.create("wt-made", ["sh", "-c", "echo x > /new"])
            engine.start("wt-made")
            engine.wait("wt-made")
            eventually(lambda: engine.state("wt-made")["Status"] == "exited")
        with self.doing("image wt-made:1", "present"):
            assert http.post("/commit", container="wt-made", repo="wt-made", tag="1").status == 201
        with self.doing("wt-on-top", "created"):  # the first container of a layer
            engine.create(["true"], name="wt-on-top", Image="wt-made:1")
        with self.doing("wt-on-top", "absent"):
            assert http.delete("/containers/wt-on-top").status == 204
        with self.doing("image wt-made:1", "absent"):
            assert http.delete("/images/wt-made:1").status == 200

    def life(self) -> None:
        engine, http, name = self.engine, self.engine.http, "wt-c1"
        with self.doing(name, "created"):
            part = {"Type": "volume", "Source": "wt-v1", "Target": "/p", "VolumeOptions": {"Subpath": "."}}
            image = {"Type": "image", "Source": BASE, "Target": "/img", "ImageOptions": {"Subpath": "etc"}}
            self.create(name, COUNTER, Binds=["wt-v1:/v", "/seeded"], Mounts=[part, image])
        with self.doing(name, "running", "exited"):  # of a start that was undone its error tells
            engine.start(name)
        engine.exec(name, ["true"])
        with self.doing(name, "paused"):
            assert http.post(f"/containers/{name}/pause").status == 204
        with self.doing(name, "running"):
            assert http.post(f"/containers/{name}/unpause").status == 204
        with self.doing(name, "running"):
            assert http.post(f"/containers/{name}/update", {"Memory": 64 << 20, "MemorySwap": 64 << 20}).status == 200
        with self.doing(name, "exited"):
            assert http.post(f"/containers/{name}/stop").status == 204
        with self.doing(name, "running"):
            engine.start(name)
        with self.doing(name, "exited"):
            assert http.post(f"/containers/{name}/kill").status == 204
            engine.wait(name)
        with self.doing(name, "absent"):
            assert http.delete(f"/containers/{name}", v=1).status == 204
        with self.doing("wt-rm", "created"):
            self.create("wt-rm", ["true"], AutoRemove=True)
        with self.doing("wt-rm", "absent", "running", "exited"):
            engine.start("wt-rm")
            eventually(lambda: http.get("/containers/wt-rm/json").status == 404)

    def policies(self) -> None:
        engine = self.engine
        with self.doing("wt-again", "created"):
            self.create("wt-again", ["false"], RestartPolicy={"Name": "on-failure", "MaximumRetryCount": 2})
        with self.doing("wt-again", "exited", "running", "restarting"):
            engine.start("wt-again")
            eventually(lambda: engine.inspect("wt-again")["RestartCount"] == 2)
            eventually(lambda: engine.state("wt-again")["Status"] == "exited")
        with self.doing("wt-again", "absent"):
            assert engine.http.post("/containers/prune").status == 200

    def burial(self) -> None:
        """A container that cannot be deleted, until it can."""
        engine, http = self.engine, self.engine.http
        with self.doing("wt-dead", "running", "created", "exited"):
            self.create("wt-dead", COUNTER)
            engine.start("wt-dead")
        engine.exec("wt-dead", ["touch", "/f"])
        with immutable(written(engine, "wt-dead", "f")), self.doing("wt-dead", "dead", "exited", "absent"):
            assert http.delete("/containers/wt-dead", force=1).status == 204
            eventually(lambda: self.found("wt-dead") == "dead")
        with self.doing("wt-dead", "absent"):
            assert http.delete("/containers/wt-dead").status == 204

    def volumes(self) -> None:
        with self.doing("volume wt-v2", "present"):
            assert self.engine.http.post("/volumes/create", {"Name": "wt-v2"}).status == 201
        with self.doing("wt-seed", "created"):
            self.create("wt-seed", ["true"], Binds=["wt-v2:/seeded"])
        with self.doing("wt-seed", "absent"):
            assert self.engine.http.delete("/containers/wt-seed").status == 204
        with self.doing("volume wt-v3", "present"):
            options = {"type": "tmpfs", "device": "tmpfs"}
            body = {"Name": "wt-v3", "DriverOpts": options}
            assert self.engine.http.post("/volumes/create", body).status == 201
        with self.doing("wt-dev", "created"):
            self.create("wt-dev", ["true"], Binds=["wt-v3:/d"])
        with self.doing("wt-dev", "exited", "running"):
            self.engine.start("wt-dev")
            self.engine.wait("wt-dev")
        with self.doing("wt-dev", "absent"):
            assert self.engine.http.delete("/containers/wt-dev").status == 204
        with self.doing("volume wt-v3", "absent"):
            assert self.engine.http.delete("/volumes/wt-v3").status == 204
        with self.doing("volume wt-v2", "absent"):
            assert self.engine.http.delete("/volumes/wt-v2").status == 204

    def long_log(self) -> None:
        engine = self.engine
        with self.doing("wt-log", "exited", "created", "running"):
            rotated = {"Type": "json-file", "Config": {"max-size": "10k", "max-file": "3"}}
            script = "seq 20000; sleep 1; seq 20000; sleep 1"
            self.create("wt-log", ["sh", "-c", script], LogConfig=rotated)
            engine.start("wt-log")
            engine.wait("wt-log")
            eventually(lambda: engine.state("wt-log")["Status"] == "exited")

    def networks(self) -> None:
        """A user's network, a container that goes into it while it runs, and out again."""
        engine, http = self.engine, self.engine.http
        asked = {"Container": "wt-net"}
        with self.doing("network wt-n1", "present"):
            assert http.post("/networks/create", {"Name": "wt-n1"}).status == 201
        with self.doing("wt-net", "created"):
            self.create("wt-net", COUNTER)
        with self.doing("wt-net", "running"):
            engine.start("wt-net")
        assert http.post("/networks/wt-n1/connect", asked).status == 200
        assert http.post("/networks/bridge/disconnect", asked).status == 200
        assert http.post("/networks/bridge/connect", asked).status == 200
        assert http.post("/networks/wt-n1/disconnect", asked).status == 200
        with self.doing("wt-net", "absent", "exited"):
            assert http.delete("/containers/wt-net", force=1).status == 204
        with self.doing("network wt-n1", "absent"):
            assert http.delete("/networks/wt-n1").status == 204

    def builds(self) -> None:
        text = "FROM wt-base\nRUN --mount=type=cache,target=/c touch /c/f /new\nCOPY f /f\n"
        context = tar([Entry("Dockerfile", text.encode()), Entry("f", b"f")])
        with self.doing("image wt-built:1", "present"):
            answer = self.engine.http.post("/build", body=context, t="wt-built:1")
            assert "error" not in answer.json_lines()[-1], answer.body
        with self.doing("image wt-built:1", "absent"):
            assert self.engine.http.delete("/images/wt-built:1").status == 200

    def health(self) -> None:
        engine, check = self.engine, {"Test": ["CMD-SHELL", "true"], "Interval": 50_000_000}
        with self.doing("wt-well", "created"):
            engine.create(COUNTER, name="wt-well", Healthcheck=check)
        with self.doing("wt-well", "running", "exited"):
            engine.start("wt-well")
        eventually(lambda: engine.state("wt-well")["Health"]["Status"] == "healthy")
        with self.doing("wt-well", "absent", "exited"):
            assert engine.http.delete("/containers/wt-well", force=1).status == 204

    def create(self, name: str, command: list[str], **host: object) -> None:
        ports = {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}}
        self.engine.create(command, name=name, ExposedPorts={"80/tcp": {}}, host={**ports, **host})

    def surprises(self) -> list[str]:
        """Things that are not as they may be."""
        found = {thing: self.found(thing) for thing in self.allowed}
        return [
            f"{thing} is {found[thing]}, not {allowed}"
            for thing, allowed in self.allowed.items()
            if found[thing] not in allowed
        ]

    def found(self, thing: str) -> str:
        """The state in which a thing is now."""
        kind, _, name = thing.rpartition(" ")
        if kind:
            path = {"image": f"/images/{name}/json", "volume": f"/volumes/{name}", "network": f"/networks/{name}"}[kind]
            return "present" if self.engine.http.get(path).status == 200 else "absent"
        answer = self.engine.http.get(f"/containers/{name}/json")
        return str(answer.json()["State"]["Status"]) if answer.status == 200 else "absent"


def is_whole(engine: Engine, name: str) -> None:
    """A container that is there can be used: its log is without a hole, it ends, starts and is removed."""
    state = engine.state(name)
    if state["Status"] == "dead":
        assert engine.http.delete(f"/containers/{name}").status == 204
        return
    if state["Status"] in ("running", "paused"):
        assert Path(f"/proc/{state['Pid']}").exists()
        if memory := engine.inspect(name)["HostConfig"]["Memory"]:
            assert limit(engine, name, "memory", "memory.limit_in_bytes", "memory.max") == str(memory)
    if state["Status"] == "paused":
        assert engine.http.post(f"/containers/{name}/unpause").status == 204
    if name == "wt-c1":
        runs = [int(line) for line in engine.logs(name)[0].split()]
        assert all(after in (before + 1, 0) for before, after in itertools.pairwise(runs))
    if state["Running"]:
        assert engine.http.post(f"/containers/{name}/stop", t=5).status in (204, 304)
    engine.start(name)
    assert engine.http.delete(f"/containers/{name}", force=1, v=1).status in (204, 409)
    eventually(lambda: engine.http.get(f"/containers/{name}/json").status == 404)


@pytest.mark.parametrize("name", failpoints())
def test_killed_at(box: Box, name: str) -> None:
    daemon, engine = box.daemon, box.engine
    daemon.stop()
    story = Story(engine)
    try:
        daemon.start(failpoint=name)
        story.tell(name)
    except (*GONE, DaemonFailed):
        pass
    except AssertionError:
        if daemon.process is None or daemon.process.poll() is None:
            raise
    daemon.stop()
    assert daemon.died(), f"the story never comes to {name}"

    daemon.start()
    eventually(lambda: story.surprises() == [] or None, what=f"end of {story.surprises()} (allowed: {story.allowed})")
    for container in engine.http.get("/containers/json", all=1).json():
        assert container["State"] in ("created", "running", "paused", "exited", "restarting", "dead")
        is_whole(engine, container["Names"][0][1:])
