"""Docker's own command, of whatever versions this host has: DOCKER_CLIENTS names them, or PATH does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.engine import BASE, Engine

CLIENTS = [path for path in os.environ.get("DOCKER_CLIENTS", shutil.which("docker") or "").split(":") if path]
Docker = Callable[..., str]


@pytest.fixture(params=CLIENTS or [""])
def docker(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> Docker:
    if not request.param:
        pytest.skip("probe docker-command: there is no docker on PATH, and DOCKER_CLIENTS names none")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DOCKER_HOST": f"unix://{engine.http.path}"}

    def run(*words: str, stdin: str = "", code: int = 0) -> str:
        command = [request.param, *words]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode == code, done.stderr
        return done.stdout + (done.stderr if code else "")

    return run


def test_a_container_s_life(docker: Docker, tmp_path: Path) -> None:
    assert docker("run", "--rm", "-i", BASE, "tr", "a-z", "A-Z", stdin="hello\n") == "HELLO\n"
    assert "boom" in docker("run", "--rm", BASE, "sh", "-c", "echo boom >&2; exit 7", code=7)
    assert "executable file not found" in docker("run", "--rm", BASE, "nope", code=127)
    loop = "trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done"
    docker("run", "-d", "--name", "wt-cli", "-e", "A=b", "-m", "64m", "--label", "wt=1", BASE, "sh", "-c", loop)
    assert docker("exec", "-i", "wt-cli", "sh", "-c", "read x; echo $x$A", stdin="line\n") == "lineb\n"
    assert docker("ps", "--filter", "label=wt=1", "--format", "{{.Names}} {{.State}}") == "wt-cli running\n"
    assert docker("stats", "--no-stream", "--format", "{{.Name}}", "wt-cli") == "wt-cli\n"
    assert "trap 'exit 4'" in docker("top", "wt-cli")
    (tmp_path / "file").write_text("kept\n")
    docker("cp", str(tmp_path / "file"), "wt-cli:/tmp/in")
    docker("cp", "wt-cli:/tmp/in", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "kept\n"
    assert "A /tmp/in" in docker("diff", "wt-cli")
    docker("update", "--memory", "128m", "--memory-swap", "256m", "wt-cli")
    assert json.loads(docker("inspect", "wt-cli"))[0]["HostConfig"]["Memory"] == 128 << 20
    docker("stop", "wt-cli")
    assert docker("wait", "wt-cli") == "4\n"
    assert docker("logs", "wt-cli") == "up\n"
    assert docker("commit", "wt-cli", "wt-made:1").startswith("sha256:")
    assert docker("run", "--rm", "wt-made:1", "cat", "/tmp/in") == "kept\n"
    docker("rm", "wt-cli")
    docker("rmi", "wt-made:1")


def test_volumes_networks_and_images(docker: Docker, tmp_path: Path) -> None:
    docker("volume", "create", "wt-cli")
    docker("run", "--rm", "-v", "wt-cli:/v", BASE, "touch", "/v/f")
    assert docker("run", "--rm", "--mount", "source=wt-cli,target=/w,readonly", BASE, "ls", "/w") == "f\n"
    docker("volume", "rm", "wt-cli")
    docker("network", "create", "wt-cli")
    docker("run", "-d", "--name", "wt-far", "--network", "wt-cli", "-p", "127.0.0.1::80", BASE, "sleep", "60")
    assert docker("port", "wt-far", "80").startswith("127.0.0.1:")
    docker("network", "disconnect", "wt-cli", "wt-far")
    docker("rm", "-f", "wt-far")
    docker("network", "rm", "wt-cli")
    docker("save", "-o", str(tmp_path / "image.tar"), BASE)
    assert BASE in docker("load", "-i", str(tmp_path / "image.tar"))
    assert docker("history", "-q", BASE)
