"""Git repositories with submodules as contexts and in ADD, from a server that git itself is."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.client import Client, dockerfile
from tests.support.engine import eventually

IDENTITY = {f"GIT_{who}_{what}": "wherry" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", **IDENTITY}


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


class Server:
    """Repositories below a folder, served to anybody on this host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        words = ["git", "daemon", "--listen=127.0.0.1", f"--port={self.port}", "--reuseaddr", "--export-all"]
        self._process = subprocess.Popen(
            [*words, f"--base-path={folder}", str(folder)], env=ENVIRONMENT, stderr=subprocess.DEVNULL
        )
        eventually(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.port)).close()
            return True
        return False

    def url(self, name: str) -> str:
        return f"git://127.0.0.1:{self.port}/{name}"

    def make(self, name: str, *, submodules: dict[str, str] | None = None, **files: str) -> Path:
        """A repository of one commit, whose submodules stand by the URLs that are given."""
        folder = self.folder / name
        folder.mkdir()
        git(folder, "init", "--quiet", "--initial-branch=main")
        for file, text in files.items():
            (folder / file).write_text(text)
        for path, url in (submodules or {}).items():
            git(folder, "submodule", "--quiet", "add", self.url(url.rpartition("/")[2]), path)
            git(folder, "config", "--file", ".gitmodules", f"submodule.{path}.url", url)
        self.commit(folder)
        return folder

    def commit(self, folder: Path) -> None:
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "--message", "as it is")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`main` has `sub` at a commit that is not its last, and that has `deep`, by a relative URL."""
    server = Server(tmp_path_factory.mktemp("repositories"))
    try:
        server.make("deep", file="deep\n")
        sub = server.make("sub", submodules={"deep": "../deep"}, file="older\n")
        main = server.make("main", submodules={"sub": server.url("sub")}, Dockerfile="FROM wt-base\nCOPY . /all\n")
        (sub / "file").write_text("newer\n")
        server.commit(sub)
        assert git(main, "submodule", "status").endswith("sub (heads/main)")
        yield server
    finally:
        server.close()


def test_a_context_with_submodules(client: Client, server: Server) -> None:
    client("build", "-t", "wt-git", server.url("main"))
    assert client.run("wt-git", "cat", "/all/sub/file", "/all/sub/deep/file") == "older\ndeep\n"
    assert client.run("wt-git", "ls", "/all") == "Dockerfile\nsub\n"


def test_what_is_added_of_a_repository(client: Client, server: Server, folder: Path) -> None:
    url = server.url("main")
    whole = f"ADD --keep-git-dir=true {url} /whole\nRUN test -d /whole/.git && test ! -e /plain/.git"
    dockerfile(folder, f"FROM wt-base\nADD {url}#main:sub/deep /deep\nADD {url} /plain\n{whole}\n")
    client.build(folder, "-t", "wt-git-added")
    assert client.run("wt-git-added", "cat", "/deep/file", "/plain/sub/file", "/whole/sub/deep/file") == (
        "deep\nolder\ndeep\n"
    )


def test_a_commit_by_its_checksum(client: Client, server: Server, folder: Path) -> None:
    commit = git(server.folder / "main", "rev-parse", "HEAD")
    dockerfile(folder, f"FROM wt-base\nADD --checksum={commit} {server.url('main')} /x\n")
    client.build(folder)
    other = "0" * 40
    dockerfile(folder, f"FROM wt-base\nADD --checksum={other} {server.url('main')} /x\n")
    assert f"expected checksum to match {other}, got {commit}" in client.build(folder, code=1).stderr


def test_a_submodule_of_this_host_is_refused_and_nothing_is_left(client: Client, server: Server) -> None:
    server.make("secret", file="of this host\n")
    main = server.make("outside", submodules={"sub": "../secret"}, Dockerfile="FROM wt-base\nCOPY . /\n")
    git(main, "config", "--file", ".gitmodules", "submodule.sub.url", f"file://{server.folder}/secret")
    server.commit(main)
    said = client("build", server.url("outside"), code=1).stderr
    assert "transport 'file' not allowed" in said
    assert not list((client.daemon.data / "builds").glob("git-*"))
