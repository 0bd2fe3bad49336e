"""States and what each verb does in each of them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import pytest

from tests.support.engine import DEAF, IDLE, Engine, eventually

NEVER = "0001-01-01T00:00:00Z"


def moment(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time with nanoseconds."""
    seconds, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(seconds).replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or 0}")


def test_a_life(engine: Engine) -> None:
    container = engine.create(["sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"], name="wt-life")
    assert re.fullmatch("[0-9a-f]{64}", container)
    state = engine.state(container)
    assert (state["Status"], state["Running"], state["Pid"], state["ExitCode"]) == ("created", False, 0, 0)
    assert (state["StartedAt"], state["FinishedAt"]) == (NEVER, NEVER)

    before = time.time()
    engine.start(container)
    state = engine.state(container)
    assert (state["Status"], state["Running"], state["Paused"], state["Restarting"]) == ("running", True, False, False)
    assert state["Pid"] > 0
    assert before - 0.05 <= moment(state["StartedAt"]) <= time.time() + 0.05
    assert state["FinishedAt"] == NEVER
    eventually(lambda: engine.logs(container)[0] == b"up\n")

    assert engine.http.post(f"/containers/{container}/stop").status == 204
    state = engine.state(container)
    assert (state["Status"], state["Running"], state["Pid"], state["ExitCode"]) == ("exited", False, 0, 7)
    assert moment(state["StartedAt"]) <= moment(state["FinishedAt"]) <= time.time() + 0.05
    assert (state["OOMKilled"], state["Dead"], state["Error"]) == (False, False, "")

    engine.start(container)
    assert engine.state(container)["Running"]
    assert engine.http.delete(f"/containers/{container}", force=1).status == 204
    assert engine.http.get(f"/containers/{container}/json").status == 404


def test_start_and_stop_when_there_is_nothing_to_do(engine: Engine) -> None:
    container = engine.create(IDLE)
    assert engine.http.post(f"/containers/{container}/stop").status == 304
    assert engine.http.post(f"/containers/{container}/start").status == 204
    answer = engine.http.post(f"/containers/{container}/start")
    assert (answer.status, answer.body) == (304, b"")
    eventually(lambda: engine.logs(container)[0])
    assert engine.http.post(f"/containers/{container}/stop", t=5).status == 204
    assert engine.http.post(f"/containers/{container}/stop").status == 304


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_codes(engine: Engine, code: int) -> None:
    container = engine.run(["sh", "-c", f"exit {code}"])
    assert engine.wait(container) == code
    assert engine.state(container)["ExitCode"] == code


def test_death_by_signal(engine: Engine) -> None:
    container = engine.run(["sleep", "60"])
    assert engine.http.post(f"/containers/{container}/kill").status == 204
    assert engine.wait(container) == 137
    state = engine.state(container)
    assert (state["Status"], state["ExitCode"], state["OOMKilled"]) == ("exited", 137, False)


def test_stop_kills_after_its_timeout(engine: Engine) -> None:
    container = engine.run(DEAF)
    eventually(lambda: engine.logs(container)[0])
    before = time.monotonic()
    assert engine.http.post(f"/containers/{container}/stop", t=1).status == 204
    assert time.monotonic() - before > 0.9
    assert engine.state(container)["ExitCode"] == 137


def test_stop_timeout_of_zero(engine: Engine) -> None:
    container = engine.run(DEAF)
    eventually(lambda: engine.logs(container)[0])
    assert engine.http.post(f"/containers/{container}/stop", t=0).status == 204
    assert engine.state(container)["ExitCode"] == 137


