"""What the process of a container is given: command, environment, user, folder, files of /etc, limits."""

from __future__ import annotations

import pytest

from tests.support.engine import IDLE, Engine
from tests.support.images import base_tar


def test_command_and_entrypoint(engine: Engine) -> None:
    assert engine.output(["b"], Entrypoint=["echo", "a"]) == "a b\n"
    assert engine.output(["echo", "c"], Entrypoint=[]) == "c\n"
    engine.import_image(base_tar(), "wt-entry", "latest", "ENV PATH=/bin", 'ENTRYPOINT ["echo", "e"]', 'CMD ["d"]')
    assert engine.output(["x"], Image="wt-entry") == "e x\n"
    code, out, _ = engine.result(None, Image="wt-entry")
    assert (code, out) == (0, b"e d\n")
    code, out, _ = engine.result(None, Image="wt-entry", Entrypoint=["echo", "f"])
    assert (code, out) == (0, b"f\n")
    container = engine.create(["x"], Image="wt-entry")
    inspect = engine.inspect(container)
    assert (inspect["Path"], inspect["Args"]) == ("echo", ["e", "x"])
    assert (inspect["Config"]["Entrypoint"], inspect["Config"]["Cmd"]) == (["echo", "e"], ["x"])
    engine.tidy()
    engine.http.delete("/images/wt-entry")


def test_environment(engine: Engine) -> None:
    out = engine.output(["env"], Env=["A=1", "EMPTY=", "A=2", "SPACES= a b ", "PATH=/x:/bin"], Hostname="box")
    assert sorted(out.splitlines()) == [
        "A=2",
        "EMPTY=",
        "HOME=/root",
        "HOSTNAME=box",
        "PATH=/x:/bin",
        "SPACES= a b ",
    ]
    assert "PATH=/bin\n" in engine.output(["env"])
    assert "TERM=" not in engine.output(["env"])
    container = engine.run(["env"], Tty=True)
    engine.wait(container)
    assert b"TERM=xterm\r\n" in engine.http.get(f"/containers/{container}/logs", stdout=1).body
    assert "PATH" not in engine.output(["/bin/env"], Env=["PATH"])


@pytest.mark.parametrize(
    ("user", "identity", "home"),
    [
        ("", "uid=0(root) gid=0(root) groups=0(root)", "/root"),
        ("u", "uid=1000(u) gid=1000(u) groups=77(extra),1000(u)", "/home/u"),
        ("1000", "uid=1000(u) gid=1000(u) groups=77(extra),1000(u)", "/home/u"),
        ("u:extra", "uid=1000(u) gid=77(extra) groups=77(extra)", "/home/u"),
        ("1000:2000", "uid=1000(u) gid=2000 groups=2000", "/home/u"),
        ("4242", "uid=4242 gid=0(root) groups=0(root)", "/"),
        ("4242:4343", "uid=4242 gid=4343 groups=4343", "/"),
        ("root:u", "uid=0(root) gid=1000(u) groups=1000(u)", "/root"),
    ],
)
def test_user(engine: Engine, user: str, identity: str, home: str) -> None:
    assert engine.output("id; echo $HOME", User=user).splitlines() == [identity, home]


def test_extra_groups(engine: Engine) -> None:
    groups = engine.output(["id", "-G"], User="u", host={"GroupAdd": ["nogroup", "5000"]}).split()
    assert sorted(groups, key=int) == ["77", "1000", "5000", "65534"]


def test_working_directory_is_made(engine: Engine) -> None:
    assert engine.output("pwd; stat -c %u:%g:%a /new/deep", WorkingDir="/new/deep").splitlines() == [
        "/new/deep",
        "0:0:755",
    ]


def test_hostname(engine: Engine) -> None:
    container = engine.create("hostname; cat /etc/hostname".split())
    assert engine.inspect(container)["Config"]["Hostname"] == container[:12]
    out = engine.output("hostname; hostname -f; cat /etc/hostname /etc/hosts", Hostname="box", Domainname="example.org")
    lines = out.splitlines()
    assert lines[0] == "box"
    assert lines[2] == "box.example.org" or lines[2] == "box"
    assert lines[-1].split()[1:] == ["box.example.org", "box"]


def test_labels(engine: Engine) -> None:
    container = engine.create(["true"], Labels={"a": "b", "empty": "", "ü": "ß"})
    assert engine.inspect(container)["Config"]["Labels"] == {"a": "b", "empty": "", "ü": "ß"}


def test_standard_streams(engine: Engine) -> None:
    assert engine.output("test -t 0 || echo none; wc -c; ls -l /proc/self/fd | wc -l").splitlines()[:2] == ["none", "0"]
    assert engine.output("ls /proc/self/fd", Env=["PATH=/bin"]).split() == ["0", "1", "2", "3"]


def test_first_process(engine: Engine) -> None:
    assert engine.output("echo $$; ps -o pid,comm | wc -l").split()[0] == "1"
    assert engine.output(["sh", "-c", "umask; ulimit -c; cat /proc/1/oom_score_adj"]).split()[0] == "0022"


