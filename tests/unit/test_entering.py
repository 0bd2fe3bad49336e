import asyncio
import json
import subprocess
from pathlib import Path

from wherry.runtime.entering import for_create, for_exec, script_text, with_script
from wherry.runtime.oci import Runtime


def runtime(folder: Path) -> Runtime:
    crun = Runtime("crun", Path("/usr/bin/crun"), folder / "runtime", program=Path("/proc/1/fd/9"), familiar=True)
    return with_script(crun, ["/sys/fs/cgroup/pids"], folder / "enter")


def test_a_container_is_made_by_way_of_the_script_and_without_cgroups(tmp_path: Path) -> None:
    made = for_create(runtime(tmp_path), "/wherry/abc")
    assert made.executable == Path("/bin/sh")
    assert made.arguments == (str(tmp_path / "enter"), "/wherry/abc", "--cgroup-manager=disabled")
    assert made.state == tmp_path / "runtime"
    assert (tmp_path / "enter").read_text() == script_text(["/sys/fs/cgroup/pids"], Path("/proc/1/fd/9"))


def test_an_exec_gets_a_state_without_a_cgroup(tmp_path: Path) -> None:
    own = tmp_path / "runtime" / "abc"
    own.mkdir(parents=True)
    (own / "status").write_text(json.dumps({"pid": 7, "cgroup-path": "/wherry/abc"}))
    (own / "config.json").write_text("{}")
    (tmp_path / "exec").mkdir()
    made = for_exec(runtime(tmp_path), "abc", "/wherry/abc", tmp_path / "exec")
    status = json.loads((made.state / "abc" / "status").read_text())
    assert status == {"pid": 7, "cgroup-path": ""}
    assert (made.state / "abc" / "config.json").resolve() == own / "config.json"
    assert json.loads((own / "status").read_text())["cgroup-path"] == "/wherry/abc"
    assert (made.executable, made.arguments) == (Path("/bin/sh"), (str(tmp_path / "enter"), "/wherry/abc"))


def run(script: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(["sh", str(script), *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_the_script_enters_every_cgroup_there_is_or_runs_nothing(tmp_path: Path) -> None:
    for name in ("a b", "c"):
        (tmp_path / name / "w" / "id").mkdir(parents=True)
        (tmp_path / name / "w" / "id" / "tasks").touch()
    trees = [str(tmp_path / "a b"), str(tmp_path / "unknown to the container"), str(tmp_path / "c")]
    script = tmp_path / "enter"
    script.write_text(script_text(trees, Path("/bin/echo")))
    assert run(script, "/w/id", "one two", "three") == (0, "one two three\n")
    assert [(tmp_path / name / "w/id/tasks").read_text() for name in ("a b", "c")] == ["0\n", "0\n"]
    (tmp_path / "c/w/id/tasks").unlink()
    (tmp_path / "c/w/id/tasks").mkdir()  # cannot be written
    code, said = run(script, "/w/id", "one")
    assert code != 0
    assert said == ""


def test_the_runtime_is_told_the_cgroup_when_it_needs_it(tmp_path: Path) -> None:
    crun = with_script(Runtime("crun", Path("/bin/true"), tmp_path), ["/sys/fs/cgroup/pids"], tmp_path / "enter")
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc" / "status").write_text(json.dumps({"pid": 7, "cgroup-path": ""}))
    (tmp_path / "abc" / "config.json").write_text(json.dumps({"linux": {"cgroupsPath": "/wherry/abc"}}))
    asyncio.run(crun.pause("abc"))
    assert json.loads((tmp_path / "abc" / "status").read_text()) == {"pid": 7, "cgroup-path": "/wherry/abc"}
    asyncio.run(crun.delete("unknown"))