def test_stop_timeout_and_signal_of_the_container(engine: Engine) -> None:
    container = engine.run(DEAF, StopTimeout=1)
    eventually(lambda: engine.logs(container)[0])
    assert engine.http.post(f"/containers/{container}/stop").status == 204
    assert engine.state(container)["ExitCode"] == 137

    command = ["sh", "-c", "trap 'exit 5' USR1; trap 'exit 6' HUP; echo up; while :; do sleep 0.05; done"]
    container = engine.run(command, StopSignal="SIGUSR1")
    eventually(lambda: engine.logs(container)[0])
    assert engine.http.post(f"/containers/{container}/stop").status == 204
    assert engine.state(container)["ExitCode"] == 5

    engine.start(container)
    eventually(lambda: engine.logs(container)[0].count(b"up") == 2)
    assert engine.http.post(f"/containers/{container}/stop", signal="HUP").status == 204
    assert engine.state(container)["ExitCode"] == 6


@pytest.mark.parametrize("signal", ["USR1", "SIGUSR1", "usr1", "10"])
def test_kill_with_a_signal(engine: Engine, signal: str) -> None:
    container = engine.run(["sh", "-c", "trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done"])
    eventually(lambda: engine.logs(container)[0])
    assert engine.http.post(f"/containers/{container}/kill", signal=signal).status == 204
    assert engine.wait(container) == 9


def test_kill_that_does_not_end_it(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "trap 'echo got' HUP; echo up; while :; do sleep 0.05; done"])
    eventually(lambda: engine.logs(container)[0])
    assert engine.http.post(f"/containers/{container}/kill", signal="HUP").status == 204
    eventually(lambda: b"got" in engine.logs(container)[0])
    assert engine.state(container)["Running"]


def test_kill_refused(engine: Engine) -> None:
    container = engine.create(IDLE, name="wt-k")
    answer = engine.http.post("/containers/wt-k/kill")
    words = f"cannot kill container: wt-k: container {container} is not running"
    assert (answer.status, answer.message) == (409, words)


@pytest.mark.parametrize(
    "signal, words",
    [
        ("NOPE", "invalid signal: NOPE"),
        ("0", "invalid signal: 0"),
        ("99", "the linux daemon does not support signal 99"),
        ("32", "the linux daemon does not support signal 32"),
        ("-1", "the linux daemon does not support signal -1"),
    ],
)
def test_kill_with_a_signal_that_there_is_none_of(engine: Engine, signal: str, words: str) -> None:
    engine.run(IDLE, name="wt-k")
    for name in ("wt-k", "wt-missing"):
        answer = engine.http.post(f"/containers/{name}/kill", signal=signal)
        assert (answer.status, answer.message) == (400, f"cannot kill container: {name}: {words}")


def test_pause(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "while :; do date +%s%N; sleep 0.02; done"], name="wt-p")
    assert engine.http.post(f"/containers/{container}/pause").status == 204
    state = engine.state(container)
    assert (state["Status"], state["Running"], state["Paused"]) == ("paused", True, True)
    frozen = engine.logs(container)[0]
    time.sleep(0.2)
    assert engine.logs(container)[0] == frozen
    answer = engine.http.post(f"/containers/{container}/pause")
    assert (answer.status, answer.message) == (409, f"Container {container} is already paused")
    answer = engine.http.post("/containers/wt-p/exec", {"Cmd": ["true"]})
    assert (answer.status, answer.message) == (
        409,
        "Container wt-p is paused, unpause the container before exec",
    )
    answer = engine.http.post("/containers/wt-p/start")
    assert (answer.status, answer.message) == (409, "cannot start a paused container, try unpause instead")
    assert engine.http.post(f"/containers/{container}/unpause").status == 204
    assert engine.state(container)["Status"] == "running"
    eventually(lambda: len(engine.logs(container)[0]) > len(frozen))
    answer = engine.http.post(f"/containers/{container}/unpause")
    assert (answer.status, answer.message) == (500, f"Container {container} is not paused")


def test_pause_of_what_does_not_run(engine: Engine) -> None:
    container = engine.create(IDLE, name="wt-p")
    answer = engine.http.post("/containers/wt-p/pause")
    assert (answer.status, answer.message) == (409, f"container {container} is not running")
    answer = engine.http.post("/containers/wt-p/unpause")
    assert (answer.status, answer.message) == (500, f"Container {container} is not paused")


