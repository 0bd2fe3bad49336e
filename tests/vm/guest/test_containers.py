"""What cgroup v2 does for containers: limits, OOM, pause; and that the rest works on such a machine too."""

import socket
import time
import urllib.request
from pathlib import Path

from tests.support.daemon import Wherryd
from tests.support.engine import IDLE, Engine, eventually

MEBIBYTE = 1 << 20
HUNGRY = ["dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"]  # one buffer, filled
LIMITED = {"Memory": 32 * MEBIBYTE, "MemorySwap": 32 * MEBIBYTE}


def cgroup(engine: Engine, container: str) -> Path:
    """The cgroup of the container's first process, as the host names it (cgroups(7))."""
    (line,) = Path(f"/proc/{engine.state(container)['Pid']}/cgroup").read_text().splitlines()
    assert line.startswith("0::/")
    return Path("/sys/fs/cgroup") / line[4:]


def events(folder: Path, file: str) -> dict[str, int]:
    """A flat keyed file."""
    return {key: int(value) for key, value in map(str.split, (folder / file).read_text().splitlines())}


def test_a_memory_limit_holds_and_its_end_is_called_oom(engine: Engine) -> None:
    container = engine.run(HUNGRY, host=LIMITED)
    assert engine.wait(container) == 137
    state = engine.state(container)
    assert (state["Status"], state["ExitCode"], state["OOMKilled"]) == ("exited", 137, True)


def test_a_kill_within_a_memory_limit_is_not_called_oom(engine: Engine) -> None:
    container = engine.run(IDLE, host=LIMITED)
    assert engine.http.post(f"/containers/{container}/kill", signal="KILL").status == 204
    assert engine.wait(container) == 137
    assert engine.state(container)["OOMKilled"] is False


def test_oom_of_a_child_is_told_too(engine: Engine) -> None:
    container = engine.run(["sh", "-c", f"{' '.join(HUNGRY)}; exit 3"], host=LIMITED)
    assert engine.wait(container) == 3
    assert engine.state(container)["OOMKilled"] is True
    answer = engine.http.get("/events", since=0, until=int(time.time()) + 1, filters={"container": [container]})
    assert "oom" in [event["Action"] for event in answer.json_lines()]


def test_limits_are_what_the_kernel_shows(engine: Engine) -> None:
    host = {
        "Memory": 64 * MEBIBYTE,
        "MemorySwap": 96 * MEBIBYTE,
        "MemoryReservation": 48 * MEBIBYTE,
        "NanoCpus": 500_000_000,
        "CpuShares": 512,
        "CpusetCpus": "0",
        "PidsLimit": 20,
    }
    folder = cgroup(engine, engine.run(IDLE, host=host))
    shown = {
        name: (folder / name).read_text().strip()
        for name in ("memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpuset.cpus", "pids.max")
    }
    assert shown == {
        "memory.max": str(64 * MEBIBYTE),
        "memory.swap.max": str(32 * MEBIBYTE),
        "memory.low": str(48 * MEBIBYTE),
        "cpu.max": "50000 100000",
        "cpuset.cpus": "0",
        "pids.max": "20",
    }
    assert 1 < int((folder / "cpu.weight").read_text()) < 100


def test_a_container_sees_its_own_cgroup_as_the_root(engine: Engine) -> None:
    seen = engine.output("cat /proc/self/cgroup; cat /sys/fs/cgroup/pids.max", host={"PidsLimit": 33})
    assert seen.split() == ["0::/", "33"]


def test_a_container_cannot_write_to_its_cgroup(engine: Engine) -> None:
    code, _, _ = engine.result(["sh", "-c", "echo max > /sys/fs/cgroup/pids.max"], host={"PidsLimit": 33})
    assert code != 0


def test_the_number_of_processes_is_limited(engine: Engine) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 30 & done; echo all"
    code, out, err = engine.result(["sh", "-c", script], host={"PidsLimit": 8})
    assert code != 0 and b"all" not in out and b"fork" in err


def test_pause_freezes_and_unpause_thaws(engine: Engine) -> None:
    container = engine.run(IDLE)
    folder = cgroup(engine, container)
    assert engine.http.post(f"/containers/{container}/pause").status == 204
    assert engine.state(container)["Status"] == "paused"
    assert (folder / "cgroup.freeze").read_text() == "1\n"
    assert events(folder, "cgroup.events")["frozen"] == 1
    assert engine.http.post(f"/containers/{container}/unpause").status == 204
    assert engine.state(container)["Status"] == "running"
    assert (folder / "cgroup.freeze").read_text() == "0\n"
    assert engine.exec(container, "echo alive") == (0, "alive\n", "")


def test_devices_are_denied_unless_granted(engine: Engine) -> None:
    """With v2 that is a BPF program on the cgroup, not a file."""
    code, _, err = engine.result(["sh", "-c", "mknod /kmsg c 1 11 && : < /kmsg"])
    assert code != 0 and b"not permitted" in err
    granted = {"Devices": [{"PathOnHost": "/dev/vda", "PathInContainer": "/dev/disk", "CgroupPermissions": "r"}]}
    assert engine.result(["sh", "-c", "head -c 1 /dev/disk > /dev/null"], host=granted)[0] == 0
    code, _, err = engine.result(["sh", "-c", ": >> /dev/disk"], host=granted)
    assert code != 0 and b"not permitted" in err


def test_a_published_port_answers(engine: Engine) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    bindings = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
    serve = ["sh", "-c", "mkdir -p /w && echo afloat > /w/index.html && exec httpd -f -p 80 -h /w"]
    engine.run(serve, host={"PortBindings": bindings}, ExposedPorts={"80/tcp": {}})

    def page() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    assert eventually(page, what="the page") == "afloat\n"


def test_a_killed_daemon_finds_its_containers_again(engine: Engine, daemon: Wherryd) -> None:
    running = engine.run(IDLE, host=LIMITED)
    fed = ["sh", "-c", f"mkfifo /go; read line < /go; exec {' '.join(HUNGRY)}"]
    hungry = engine.run(fed, host=LIMITED)
    before = engine.state(running)["Pid"]
    daemon.kill()
    daemon.start()
    assert engine.state(running)["Pid"] == before
    assert engine.exec(running, "echo still here") == (0, "still here\n", "")
    assert engine.exec(hungry, "echo go > /go")[0] == 0
    assert engine.wait(hungry) == 137
    assert engine.state(hungry)["OOMKilled"] is True  # noticed by a daemon that did not start it
    assert engine.http.post(f"/containers/{running}/stop").status == 204
    assert engine.state(running)["ExitCode"] == 0
    eventually(lambda: not cgroup_exists(running), what="the removal of the cgroup")  # after the answer


def cgroup_exists(container: str) -> bool:
    return any(container in path.name for path in Path("/sys/fs/cgroup").rglob("*") if path.is_dir())
