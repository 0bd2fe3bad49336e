"""`--userns-remap`: containers whose users are subordinate IDs of the host's."""

from __future__ import annotations

import contextlib
import io
import os
import pwd
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import inventory
from tests.support.daemon import SOURCE, DaemonFailed, Wherryd, temporary_folder
from tests.support.engine import IDLE, Engine
from tests.support.http import Disconnected
from wherry.linux.host import kernel_version

GONE = (ConnectionError, FileNotFoundError, Disconnected)

USERS, GROUPS = 700000, 800000  # where the ranges begin
NAME = pwd.getpwuid(1).pw_name
MAP = [f"0 {USERS} 65536", f"0 {GROUPS} 65536"]


@contextlib.contextmanager
def made_daemon() -> Iterator[Wherryd]:
    """A daemon that does not run yet, with subordinate IDs of its own."""
    folder = temporary_folder()
    folder.chmod(0o711)
    (folder / "subuid").write_text(f"{NAME}:{USERS}:65536\n")
    (folder / "subgid").write_text(f"{NAME}:{GROUPS}:65536\n")
    made = Wherryd(folder)
    try:
        yield made
    finally:
        made.dispose()


def start(daemon: Wherryd, value: str = NAME, failpoint: str = "") -> None:
    daemon.start("--userns-remap", value, failpoint=failpoint, WHERRY_SUBIDS=str(daemon.folder))


@pytest.fixture(scope="module")
def daemon() -> Iterator[Wherryd]:
    """One for all tests: to start one takes longer than most of them."""
    if kernel_version(os.uname().release) < (6, 15):
        pytest.skip("probe mapped-overlays: the kernel stacks no detached mounts (before Linux 6.15)")
    with made_daemon() as made:
        start(made)
        Engine("wherry", made.socket).prepare()
        yield made


@pytest.fixture
def engine(daemon: Wherryd) -> Iterator[Engine]:
    engine = Engine("wherry", daemon.socket)
    yield engine
    if daemon.process is None or daemon.process.poll() is not None:
        start(daemon)
    engine.tidy()


def owner_on_the_host(engine: Engine, container: str) -> tuple[int, int]:
    found = os.stat(f"/proc/{engine.state(container)['Pid']}")
    return found.st_uid, found.st_gid


def members(archive: bytes) -> dict[str, tuple[int, int]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: (member.uid, member.gid) for member in tar}


