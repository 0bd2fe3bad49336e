"""Exec: a second process in a running container."""

from __future__ import annotations

import pytest

from tests.support.engine import IDLE, Engine, eventually


@pytest.fixture
def container(engine: Engine) -> str:
    return engine.idle(name="wt-x", Env=["A=1"], WorkingDir="/tmp")


def test_output_and_code(engine: Engine, container: str) -> None:
    assert engine.exec(container, "echo out; echo err >&2; exit 4") == (4, "out\n", "err\n")


@pytest.mark.parametrize("upgrade", [True, False])
def test_stdin_half_close(engine: Engine, container: str, upgrade: bool) -> None:
    identity = engine.exec_create(container, ["sh", "-c", "wc -c; sleep 0.2; echo late"], AttachStdin=True)
    path = f"/exec/{identity}/start"
    with engine.http.hijack(path, {"Detach": False, "Tty": False}, upgrade=upgrade) as connection:
        assert connection.status == (101 if upgrade else 200)
        connection.send(b"abc")
        connection.half_close()
        assert connection.output() == (b"3\nlate\n", b"")


def test_the_head_comes_before_the_process_starts(engine: Engine, container: str) -> None:
    """docker-py drops what it reads together with the headers."""
    for _ in range(10):
        identity = engine.exec_create(container, ["echo", "out"])
        with engine.http.hijack(f"/exec/{identity}/start", {"Detach": False, "Tty": False}) as connection:
            assert connection.came_with_head == b""
            assert connection.output() == (b"out\n", b"")


def test_much_output(engine: Engine, container: str) -> None:
    for _ in range(3):
        code, out, err = engine.exec(container, ["head", "-c", "1000000", "/dev/zero"])
        assert (code, len(out), err) == (0, 1_000_000, "")


def test_environment_user_and_folder(engine: Engine, container: str) -> None:
    script = "echo $A $B; id -un; id -G; pwd; echo $HOME"
    assert engine.exec(container, script, Env=["B=2"], User="u", WorkingDir="/home") == (
        0,
        "1 2\nu\n1000 77\n/home\n/home/u\n",
        "",
    )
    assert engine.exec(container, "id -un; pwd; echo $HOME") == (0, "root\n/tmp\n/root\n", "")
    assert engine.exec(container, "id -u; id -g", User="4242:77") == (0, "4242\n77\n", "")


def test_tty(engine: Engine, container: str) -> None:
    identity = engine.exec_create(
        container, ["sh", "-c", "test -t 0 && echo tty; echo $TERM; read x; echo got $x"], AttachStdin=True, Tty=True
    )
    with engine.http.hijack(f"/exec/{identity}/start", {"Detach": False, "Tty": True}) as connection:
        assert connection.headers["content-type"] == "application/vnd.docker.raw-stream"
        connection.read_until(b"tty\r\nxterm\r\n")
        connection.send(b"hello\n")
        connection.read_until(b"got hello\r\n")
        connection.read()


def test_tty_sizes(engine: Engine, container: str) -> None:
    # crun may set the first size while the process already runs
    script = "trap 'stty size' WINCH; echo up; stty size; while :; do sleep 0.05; done"
    identity = engine.exec_create(container, ["sh", "-c", script], Tty=True)
    start = {"Detach": False, "Tty": True, "ConsoleSize": [31, 101]}
    with engine.http.hijack(f"/exec/{identity}/start", start) as connection:
        connection.read_until(b"31 101\r\n")
        assert engine.http.post(f"/exec/{identity}/resize", h=33, w=99).status == 200
        connection.read_until(b"33 99\r\n")


def test_inspect(engine: Engine, container: str) -> None:
    identity = engine.exec_create(container, ["sh", "-c", "sleep 0.3; exit 6"], Tty=False, User="u")
    inspect = engine.http.get(f"/exec/{identity}/json").json()
    assert inspect["ID"] == identity
    assert inspect["ContainerID"] == container
    assert inspect["ProcessConfig"] == {
        "tty": False,
        "entrypoint": "sh",
        "arguments": ["-c", "sleep 0.3; exit 6"],
        "privileged": False,
        "user": "u",
    }
    assert (inspect["Running"], inspect["ExitCode"], inspect["Pid"]) == (False, None, 0)
    assert identity in engine.inspect(container)["ExecIDs"]
    assert engine.http.post(f"/exec/{identity}/start", {"Detach": True}).status == 200
    inspect = engine.http.get(f"/exec/{identity}/json").json()
    assert (inspect["Running"], inspect["ExitCode"]) == (True, None)
    assert inspect["Pid"] > 0
    inspect = eventually(lambda: engine._exec_ended(identity))
    assert inspect["ExitCode"] == 6


def test_detached(engine: Engine, container: str) -> None:
    identity = engine.exec_create(container, ["sh", "-c", "echo done >/tmp/mark"])
    answer = engine.http.post(f"/exec/{identity}/start", {"Detach": True})
    assert (answer.status, answer.body) == (200, b"")
    eventually(lambda: engine.exec(container, ["cat", "/tmp/mark"])[1] == "done\n")


