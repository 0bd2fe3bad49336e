"""Capabilities, seccomp, devices, namespaces."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from tests.support.engine import IDLE, Engine

DEFAULT = 0xA80425FB
CHOWN, NET_ADMIN, SYS_ADMIN = 1 << 0, 1 << 12, 1 << 21


def capabilities(engine: Engine, **options: object) -> dict[str, int]:
    out = engine.output("grep ^Cap /proc/self/status", **options)
    return {line.split(":")[0]: int(line.split()[1], 16) for line in out.splitlines()}


def status(engine: Engine, field: str, **options: object) -> str:
    return engine.output(f"grep ^{field}: /proc/self/status", **options).split()[1]


def test_default_capabilities(engine: Engine) -> None:
    assert capabilities(engine) == {
        "CapInh": 0,
        "CapPrm": DEFAULT,
        "CapEff": DEFAULT,
        "CapBnd": DEFAULT,
        "CapAmb": 0,
    }


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ({"CapAdd": ["NET_ADMIN"]}, DEFAULT | NET_ADMIN),
        ({"CapAdd": ["CAP_NET_ADMIN"], "CapDrop": ["chown"]}, (DEFAULT | NET_ADMIN) & ~CHOWN),
        ({"CapDrop": ["ALL"]}, 0),
        ({"CapDrop": ["ALL"], "CapAdd": ["CHOWN"]}, CHOWN),
    ],
    ids=["add", "both", "drop-all", "drop-all-but"],
)
def test_capabilities(engine: Engine, host: dict[str, object], expected: int) -> None:
    assert capabilities(engine, host=host)["CapEff"] == expected


def test_all_capabilities(engine: Engine) -> None:
    everything = (1 << (int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1)) - 1
    ours = int(re.findall(r"CapBnd:\s+(\w+)", Path("/proc/self/status").read_text())[0], 16)
    assert capabilities(engine, host={"CapAdd": ["ALL"]})["CapEff"] == everything & ours
    assert capabilities(engine, host={"CapAdd": ["ALL"], "CapDrop": ["SYS_ADMIN"]})["CapEff"] == (
        everything & ours & ~SYS_ADMIN
    )
    assert capabilities(engine, host={"Privileged": True})["CapEff"] == everything & ours


def test_capabilities_of_other_users(engine: Engine) -> None:
    caps = capabilities(engine, User="u")
    assert (caps["CapEff"], caps["CapPrm"], caps["CapBnd"]) == (0, 0, DEFAULT)


def test_seccomp(engine: Engine) -> None:
    assert status(engine, "Seccomp") == "2"
    assert status(engine, "Seccomp", host={"SecurityOpt": ["seccomp=unconfined"]}) == "0"
    assert status(engine, "Seccomp", host={"Privileged": True}) == "0"
    code, _, err = engine.result(["unshare", "-U", "true"])
    assert code != 0
    assert b"not permitted" in err
    profile = '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}'
    code, _, err = engine.result(["mkdir", "/x"], host={"SecurityOpt": [f"seccomp={profile}"]})
    assert code == 1
    assert b"not permitted" in err
    answer = engine.http.post(
        "/containers/create", {"Image": "wt-base", "Cmd": ["true"], "HostConfig": {"SecurityOpt": ["seccomp={"]}}
    )
    if answer.status == 201:
        answer = engine.http.post(f"/containers/{answer.json()['Id']}/start")
    assert answer.status >= 400


def test_no_new_privileges(engine: Engine) -> None:
    assert status(engine, "NoNewPrivs") == "0"
    assert status(engine, "NoNewPrivs", host={"SecurityOpt": ["no-new-privileges"]}) == "1"
    assert status(engine, "NoNewPrivs", host={"SecurityOpt": ["no-new-privileges:true"]}) == "1"
    assert status(engine, "NoNewPrivs", host={"SecurityOpt": ["no-new-privileges=false"]}) == "0"


def test_default_devices(engine: Engine) -> None:
    names = set(engine.output("ls /dev").split())
    assert {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue"} <= names
    assert {"stdin", "stdout", "stderr", "fd"} <= names
    assert not names & {"vda", "mem", "kmsg", "loop0"}
    code, _, err = engine.result("mknod /d c 1 11 && : </d", host={"CapAdd": ["SYSLOG"]})
    assert code != 0
    assert b"not permitted" in err


def test_device(engine: Engine) -> None:
    """Only opened: reading the kernel's log wants more than the device."""
    device = {"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/wt", "CgroupPermissions": "r"}
    script = "stat -c '%F %t,%T' /dev/wt; (: </dev/wt) && echo read; (: >/dev/wt) 2>/dev/null || echo denied"
    out = engine.output(script, host={"Devices": [device], "CapAdd": ["SYSLOG"]})
    assert out == "character special file 1,b\nread\ndenied\n"


def test_device_rule(engine: Engine) -> None:
    script = "mknod /d c 1 11; (: </d) && echo read"
    assert engine.output(script, host={"DeviceCgroupRules": ["c 1:11 rm"], "CapAdd": ["SYSLOG"]}) == "read\n"


