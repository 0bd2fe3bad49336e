"""Docker Hub by the names that people type: login, search and bare image names, against a stand-in on TLS."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import SOURCE
from tests.support.hub import BASIC, MANIFEST, MANIFEST_TYPE, HubDaemon, hub_daemon
from tests.support.registries import PASSWORD, USER

HUB_KEY = "https://index.docker.io/v1/"
Requests = Callable[[], list[dict[str, Any]]]


class Shell:
    """`wherry` with that daemon and a configuration of its own."""

    def __init__(self, daemon: HubDaemon, requests: Requests, folder: Path) -> None:
        self.daemon = daemon
        self.config = folder / "config.json"
        self._requests = requests
        self._seen = 0
        self._env = {**os.environ, "PYTHONPATH": str(SOURCE), "DOCKER_CONFIG": str(folder)}

    def __call__(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        self._seen = len(self._requests())
        command = [sys.executable, "-m", "wherry.cli.main", "-H", f"unix://{self.daemon.socket}", *words]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, env=self._env)

    def at_terminal(self, *words: str, answers: list[tuple[str, str]]) -> str:
        """Run it on a terminal and answer each prompt; all that the terminal shows."""
        ours, theirs = os.openpty()
        command = [sys.executable, "-m", "wherry.cli.main", "-H", f"unix://{self.daemon.socket}", *words]
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=self._env, close_fds=True)
        os.close(theirs)
        shown = ""
        waiting = list(answers)
        while True:
            try:
                shown += os.read(ours, 4096).decode()
            except OSError:  # the other end is closed (pty(7))
                break
            if waiting and shown.endswith(waiting[0][0]):
                os.write(ours, f"{waiting.pop(0)[1]}\n".encode())
        os.close(ours)
        process.wait()
        assert not waiting
        return shown

    def asked(self) -> list[tuple[str, str, str]]:
        """What Docker Hub was asked by the last command: method, address, authorization."""
        return [(seen["method"], seen["url"], seen["authorization"]) for seen in self._requests()[self._seen :]]


@pytest.fixture(scope="module")
def hub() -> Iterator[tuple[HubDaemon, Requests]]:
    with hub_daemon() as found:
        yield found


@pytest.fixture
def wherry(hub: tuple[HubDaemon, Requests], tmp_path: Path) -> Shell:
    return Shell(*hub, tmp_path / "config")


def test_login_and_logout(wherry: Shell) -> None:
    done = wherry("login", "-u", USER, "--password-stdin", stdin=f"{PASSWORD}\n")
    assert (done.returncode, done.stdout) == (0, "Login Succeeded\n"), done.stderr
    kept = json.loads(wherry.config.read_text())["auths"]
    assert list(kept) == [HUB_KEY] and kept[HUB_KEY]["identitytoken"] == "identity"
    tokens = [seen for seen in wherry.asked() if seen[1].startswith("https://auth.docker.io/token?")]
    assert [authorization for _, _, authorization in tokens] == [BASIC]
    assert not any(seen[2] == BASIC for seen in wherry.asked() if "auth.docker.io" not in seen[1])
    again = wherry("login")
    assert again.stdout.startswith(f"Authenticating with existing credentials... [Username: {USER}]\n")
    assert again.stdout.endswith("Login Succeeded\n")
    done = wherry("logout")
    assert done.stdout == f"Removing login credentials for {HUB_KEY}\n"
    assert json.loads(wherry.config.read_text()) == {"auths": {}}


def test_login_with_a_wrong_password(wherry: Shell) -> None:
    done = wherry("login", "-u", USER, "--password-stdin", stdin="wrong\n")
    words = 'Get "https://registry-1.docker.io/v2/": unauthorized: incorrect username or password'
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error response from daemon: {words}\n"
    assert not wherry.config.exists()


def test_search(wherry: Shell) -> None:
    done = wherry("search", "mysql")
    assert done.stdout.splitlines() == [
        "NAME            DESCRIPTION   STARS     OFFICIAL",
        "mysql           A database    15000     [OK]",
        "bitnami/mysql   B             99        ",
    ], done.stderr
    assert wherry.asked() == [("GET", "https://index.docker.io/v1/search?q=mysql&n=25", "")]
    assert wherry("search", "--limit", "1", "--format", "{{.Name}}", "docker.io/user/mysql").stdout == "mysql\n"
    assert wherry.asked() == [("GET", "https://index.docker.io/v1/search?q=user%2Fmysql&n=1", "")]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("mysql:8", "library/mysql/manifests/8"),
        ("redis", "library/redis/manifests/latest"),
        ("user/x:t", "user/x/manifests/t"),
    ],
)
def test_bare_names(wherry: Shell, name: str, path: str) -> None:
    done = wherry("manifest", "inspect", name)
    assert json.loads(done.stdout) == json.loads(MANIFEST), done.stderr
    urls = [url for _, url, _ in wherry.asked()]
    assert urls[-1] == f"https://registry-1.docker.io/v2/{path}"
    repository = path.partition("/manifests/")[0].replace("/", "%2F")
    scope = f"repository%3A{repository}%3Apull"
    assert f"https://auth.docker.io/token?scope={scope}&service=registry.docker.io" in urls


def test_an_identity_token_is_used(wherry: Shell) -> None:
    wherry("login", "-u", USER, "--password-stdin", stdin=PASSWORD)
    assert wherry("manifest", "inspect", "private/image").returncode == 0
    posts = [url for method, url, _ in wherry.asked() if method == "POST"]
    assert posts == ["https://auth.docker.io/token"]


def test_over_the_api(hub: tuple[HubDaemon, Requests]) -> None:
    from tests.support.http import Client

    answer = Client(hub[0].socket).get("/distribution/mysql/json").json()
    digest = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
    assert answer["Descriptor"] == {"mediaType": MANIFEST_TYPE, "digest": digest, "size": len(MANIFEST)}


def test_login_at_a_terminal(wherry: Shell) -> None:
    """Name and password are asked for; the password is not shown."""
    shown = wherry.at_terminal("login", answers=[("Username: ", USER), ("Password: ", PASSWORD)])
    assert "Login Succeeded" in shown
    assert f"Username: {USER}" in shown and PASSWORD not in shown
    assert "A Personal Access Token (PAT) can be used instead." in shown
    assert HUB_KEY in wherry.config.read_text()


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([("Username: ", "")], "Error: Non-null Username Required"),
        ([("Username: ", USER), ("Password: ", "")], "Error: Password Required"),
    ],
)
def test_login_without_an_answer(wherry: Shell, answers: list[tuple[str, str]], words: str) -> None:
    assert words in wherry.at_terminal("login", answers=answers)
    assert not wherry.config.exists()


def test_login_without_a_terminal(wherry: Shell) -> None:
    done = wherry("login", "-u", USER)
    assert (done.returncode, done.stderr) == (1, "Error: Cannot perform an interactive login from a non TTY device\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--password-stdin"], "the --password-stdin option requires --username to be set"),
        (["-u", "x", "-p", "y", "--password-stdin"], "conflicting options: cannot specify both --password and"),
        (["-u", "", "-p", "y"], "username is empty"),
    ],
)
def test_login_with_options_that_contradict(wherry: Shell, words: list[str], message: str) -> None:
    done = wherry("login", *words)
    assert done.returncode == 1 and message in done.stderr