def packed(name: str, uid: int, gid: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.uid, member.gid, member.size = uid, gid, 2
        tar.addfile(member, io.BytesIO(b"x\n"))
    return stream.getvalue()


def put(engine: Engine, container: str, path: str, archive: bytes) -> None:
    answer = engine.http.request("PUT", f"/containers/{container}/archive?path={path}", body=archive)
    assert answer.status == 200, answer.body


def test_processes(engine: Engine) -> None:
    root = engine.idle()
    assert owner_on_the_host(engine, root) == (USERS, GROUPS)
    user = engine.idle(User="1000:1000")
    assert owner_on_the_host(engine, user) == (USERS + 1000, GROUPS + 1000)
    maps = engine.exec(root, "cat /proc/self/uid_map /proc/self/gid_map")[1]
    assert [" ".join(line.split()) for line in maps.splitlines()] == MAP
    assert engine.exec(user, ["id", "-u"])[1] == "1000\n"
    assert engine.output("cat /proc/self/uid_map", host={"UsernsMode": "host"}).split() == ["0", "0", "4294967295"]
    assert "name=userns" in engine.http.get("/info").json()["SecurityOptions"]


def test_it_has_power_over_its_own(engine: Engine) -> None:
    host = {"CapAdd": ["NET_ADMIN"]}
    look = "ip addr add 10.9.9.9/32 dev lo && ip addr show lo | grep -c 10.9.9.9; stat -c %u /etc/hosts"
    assert engine.output(look, host=host).split() == ["1", "0"]
    container = engine.idle(name="wt-first")
    shared = engine.output("cat /proc/self/uid_map", host={"NetworkMode": f"container:{container}"})
    assert " ".join(shared.split()) == MAP[0]


def test_owners_in_image_and_volume(engine: Engine) -> None:
    look = "touch /v/f; chown 5:6 /v/f; ls -ln /v/f /etc/passwd | tr -s ' ' | cut -d' ' -f3,4"
    assert engine.output(look, host={"Binds": ["wt-owned:/v"]}).splitlines() == ["0 0", "5 6"]
    place = Path(engine.http.get("/volumes/wt-owned").json()["Mountpoint"], "f")
    assert (place.stat().st_uid, place.stat().st_gid) == (5, 6)
    seen = engine.output("ls -ln /v/f", host={"Binds": ["wt-owned:/v"], "UsernsMode": "host"}).split()
    assert seen[2:4] == ["5", "6"]


@pytest.mark.parametrize("running", [True, False])
def test_copying(engine: Engine, running: bool) -> None:
    host: dict[str, Any] = {"Binds": ["wt-copied:/v"]}
    container = engine.idle(host=host)
    engine.exec(container, "mkdir /d; chown 7:8 /d")
    if not running:
        assert engine.http.post(f"/containers/{container}/stop", t=0).status == 204
    for place in ("/", "/v"):
        put(engine, container, place, packed("given", 11, 12))
    assert members(engine.http.get(f"/containers/{container}/archive", path="/d").body) == {"d": (7, 8)}
    assert members(engine.http.get(f"/containers/{container}/archive", path="/v/given").body) == {"given": (11, 12)}
    exported = members(engine.http.get(f"/containers/{container}/export").body)
    assert (exported["given"], exported["d"], exported["etc/passwd"]) == ((11, 12), (7, 8), (0, 0))
    if not running:
        engine.start(container)
    out = engine.exec(container, "ls -ln /given /v/given | tr -s ' ' | cut -d' ' -f3,4")[1]
    assert out.splitlines() == ["11 12", "11 12"]


def test_commit_has_the_container_s_owners(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "mkdir /d; chown 7:8 /d; rm /etc/group"], name="wt-made")
    engine.wait(container)
    kinds = {change["Path"]: change["Kind"] for change in engine.http.get("/containers/wt-made/changes").json()}
    assert kinds == {"/d": 1, "/etc": 0, "/etc/group": 2}
    assert engine.http.post("/commit", container="wt-made", repo="wt-made").status == 201
    for mode in ("", "host"):
        out = engine.output("ls -lnd /d; ls /etc/group 2>&1 || true", Image="wt-made", host={"UsernsMode": mode})
        assert out.split()[2:4] == ["7", "8"]
        assert "No such file" in out


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (
            {"Privileged": True},
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace "
            "when running privileged mode",
        ),
        ({"NetworkMode": "host"}, "cannot share the host's network namespace when user namespaces are enabled"),
        ({"PidMode": "host"}, "cannot share the host PID namespace when user namespaces are enabled"),
    ],
)
def test_refused(engine: Engine, host: dict[str, Any], message: str) -> None:
    answer = engine.try_create(IDLE, host=host)
    assert (answer.status, answer.message) == (500, message)
    assert engine.try_create(IDLE, host={**host, "UsernsMode": "host"}).status == 201


def test_it_outlives_the_daemon(daemon: Wherryd, engine: Engine) -> None:
    container = engine.idle(host={"Binds": ["wt-kept:/v"]})
    daemon.kill()
    start(daemon)
    assert engine.state(container)["Running"]
    assert engine.exec(container, ["id", "-u"])[1] == "0\n"
    put(engine, container, "/v", packed("late", 3, 4))
    assert engine.exec(container, "ls -ln /v/late")[1].split()[2:4] == ["3", "4"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("wt-nobody", "there is no user wt-nobody: make it"),
        ("root", "no subordinate IDs for root in"),
        ("a:b:c", "must be default, USER or USER:GROUP"),
    ],
)
def test_what_cannot_be(value: str, message: str) -> None:
    with made_daemon() as daemon, pytest.raises(DaemonFailed, match=message):
        start(daemon, value)


def test_sharing_namespaces_of_one_that_has_the_same_users(engine: Engine) -> None:
    first = engine.idle(name="wt-first", host={"IpcMode": "shareable"})
    pid = engine.state(first)["Pid"]
    look = (
        "readlink /proc/self/ns/user; cat /proc/self/uid_map; ls /sys/class/net; ps | grep -c sleep; touch /dev/shm/f"
    )
    for mode in ({"PidMode": f"container:{first}"}, {"IpcMode": f"container:{first}"}):
        out = engine.output(look, host=mode).split()
        assert out[0] == os.readlink(f"/proc/{pid}/ns/user")
        assert " ".join(out[1:4]) == MAP[0]
        assert out[4:6] == ["eth0", "lo"]
    assert engine.exec(first, "ls /dev/shm")[1] == "f\n"
    everything = {"PidMode": f"container:{first}", "NetworkMode": f"container:{first}", "IpcMode": f"container:{first}"}
    assert engine.output("ip -o addr", host=everything) == engine.exec(first, "ip -o addr")[1]


