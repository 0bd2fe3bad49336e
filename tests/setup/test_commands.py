"""The README's first command and its undoing, on paths of their own, with the environment of this checkout."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import starter
from tools.environment import VENV
from tools.settings import ROOT

ADDRESS = re.compile(r"http://(127\.0\.0\.1:\d+)/")


@pytest.fixture(scope="module")
def machine() -> Iterator[dict[str, str]]:
    """Paths that no other engine has; taken down whatever happens."""
    with tempfile.TemporaryDirectory(prefix="wu-") as folder:
        names = {"DATA_ROOT": "data", "EXEC_ROOT": "run", "LOG": "log", "BIN": "bin"}
        environment = {f"WHERRY_{name}": f"{folder}/{path}" for name, path in names.items()}
        environment |= {"WHERRY_BIP": "172.31.199.1/24"}
        yield environment
        command("down", environment)


def command(name: str, environment: dict[str, str], *arguments: str) -> str:
    words = [Path(sys.executable).resolve(), ROOT / name, *arguments]
    result = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def page(output: str) -> str:
    found = ADDRESS.search(output)
    assert found, output
    with urllib.request.urlopen(found[0]) as answer:
        text: str = answer.read().decode()
    return text


def wherry(environment: dict[str, str], *arguments: str) -> str:
    program = Path(environment["WHERRY_BIN"]) / "wherry"
    socket = f"unix://{environment['WHERRY_EXEC_ROOT']}/wherry.sock"
    return subprocess.run([program, "-H", socket, *arguments], capture_output=True, text=True, check=True).stdout


def test_up_serves_a_page_and_again_changes_nothing(machine: dict[str, str]) -> None:
    first = command("up", machine)
    assert starter.PAGE_SAYS in page(first) and "Try next" in first
    before = wherry(machine, "ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}")
    second = command("up", machine)
    assert starter.PAGE_SAYS in page(second) and "runs already" in second
    assert wherry(machine, "ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}") == before


def test_up_after_the_daemon_was_killed_finds_the_same_container(machine: dict[str, str]) -> None:
    output = command("up", machine)
    before = wherry(machine, "ps", "--no-trunc", "--quiet")
    pidfile = Path(machine["WHERRY_EXEC_ROOT"]) / "wherry.pid"
    killed = os.pidfd_open(int(pidfile.read_text()))
    signal.pidfd_send_signal(killed, signal.SIGKILL)
    os.close(killed)
    assert starter.PAGE_SAYS in page(output)
    command("up", machine)
    assert wherry(machine, "ps", "--no-trunc", "--quiet") == before
    assert starter.PAGE_SAYS in page(output)


def test_down_leaves_nothing_but_the_data(machine: dict[str, str]) -> None:
    command("up", machine)
    options = json.loads(wherry(machine, "network", "inspect", "bridge"))[0]["Options"]
    bridge = options["com.docker.network.bridge.name"]
    assert bridge in links()
    for _ in range(2):
        command("down", machine)
        assert bridge not in links()
        assert not Path(machine["WHERRY_EXEC_ROOT"]).exists()
        assert not list(Path(machine["WHERRY_BIN"]).iterdir())
        assert machine["WHERRY_EXEC_ROOT"] not in Path("/proc/self/mountinfo").read_text()
    assert (Path(machine["WHERRY_DATA_ROOT"]) / "version").exists()


def links() -> set[str]:
    return set(os.listdir("/sys/class/net"))


def test_the_launchers_are_there() -> None:
    assert (VENV / "bin" / "wherry").exists() and (VENV / "bin" / "wherryd").exists()