def test_a_paused_container_can_be_stopped_and_removed(engine: Engine) -> None:
    container = engine.idle()
    engine.http.post(f"/containers/{container}/pause")
    assert engine.http.post(f"/containers/{container}/stop", t=1).status == 204
    assert engine.state(container)["Status"] == "exited"
    engine.start(container)
    engine.http.post(f"/containers/{container}/pause")
    assert engine.http.delete(f"/containers/{container}", force=1).status == 204


def test_restart(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "echo up; trap 'exit 3' TERM; while :; do sleep 0.05; done"])
    eventually(lambda: engine.logs(container)[0])
    first = engine.state(container)
    assert engine.http.post(f"/containers/{container}/restart", t=5).status == 204
    eventually(lambda: engine.logs(container)[0] == b"up\nup\n")
    second = engine.state(container)
    assert second["Running"]
    assert second["Pid"] != first["Pid"]
    assert second["StartedAt"] > first["StartedAt"]
    assert engine.inspect(container)["RestartCount"] == 0


def test_restart_starts_what_is_stopped(engine: Engine) -> None:
    container = engine.create(IDLE)
    assert engine.http.post(f"/containers/{container}/restart").status == 204
    assert engine.state(container)["Running"]


def test_rename(engine: Engine) -> None:
    container = engine.idle(name="wt-old")
    engine.create(IDLE, name="wt-other")
    assert engine.http.post("/containers/wt-old/rename", name="wt-new").status == 204
    assert engine.inspect("wt-new")["Name"] == "/wt-new"
    assert engine.inspect("wt-new")["Id"] == container
    assert engine.http.get("/containers/wt-old/json").status == 404
    answer = engine.http.post("/containers/wt-new/rename", name="wt-other")
    assert answer.status == 409
    assert 'Conflict. The container name "/wt-other" is already in use by container "' in answer.message
    answer = engine.http.post("/containers/wt-new/rename")
    assert (answer.status, answer.message) == (400, "Neither old nor new names may be empty")
    answer = engine.http.post("/containers/wt-new/rename", name="/")
    words = "Error when allocating new name: Invalid container name (/), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    assert (answer.status, answer.message) == (400, words)
    answer = engine.http.post("/containers/wt-new/rename", name="-bad")
    words = "Error when allocating new name: Invalid container name (/-bad), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    assert (answer.status, answer.message) == (400, words)
    answer = engine.http.post("/containers/wt-new/rename", name="wt-new")
    assert (answer.status, answer.message) == (400, "Renaming a container with the same name as its current name")
    assert engine.create(IDLE, name="wt-old")


def test_files_survive_a_restart(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "cat /kept 2>/dev/null; echo kept >/kept"])
    engine.wait(container)
    engine.start(container)
    engine.wait(container)
    assert engine.logs(container)[0] == b"kept\n"


def test_concurrent_starts_of_one_container(engine: Engine) -> None:
    from concurrent.futures import ThreadPoolExecutor

    container = engine.create(IDLE)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: engine.http.post(f"/containers/{container}/start").status, range(4)))
    assert sorted(answers) == [204, 304, 304, 304]
    assert engine.state(container)["Running"]


def test_children_die_with_the_first_process(engine: Engine) -> None:
    container = engine.run(["sh", "-c", "sleep 1000 & sleep 1000 & exit 0"])
    assert engine.wait(container) == 0
    engine.start(container)
    assert engine.wait(container) == 0


def test_many_at_once(engine: Engine) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def one(number: int) -> tuple[int, bytes]:
        container = engine.run(["sh", "-c", f"echo {number}; exit {number}"], name=f"wt-many{number}")
        code = engine.wait(container)
        out = engine.logs(container)[0]
        assert engine.http.delete(f"/containers/{container}").status == 204
        return code, out

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(one, range(12))) == [(n, f"{n}\n".encode()) for n in range(12)]