def test_started_twice(engine: Engine, container: str) -> None:
    identity = engine.exec_create(container, ["true"])
    engine.http.post(f"/exec/{identity}/start", {"Detach": True})
    eventually(lambda: engine._exec_ended(identity))
    answer = engine.http.post(f"/exec/{identity}/start", {"Detach": True})
    assert (answer.status, answer.message) == (409, f"Error: Exec command {identity} has already run")


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("nosuch", 126, 'exec: "nosuch": executable file not found in $PATH'),
        ("/nosuch", 126, 'exec: "/nosuch": stat /nosuch: no such file or directory'),
        ("/etc/passwd", 126, 'exec: "/etc/passwd": permission denied'),
        ("/etc", 126, 'exec: "/etc": is a directory: unknown: permission denied'),
        (
            "/etc/passwd/x",
            126,
            'exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory: unknown: Are you trying to',
        ),
    ],
)
def test_commands_that_cannot_start(engine: Engine, container: str, command: str, code: int, words: str) -> None:
    """Started attached, the error comes as output; detached, as an answer."""
    got, out, err = engine.exec(container, [command])
    assert words in out
    assert (got, err) == (code, "")
    identity = engine.exec_create(container, [command])
    answer = engine.http.post(f"/exec/{identity}/start", {"Detach": True})
    assert answer.status == 400
    assert words in answer.message


def test_relative_working_directory(engine: Engine, container: str) -> None:
    code, out, _ = engine.exec(container, ["true"], WorkingDir="nowhere")
    assert code == 126
    assert "exec failed: Cwd must be an absolute path: unknown" in out


def test_unknown_user(engine: Engine, container: str) -> None:
    code, out, _ = engine.exec(container, ["true"], User="ghost")
    assert (code, out) == (126, "unable to find user ghost: no matching entries in passwd file\r\n")


def test_missing_working_directory(engine: Engine, container: str) -> None:
    code, out, _ = engine.exec(container, ["true"], WorkingDir="/nowhere")
    assert code == 126
    assert "no such file or directory" in out.lower()


def test_refused(engine: Engine) -> None:
    container = engine.create(IDLE, name="wt-x")
    answer = engine.http.post("/containers/wt-x/exec", {"Cmd": ["true"]})
    assert (answer.status, answer.message) == (409, f"container {container} is not running")
    engine.start(container)
    answer = engine.http.post("/containers/wt-x/exec", {"Cmd": []})
    assert (answer.status, answer.message) == (400, "No exec command specified")
    answer = engine.http.post("/containers/wt-x/exec", {"Cmd": ["true"], "DetachKeys": "nonsense"})
    assert (answer.status, answer.message) == (500, "Invalid escape keys (nonsense) provided")


def test_container_that_ends_takes_its_execs(engine: Engine, container: str) -> None:
    identity = engine.exec_create(container, ["sleep", "1000"])
    with engine.http.hijack(f"/exec/{identity}/start", {"Detach": False}) as connection:
        eventually(lambda: engine.http.get(f"/exec/{identity}/json").json()["Running"])
        assert engine.http.post(f"/containers/{container}/kill").status == 204
        connection.read()
    engine.wait(container)
    answer = engine.http.get(f"/exec/{identity}/json")
    assert answer.status == 404 or answer.json()["ExitCode"] == 137


def test_leaving_does_not_stop_it(engine: Engine, container: str) -> None:
    identity = engine.exec_create(container, ["sh", "-c", "echo up; while :; do sleep 0.05; done"])
    with engine.http.hijack(f"/exec/{identity}/start", {"Detach": False}) as connection:
        assert next(connection.frames()) == (1, b"up\n")
    assert engine.http.get(f"/exec/{identity}/json").json()["Running"]


def test_privileged(engine: Engine, container: str) -> None:
    def effective(**options: object) -> int:
        out = engine.exec(container, "grep CapEff /proc/self/status", **options)[1]
        return int(out.split()[1], 16)

    assert effective() == 0xA80425FB
    assert effective(Privileged=True) & (1 << 21)  # CAP_SYS_ADMIN


def test_many_at_once(engine: Engine, container: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(5) as pool:
        results = list(pool.map(lambda n: engine.exec(container, f"echo {n}; exit {n}"), range(10)))
    assert results == [(n, f"{n}\n", "") for n in range(10)]


def test_joins_the_container(engine: Engine, container: str) -> None:
    for kind in ("mnt", "net", "pid", "ipc", "uts"):
        _, inner, _ = engine.exec(container, ["readlink", f"/proc/1/ns/{kind}"])
        assert engine.exec(container, ["readlink", f"/proc/self/ns/{kind}"])[1] == inner
    # Beside v1 controllers the unified hierarchy ("0::") limits nothing; on v2 it is all there is.
    controlled = "grep -v ^0:: /proc/{}/cgroup || cat /proc/{}/cgroup"
    _, of_first, _ = engine.exec(container, controlled.format(1, 1))
    _, of_exec, _ = engine.exec(container, controlled.format("self", "self"))
    assert of_exec == of_first