def test_missing_device(engine: Engine) -> None:
    device = {"PathOnHost": "/dev/wt-nope", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}
    answer = engine.try_create(["true"], host={"Devices": [device]})
    if answer.status == 201:
        answer = engine.http.post(f"/containers/{answer.json()['Id']}/start")
    assert answer.status >= 400
    assert (
        'error gathering device information while adding custom device "/dev/wt-nope": no such file or directory'
        in answer.message
    )


def test_privileged(engine: Engine) -> None:
    script = "ls /dev | grep -c kmsg; mount -t tmpfs x /tmp && echo mounted; grep ' /sys ' /proc/mounts | cut -d' ' -f4"
    out = engine.output(script, host={"Privileged": True}).split()
    assert out[:2] == ["1", "mounted"]
    assert "rw" in out[2].split(",")
    code, _, err = engine.result(["mount", "-t", "tmpfs", "x", "/tmp"])
    assert code != 0
    assert err


def namespace(engine: Engine, kind: str, **options: object) -> str:
    return engine.output(["readlink", f"/proc/self/ns/{kind}"], **options).strip()


def test_own_namespaces(engine: Engine) -> None:
    for kind in ("mnt", "net", "pid", "ipc", "uts"):
        assert namespace(engine, kind) != os.readlink(f"/proc/self/ns/{kind}")


@pytest.mark.parametrize(("kind", "option"), [("pid", "PidMode"), ("ipc", "IpcMode"), ("uts", "UTSMode")])
def test_namespaces_of_the_host(engine: Engine, kind: str, option: str) -> None:
    assert namespace(engine, kind, host={option: "host"}) == os.readlink(f"/proc/self/ns/{kind}")
    container = engine.create(["true"], host={option: "host"})
    assert engine.inspect(container)["HostConfig"][option] == "host"


def test_cgroup_namespace(engine: Engine) -> None:
    assert namespace(engine, "cgroup", host={"CgroupnsMode": "host"}) == os.readlink("/proc/self/ns/cgroup")
    assert namespace(engine, "cgroup", host={"CgroupnsMode": "private"}) != os.readlink("/proc/self/ns/cgroup")


@pytest.mark.parametrize(("kind", "option"), [("pid", "PidMode"), ("ipc", "IpcMode")])
def test_namespaces_of_a_container(engine: Engine, kind: str, option: str) -> None:
    owner = engine.idle(name="wt-owner", host={"IpcMode": "shareable"})
    assert namespace(engine, kind, host={option: "container:wt-owner"}) == (
        engine.exec(owner, ["readlink", f"/proc/self/ns/{kind}"])[1].strip()
    )


def test_pid_namespace_of_a_container_shows_its_processes(engine: Engine) -> None:
    engine.run(["sleep", "4321"], name="wt-owner")
    assert "sleep 4321" in engine.output(["ps"], host={"PidMode": "container:wt-owner"})


def test_ipc_modes(engine: Engine) -> None:
    engine.idle(name="wt-owner", host={"IpcMode": "private"})
    container = engine.create(["true"], host={"IpcMode": "container:wt-owner"})
    answer = engine.http.post(f"/containers/{container}/start")
    assert answer.status == 400 or answer.status == 409 or answer.status == 500
    assert "non-shareable IPC" in answer.message
    engine.remove("wt-owner")
    engine.run(["sh", "-c", "echo shared >/dev/shm/x; sleep 60"], name="wt-owner", host={"IpcMode": "shareable"})
    script = "for i in 1 2 3 4 5 6 7 8 9; do test -s /dev/shm/x && break; sleep 0.1; done; cat /dev/shm/x"
    assert engine.output(script, host={"IpcMode": "container:wt-owner"}) == "shared\n"
    assert engine.output(
        "test -e /dev/shm && grep -c ' /dev/shm ' /proc/mounts || echo none", host={"IpcMode": "none"}
    ) in ("none\n", "0\nnone\n")


def test_modes_that_need_a_running_container(engine: Engine) -> None:
    engine.create(IDLE, name="wt-owner", host={"IpcMode": "shareable"})
    for option in ("PidMode", "IpcMode"):
        container = engine.try_create(["true"], host={option: "container:wt-owner"})
        answer = container
        if container.status == 201:
            answer = engine.http.post(f"/containers/{container.json()['Id']}/start")
        assert answer.status >= 400
        assert "not running" in answer.message or "non running" in answer.message


def test_uts_host(engine: Engine) -> None:
    assert engine.output(["hostname"], host={"UTSMode": "host"}).strip() == socket.gethostname()
    answer = engine.try_create(["true"], Hostname="x", host={"UTSMode": "host"})
    assert (answer.status, answer.message) == (400, "conflicting options: hostname and the UTS mode")


def test_root_is_a_plain_overlay(engine: Engine) -> None:
    assert engine.output("stat -c '%a %u:%g' /; touch /x && echo writable") == "755 0:0\nwritable\n"


def test_nothing_of_the_host_shows(engine: Engine) -> None:
    assert engine.output("test -e /proc/1/root/usr/bin/python3 && echo host; ps | wc -l").split()[-1] in ("3", "4", "5")
    inherited = engine.output("ls -l /proc/1/fd | grep -v -e pipe -e /dev/null -e total -e /proc -e pts; true")
    assert inherited == ""