def test_sharing_what_cannot_be_one_namespace(engine: Engine) -> None:
    first, second = engine.idle(), engine.idle(host={"UsernsMode": "host"})
    third = engine.idle()
    refused = engine.failed_start(IDLE, host={"PidMode": f"container:{second}"})
    assert refused.message == f"cannot share the PID of container {second}: it has other users (--userns)"
    both = {"PidMode": f"container:{first}", "NetworkMode": f"container:{third}"}
    refused = engine.failed_start(IDLE, host=both)
    assert refused.message == "cannot share namespaces of containers that have users of their own each (--userns)"


DOCKERFILE = b"""FROM wt-base
COPY --chown=3:4 kept /kept
RUN --mount=type=bind,target=/ctx --mount=type=cache,target=/cache,uid=5 \
    --mount=type=bind,from=wt-base,target=/base,rw \
    cat /proc/self/uid_map >/map && chown 7:8 /map && ls -ln /kept /ctx/kept | tr -s ' ' | cut -d' ' -f3,4 >/seen \
    && stat -c %u /cache /base/etc/passwd >>/seen && touch /cache/f /base/f && ip -o link | wc -l >>/seen
USER 1000
RUN id -u >/tmp/user && cat /proc/self/uid_map >/tmp/map
"""


def test_a_build_s_processes_have_them_too(engine: Engine) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in (("Dockerfile", DOCKERFILE), ("kept", b"x")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    answer = engine.http.request(
        "POST", "/build", body=stream.getvalue(), headers={"Content-Type": "application/x-tar"}, t="wt-built"
    )
    assert b"Successfully tagged" in answer.body, answer.body
    look = "cat /map /tmp/map /tmp/user /seen; ls -ln /map /kept /tmp/user | tr -s ' ' | cut -d' ' -f3,4"
    lines = engine.output(look, Image="wt-built", host={"UsernsMode": "host"}, User="0").splitlines()
    assert [" ".join(line.split()) for line in lines[:2]] == [MAP[0], MAP[0]]
    assert lines[2:] == ["1000", "0 0", "3 4", "5", "0", "2", "3 4", "7 8", "1000 1000"]
    refused = engine.http.request(
        "POST", "/build", body=stream.getvalue(), headers={"Content-Type": "application/x-tar"}, networkmode="host"
    )
    assert b"cannot share the host's network namespace when user namespaces are enabled" in refused.body


@pytest.mark.parametrize("failpoint", ["create.files-made", "start.spec-written"])
def test_killed_on_the_way(daemon: Wherryd, engine: Engine, failpoint: str) -> None:
    """One that shares namespaces and mounts a volume: what was on the way is undone or finished by the next daemon."""
    first = engine.idle(name="wt-first")
    inside = {"PidMode": "container:wt-first", "Binds": ["wt-kept:/v"]}
    engine.output("touch /v/f", host=inside)
    engine.exec(first, ["true"])
    engine.tidy_containers()
    clean = inventory.take(daemon)
    first = engine.idle(name="wt-first")
    daemon.stop()
    start(daemon, failpoint=failpoint)
    with contextlib.suppress(*GONE):
        second = engine.create(IDLE, name="wt-second", host=inside)
        engine.start(second)
        engine.remove(second)
    assert daemon.died(), daemon.tail()
    start(daemon)
    assert engine.exec(first, ["id", "-u"])[1] == "0\n"
    engine.tidy_containers()
    inventory.assert_nothing_beyond(clean, daemon)


MAKE_DEFAULT = """
set -eu
mkdir {0}/upper {0}/work
mount -t overlay overlay -o lowerdir=/etc,upperdir={0}/upper,workdir={0}/work /etc
echo somebody:100000:65536 >/etc/subuid
echo somebody:90000:20000 >/etc/subgid
for again in 1 2; do
    {1} -c 'from wherry.linux.user_namespaces import configured; print(configured("default").root)'
done
getent passwd dockremap | cut -d: -f7
"""


def test_the_default_user_is_made(tmp_path: Path) -> None:
    script = MAKE_DEFAULT.format(tmp_path, sys.executable)
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = ["unshare", "--mount", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["(165536, 110000)", "(165536, 110000)", "/usr/sbin/nologin"]
