import json
from pathlib import Path

from wherry.runtime.entering import entering, script_text
from wherry.runtime.oci import Runtime


def test_the_runtime_gets_a_state_without_a_cgroup(tmp_path: Path) -> None:
    own = tmp_path / "runtime" / "abc"
    own.mkdir(parents=True)
    (own / "status").write_text(json.dumps({"pid": 7, "cgroup-path": "/wherry/abc"}))
    (own / "config.json").write_text("{}")
    (tmp_path / "exec").mkdir()
    runtime = Runtime("crun", Path("/usr/bin/crun"), tmp_path / "runtime", program=Path("/proc/1/fd/9"), familiar=True)
    made = entering(runtime, "abc", [Path("/sys/fs/cgroup/pids/wherry/abc/tasks")], tmp_path / "exec")
    status = json.loads((made.state / "abc" / "status").read_text())
    assert status == {"pid": 7, "cgroup-path": ""}
    assert (made.state / "abc" / "config.json").resolve() == own / "config.json"
    assert json.loads((own / "status").read_text())["cgroup-path"] == "/wherry/abc"
    assert made.executable == Path("/bin/sh")
    assert Path(*made.arguments).read_text() == script_text(
        [Path("/sys/fs/cgroup/pids/wherry/abc/tasks")], Path("/proc/1/fd/9")
    )


def test_the_script_enters_everywhere_or_runs_nothing() -> None:
    assert script_text([Path("/a/tasks"), Path("/b c/tasks")], Path("/crun")) == (
        "set -e\necho 0 >/a/tasks\necho 0 >'/b c/tasks'\nexec /crun \"$@\"\n"
    )
