"""Keys and agents of the client: processes of a build sign with them, repositories are reached with them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.build.client import Client, dockerfile
from tests.support.engine import eventually
from tests.support.registries import free_port

SSHD = os.environ.get("TEST_SSHD") or shutil.which("sshd", path="/usr/sbin")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return new_key(tmp_path / "key")


def new_key(path: Path, passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "of a test", "-f", path], check=True)
    return path


def agents() -> set[str]:
    """PIDs of the agents that hold keys for builds."""
    found = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if b"ssh-agent\0" in words and b"wherry-ssh-" in words:
                found.add(process.name)
    return found


def test_keys_become_an_agent_for_the_time_of_the_build(client: Client, folder: Path, key: Path) -> None:
    key.chmod(0o644)  # as buildx: whoever names it has decided
    dockerfile(folder, "FROM wt-base\nRUN --mount=type=ssh,id=k,required=true test -S $SSH_AUTH_SOCK\n")
    client.build(folder, "--ssh", f"k={key}")
    eventually(lambda: not agents())


@pytest.mark.parametrize("what", ["no key", "passphrase", "missing", "socket and key"])
def test_keys_that_are_none(client: Client, folder: Path, key: Path, tmp_path: Path, what: str) -> None:
    dockerfile(folder, "FROM wt-base\n")
    path = tmp_path / "other"
    if what == "no key":
        path.write_text("nonsense")
    elif what == "passphrase":
        new_key(path, "secret words")
    given = f"k={client.daemon.socket},{key}" if what == "socket and key" else f"k={path}"
    words = {"missing": "failed to stat", "socket and key": "only a single socket"}.get(what, "failed to parse")
    assert words in client.build(folder, "--ssh", given, code=1).stderr
    eventually(lambda: not agents())


class Server:
    """A real sshd with one repository; `url` is how it is reached."""

    def __init__(self, port: int, repository: Path, host_key: Path) -> None:
        self.url = f"ssh://root@127.0.0.1:{port}{repository}"
        self.known = f"[127.0.0.1]:{port} {host_key.with_suffix('.pub').read_text()}"


@contextmanager
def serving(folder: Path, key: Path) -> Iterator[Server]:
    """In a mount namespace with the user that sshd steps down to; the host need not have it."""
    folder.mkdir()
    port, host_key, repository = free_port(), new_key(folder / "host"), folder / "repository.git"
    environment = {**os.environ, "HOME": str(folder)}
    work = folder / "work"
    for words in (
        ["git", "init", "-q", "-b", "main", str(work)],
        ["git", "-C", str(work), "config", "user.email", "test@localhost"],
        ["git", "-C", str(work), "config", "user.name", "test"],
    ):
        subprocess.run(words, check=True, env=environment)
    (work / "file").write_text("from the repository\n")
    (work / "Dockerfile").write_text("FROM wt-base\nCOPY file /copied\n")
    for words in (
        ["git", "-C", str(work), "add", "."],
        ["git", "-C", str(work), "commit", "-q", "-m", "all"],
        ["git", "clone", "-q", "--bare", str(work), str(repository)],
    ):
        subprocess.run(words, check=True, env=environment)
    shutil.copy(key.with_suffix(".pub"), folder / "authorized")
    (folder / "passwd").write_text("root:x:0:0::/root:/bin/sh\nsshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {host_key}\nAuthorizedKeysFile {folder}/authorized\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\n"
    )
    script = (
        f"mount --bind {shlex.quote(str(folder / 'passwd'))} /etc/passwd && mount -t tmpfs none /run && mkdir /run/sshd"
        f" && exec {shlex.quote(str(SSHD))} -D -e -f {shlex.quote(str(folder / 'config'))}"
    )
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["unshare", "--mount", "/bin/sh", "-c", script], stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        eventually(lambda: "Server listening" in (folder / "log").read_text())
        yield Server(port, repository, host_key)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def server(tmp_path: Path, key: Path) -> Iterator[Server]:
    if not SSHD:
        pytest.skip("probe sshd: openssh-server is not installed, and TEST_SSHD names no other")
    with serving(tmp_path / "server", key) as server:
        yield server


def test_repositories_are_reached_with_the_clients_key(client: Client, folder: Path, key: Path, server: Server) -> None:
    dockerfile(folder, f"FROM wt-base\nADD {server.url} /added\n")
    client.build(folder, "-t", "added", "--ssh", f"default={key}")
    assert client.run("added", "/bin/cat", "/added/file") == "from the repository\n"
    client("build", "-t", "cloned", "--ssh", f"default={key}", f"{server.url}#main")
    assert client.run("cloned", "/bin/cat", "/copied") == "from the repository\n"
    offered = f"other={server.url}"
    dockerfile(folder, "FROM wt-base\nCOPY --from=other file /\n")
    client.build(folder, "--ssh", f"default={key}", "--build-context", offered)


def test_who_may_not(client: Client, folder: Path, server: Server, tmp_path: Path) -> None:
    dockerfile(folder, f"FROM wt-base\nADD {server.url} /added\n")
    assert 'no SSH key "default" forwarded from the client' in client.build(folder, code=1).stderr
    stranger = new_key(tmp_path / "stranger")
    assert "Permission denied" in client.build(folder, "--ssh", f"default={stranger}", code=1).stderr


def test_a_host_that_is_another_one_now_is_refused(
    client: Client, folder: Path, key: Path, server: Server, tmp_path: Path
) -> None:
    dockerfile(folder, f"FROM wt-base\nADD {server.url} /added\n")
    known = client.home / ".ssh" / "known_hosts"
    known.parent.mkdir(parents=True)
    other = new_key(tmp_path / "another").with_suffix(".pub").read_text()
    known.write_text(f"{server.known.split()[0]} {other}")
    assert "Host key verification failed" in client.build(folder, "--ssh", f"default={key}", code=1).stderr
    known.write_text(server.known)
    client.build(folder, "--ssh", f"default={key}")
