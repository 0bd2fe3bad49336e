"""kill -9 of the daemon and of monitors, a reboot: nothing is lost, nothing stays."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.api.test_lifecycle import moment
from tests.api.test_networks import publish
from tests.crash.conftest import Box
from tests.support import inventory
from tests.support.engine import IDLE, Engine, eventually
from tests.support.http import Disconnected
from wherry.linux.processes import start_time

COUNTER = ["sh", "-c", "trap 'exit 3' TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done"]


def gapless(engine: Engine, container: str) -> int:
    """How far the counter came; every number before it is in the log, once."""
    out, _ = engine.logs(container)
    numbers = [int(line) for line in out.split()]
    assert numbers == list(range(len(numbers)))
    return len(numbers)


def monitor_of(box: Box, container: str) -> int:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            ours = any(str(box.daemon.folder).encode() in word for word in words)
            if b"conmon" in words[0] and container.encode() in words and ours:
                return int(name)
    raise AssertionError(f"no monitor of {container}")


def test_running_containers_go_on(box: Box) -> None:
    engine = box.engine
    web = {
        "ExposedPorts": {"80/tcp": {}},
        "host": {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}},
    }
    server = engine.run(["httpd", "-f", "-p", "80", "-h", "/www"], **web)
    port = int(engine.inspect(server)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"])
    counters = [engine.run(COUNTER) for _ in range(3)]
    before = [engine.inspect(c) for c in (server, *counters)]

    def answers() -> bool:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"200 OK" in connection.recv(1000)

    eventually(answers)
    box.daemon.kill()
    assert answers()
    time.sleep(0.3)
    box.daemon.start()
    assert answers()
    for old in before:
        new = engine.inspect(old["Id"])
        assert new["State"] == old["State"]
        assert new["NetworkSettings"]["Ports"] == old["NetworkSettings"]["Ports"]
        assert new["NetworkSettings"]["IPAddress"] == old["NetworkSettings"]["IPAddress"]
    for container in counters:
        count = gapless(engine, container)
        assert count > 20
        eventually(lambda c=container, n=count: gapless(engine, c) > n)  # type: ignore[misc]
        assert engine.exec(container, ["echo", "in"]) == (0, "in\n", "")
        with engine.http.hijack(f"/containers/{container}/attach", stream=1, stdout=1) as connection:
            assert next(connection.frames())[0] == 1
        assert engine.http.post(f"/containers/{container}/stop").status == 204
        assert engine.state(container)["ExitCode"] == 3
    taken = engine.failed_start(["true"], **publish(("80/tcp", "127.0.0.1", str(port))))
    assert "port is already allocated" in taken.message


def test_addresses_are_taken_again(box: Box) -> None:
    engine = box.engine
    first = engine.idle()
    address = engine.inspect(first)["NetworkSettings"]["IPAddress"]
    box.crash()
    others = {engine.inspect(engine.idle())["NetworkSettings"]["IPAddress"] for _ in range(3)}
    assert address not in others


def test_end_while_the_daemon_is_down(box: Box) -> None:
    engine = box.engine
    with engine.folder() as (here, seen):
        script = "sleep 0.4; echo last; head -c 50000 /dev/zero | tr '\\0' x; echo; touch /b/end; exit 7"
        container = engine.run(["sh", "-c", script], host={"Binds": [f"{seen}:/b"]})
        box.daemon.kill()
        eventually((here / "end").exists)
        ended = (here / "end").stat().st_mtime
        time.sleep(1)
        box.daemon.start()
        state = engine.state(container)
        assert (state["Status"], state["ExitCode"], state["OOMKilled"], state["Error"]) == ("exited", 7, False, "")
        assert ended - 0.05 <= moment(state["FinishedAt"]) <= ended + 0.2
        out, _ = engine.logs(container)
        assert out == b"last\n" + b"x" * 50000 + b"\n"
        assert engine.wait(container) == 7
        told = engine.http.get("/events", since=0, until=f"{time.time():.6f}", filters={"container": [container]})
        died = [event for event in told.json_lines() if event["Action"] == "die"]
        assert [event["Actor"]["Attributes"]["exitCode"] for event in died] == ["7"]


def test_killed_while_the_daemon_is_down(box: Box) -> None:
    engine = box.engine
    container = engine.run(["sleep", "1000"])
    pid = engine.state(container)["Pid"]
    box.daemon.kill()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    box.daemon.start()
    state = engine.state(container)
    assert (state["Status"], state["ExitCode"]) == ("exited", 137)


def test_auto_remove_while_the_daemon_is_down(box: Box) -> None:
    engine = box.engine
    container = engine.run(["sleep", "0.3"], name="wt-down", host={"AutoRemove": True, "Binds": ["/anonymous"]})
    volume = engine.inspect(container)["Mounts"][0]["Name"]
    pid = engine.state(container)["Pid"]
    box.daemon.kill()
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    box.daemon.start()
    eventually(lambda: engine.http.get("/containers/wt-down/json").status == 404)
    eventually(lambda: engine.http.get(f"/volumes/{volume}").status == 404)


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("no", 0, False),
        ("no", 1, False),
        ("on-failure", 0, False),
        ("on-failure", 1, True),
        ("always", 0, True),
        ("unless-stopped", 0, True),
    ],
)
def test_restart_policies_of_what_ended_while_down(box: Box, policy: str, code: int, again: bool) -> None:
    engine = box.engine
    script = f"test -e /again && exec sleep 1000; touch /again; sleep 0.3; exit {code}"
    container = engine.run(["sh", "-c", script], host={"RestartPolicy": {"Name": policy}})
    pid = engine.state(container)["Pid"]
    box.daemon.kill()
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    box.daemon.start()
    if again:
        eventually(lambda: engine.state(container)["Status"] == "running" and engine.state(container)["Pid"] != pid)
    else:
        eventually(lambda: engine.state(container)["Status"] == "exited")
        assert engine.state(container)["ExitCode"] == code


def test_what_was_stopped_by_hand_stays_stopped(box: Box) -> None:
    engine = box.engine
    stopped = engine.idle(host={"RestartPolicy": {"Name": "unless-stopped"}})
    engine.http.post(f"/containers/{stopped}/stop")
    running = engine.idle(host={"RestartPolicy": {"Name": "unless-stopped"}})
    box.crash()
    assert engine.state(running)["Status"] == "running"
    assert engine.state(stopped)["Status"] == "exited"


def test_a_stop_of_the_daemon_leaves_containers_running(box: Box) -> None:
    engine = box.engine
    container = engine.run(COUNTER)
    before = engine.state(container)
    assert box.daemon.stop() == 0
    assert not box.daemon.socket.exists()
    time.sleep(0.2)
    box.daemon.start()
    assert engine.state(container) == before
    assert gapless(engine, container) > 10


def test_stop_of_the_daemon_ends_its_streams(box: Box) -> None:
    engine = box.engine
    container = engine.run(COUNTER)
    with (
        engine.http.stream("GET", "/events") as events,
        engine.http.stream("GET", f"/containers/{container}/logs", follow=1, stdout=1),
        engine.http.hijack(f"/containers/{container}/attach", stream=1, stdout=1),
        engine.http.stream("POST", f"/containers/{container}/wait"),
    ):
        assert events.status == 200
        assert box.daemon.stop() == 0


@pytest.mark.parametrize("down", [False, True], ids=["daemon-up", "daemon-down"])
def test_a_killed_monitor_is_noticed(box: Box, down: bool) -> None:
    engine = box.engine
    container = engine.run(COUNTER)
    monitor, pid = monitor_of(box, container), engine.state(container)["Pid"]
    if down:
        box.daemon.kill()
    os.kill(monitor, signal.SIGKILL)
    if down:
        eventually(lambda: start_time(monitor) is None)
        box.daemon.start()
    state = eventually(lambda: (s := engine.state(container))["Status"] == "exited" and s)
    assert "conmon" in state["Error"] or "monitor" in state["Error"]
    assert state["ExitCode"] != 0
    eventually(lambda: start_time(pid) is None)  # ended, whether or not somebody reaps it
    assert engine.wait(container) == state["ExitCode"]
    engine.start(container)
    assert engine.state(container)["Error"] == ""


def test_a_killed_monitor_of_an_exec(box: Box) -> None:
    engine = box.engine
    container = engine.idle()
    identity = engine.exec_create(container, ["sleep", "1000"])
    assert engine.http.post(f"/exec/{identity}/start", {"Detach": True}).status == 200
    eventually(lambda: engine.http.get(f"/exec/{identity}/json").json()["Running"])
    box.crash()
    answer = engine.http.get(f"/exec/{identity}/json")
    assert answer.status in (200, 404)
    assert engine.exec(container, ["true"])[0] == 0
    assert engine.http.post(f"/containers/{container}/stop").status == 204


def reboot(box: Box) -> None:
    """What a reboot leaves of this engine: the data root."""
    daemon = box.daemon
    daemon.kill()
    for _ in range(50):
        here = inventory.take(daemon)
        for path in here.cgroups:
            with suppress(OSError):  # only the freezer of cgroup v1 has it: what is frozen does not die
                (Path(path) / "freezer.state").write_text("THAWED")
        for line in sorted(here.processes, key=lambda line: "conmon" not in line):  # they see nobody else end
            try:
                os.kill(int(line.split()[0]), signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not here.processes:
            break
        time.sleep(0.05)
    for point in sorted(inventory.take(daemon).mounts, reverse=True):
        subprocess.run(["umount", "-l", point], check=True)
    for path in sorted(inventory.take(daemon).cgroups, reverse=True):
        eventually(lambda p=path: _rmdir(p))  # type: ignore[misc]
    shutil.rmtree(daemon.run)
    daemon.start(WHERRY_BOOT_ID="00000000-0000-4000-8000-000000000001")


def _rmdir(path: str) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def test_reboot(box: Box) -> None:
    engine = box.engine

    def host(policy: str, **more: Any) -> dict[str, Any]:
        return {"RestartPolicy": {"Name": policy}, **more}

    plain = engine.run(COUNTER, host=host("no", Binds=["wt-v:/v"]))
    always = engine.run(COUNTER, host=host("always"))
    unless = engine.run(COUNTER, host=host("unless-stopped"))
    failure = engine.idle(host=host("on-failure"))
    engine.http.post(f"/containers/{failure}/stop")
    stopped = engine.idle(host=host("unless-stopped"))
    engine.http.post(f"/containers/{stopped}/stop")
    created = engine.create(IDLE)
    removed = engine.idle(host={"AutoRemove": True, "Binds": ["/anonymous"]})
    volume = engine.inspect(removed)["Mounts"][0]["Name"]
    paused = engine.idle()
    engine.http.post(f"/containers/{paused}/pause")
    engine.exec(plain, "echo kept >/kept; echo kept >/v/kept")
    lines = gapless(engine, plain)
    reboot(box)
    state = engine.state(plain)
    assert (state["Status"], state["Pid"]) == ("exited", 0)
    assert state["ExitCode"] != 0
    assert state["Error"]
    assert gapless(engine, plain) >= lines
    assert engine.state(paused)["Status"] == "exited"
    assert engine.state(stopped)["Status"] == "exited"
    assert engine.state(failure)["Status"] == "exited"
    assert engine.state(created)["Status"] == "created"
    for container in (always, unless):
        eventually(lambda c=container: engine.state(c)["Status"] == "running")  # type: ignore[misc]
    eventually(lambda: engine.http.get(f"/containers/{removed}/json").status == 404)
    eventually(lambda: engine.http.get(f"/volumes/{volume}").status == 404)
    engine.start(plain)
    assert engine.exec(plain, "cat /kept /v/kept") == (0, "kept\nkept\n", "")


def test_random_moments(box: Box) -> None:
    """Work goes on while the daemon is killed again and again; what was answered stays true."""
    engine, daemon = box.engine, box.daemon
    chance = random.Random(4711)
    promised: dict[str, str] = {}
    broken: list[str] = []
    over = False

    def attempt(name: str) -> None:
        answer = engine.try_create(COUNTER, name=name, host={"Binds": ["/anonymous"]})
        if answer.status == 409:
            engine.http.delete(f"/containers/{name}", force=1, v=1)
            return
        if answer.status != 201:
            broken.append(f"create {name}: {answer.status} {answer.body!r}")
            return
        promised[name] = "created"
        for verb, state in (("start", "running"), ("stop", "exited"), ("start", "running"), ("kill", "exited")):
            promised.pop(name)
            answer = engine.http.post(f"/containers/{name}/{verb}")
            if answer.status != 204:
                broken.append(f"{verb} {name}: {answer.status} {answer.body!r}")
                return
            if verb != "kill":
                promised[name] = state
        engine.wait(name)
        answer = engine.http.delete(f"/containers/{name}", v=1)
        if answer.status != 204:
            broken.append(f"remove {name}: {answer.status} {answer.body!r}")

    def work(number: int) -> None:
        round = 0
        while not over:
            round += 1
            try:
                attempt(f"wt-{number}-{round % 2}")
            except (OSError, Disconnected):
                time.sleep(0.02)

    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work, number) for number in range(3)]
        try:
            for _ in range(15):
                time.sleep(chance.uniform(0.05, 0.6))
                daemon.kill()
                daemon.start()
        finally:
            over = True
        for worker in workers:
            worker.result()
    assert broken == []
    listed = {c["Names"][0][1:]: c["State"] for c in engine.http.get("/containers/json", all=1).json()}
    assert set(listed.values()) <= {"created", "running", "exited"}
    for name, state in promised.items():
        assert listed.get(name) == state