def test_init(engine: Engine) -> None:
    container = engine.run(
        ["sh", "-c", "sh -c 'sleep 0.1 & exit' ; sleep 0.4; ps -o pid,ppid,stat,comm; exec sleep 60"],
        host={"Init": True},
    )
    code, first, _ = engine.exec(container, ["cat", "/proc/1/comm"])
    assert (code, first.strip()) in ((0, "docker-init"), (0, "tini"), (0, "catatonit"))
    assert engine.inspect(container)["HostConfig"]["Init"] is True
    engine.http.post(f"/containers/{container}/stop", t=5)
    assert engine.state(container)["ExitCode"] == 143
    assert b" Z " not in engine.logs(container)[0]


def test_read_only_root(engine: Engine) -> None:
    script = "touch /x; echo $?; touch /tmp/y; echo $?; touch /dev/shm/z; echo $?; touch /v/a; echo $?"
    out = engine.output(
        f"({script}) 2>/dev/null",
        host={"ReadonlyRootfs": True, "Tmpfs": {"/tmp": ""}, "Binds": ["wt-rw:/v"]},
    )
    assert out.split() == ["1", "0", "0", "0"]


def test_ulimits(engine: Engine) -> None:
    limits = [{"Name": "nofile", "Soft": 100, "Hard": 200}, {"Name": "core", "Soft": 0, "Hard": -1}]
    out = engine.output("ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc", host={"Ulimits": limits})
    assert out.split() == ["100", "200", "0", "unlimited"]


def test_sysctls(engine: Engine) -> None:
    values = {"net.ipv4.ip_unprivileged_port_start": "500", "kernel.shmmax": "123456"}
    out = engine.output(
        ["cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/kernel/shmmax"], host={"Sysctls": values}
    )
    assert out.split() == ["500", "123456"]


def test_sysctls_that_cannot_be(engine: Engine) -> None:
    for name, value, reason, code in (
        ("net.nope", "1", "open /proc/sys/net/nope: no such file or directory", 127),
        ("fs.mqueue.nope", "1", "open /proc/sys/fs/mqueue/nope: no such file or directory", 127),
        ("kernel.shmmax", "abc", "write /proc/sys/kernel/shmmax: invalid argument", 128),
    ):
        container = engine.create(["true"], host={"Sysctls": {name: value}})
        answer = engine.http.post(f"/containers/{container}/start")
        assert f"unable to start container process: error during container init: {reason}: unknown" in answer.message
        assert answer.status == (400 if code == 127 else 500)
        assert engine.state(container)["ExitCode"] == code


def test_oom_score(engine: Engine) -> None:
    assert engine.output(["cat", "/proc/self/oom_score_adj"], host={"OomScoreAdj": 321}) == "321\n"


def test_shm(engine: Engine) -> None:
    assert engine.output("df -k /dev/shm | tail -1 | awk '{print $2}'") == "65536\n"
    assert engine.output("df -k /dev/shm | tail -1 | awk '{print $2}'", host={"ShmSize": 8 << 20}) == "8192\n"
    assert engine.inspect(engine.create(["true"]))["HostConfig"]["ShmSize"] == 64 << 20


def test_stop_signal_of_the_image(engine: Engine) -> None:
    from tests.support.images import docker_archive

    engine.load(docker_archive([base_tar()], ["wt-signal:1"], Env=["PATH=/bin"], StopSignal="SIGUSR1"))
    container = engine.create(IDLE, Image="wt-signal:1")
    assert engine.inspect(container)["Config"]["StopSignal"] == "SIGUSR1"
    engine.tidy()
    engine.http.delete("/images/wt-signal:1")


def test_inspect_is_whole(engine: Engine) -> None:
    container = engine.run(["sleep", "60"], name="wt-whole")
    inspect = engine.inspect(container)
    keys = {
        "Id", "Created", "Path", "Args", "State", "Image", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath",
        "Name", "RestartCount", "Driver", "Platform", "MountLabel", "ProcessLabel", "AppArmorProfile", "ExecIDs",
        "HostConfig", "GraphDriver", "Mounts", "Config", "NetworkSettings",
    }  # fmt: skip
    assert keys <= inspect.keys()
    assert inspect["Image"].startswith("sha256:")
    assert inspect["Config"]["Image"] == "wt-base:latest"
    assert inspect["ExecIDs"] is None
    assert inspect["Created"].endswith("Z")
    sized = engine.http.get(f"/containers/{container}/json", size=1).json()
    assert sized["SizeRootFs"] >= 1_000_000
    assert sized["SizeRw"] >= 0


def test_a_working_directory_that_is_a_file_is_refused_at_creation(engine: Engine) -> None:
    answer = engine.try_create(["true"], name="wt-cwd", WorkingDir="/bin/busybox")
    assert (answer.status, answer.message) == (500, "Cannot mkdir: /bin/busybox is not a directory")
    assert engine.http.get("/containers/wt-cwd/json").status == 404


@pytest.mark.parametrize("settings", [{"Cmd": [""]}, {"Entrypoint": ["", "x"]}])
def test_an_empty_command(engine: Engine, settings: dict[str, list[str]]) -> None:
    answer = engine.failed_start(**settings)
    assert answer.status == 400
    assert answer.message.endswith('exec: "": executable file not found in $PATH: unknown')
