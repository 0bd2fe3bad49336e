"""`pull`, `push`, and what `run` pulls: what is asked of the engine and what is said."""

from __future__ import annotations

import base64
import http.server
import json
import os
import socketserver
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wherry.cli import tabular
from wherry.cli.progress import Lines
from wherry.client.engine import EngineError

DONE = [
    {"status": "Pulling from library/app", "id": "latest"},
    {"status": "Downloading", "id": "0123456789ab", "progressDetail": {"current": 1, "total": 2}},
    {"status": "Pull complete", "id": "0123456789ab", "progressDetail": {}},
    {"status": "Status: Downloaded newer image for app:latest"},
]


class FakeEngine(socketserver.ThreadingUnixStreamServer):
    """Answers every transfer with `messages`; `asked` are the requests, with their X-Registry-Auth decoded."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.messages: list[dict[str, Any]] = DONE
        self.missing = 0  # creates of a container that find no image
        self.asked: list[tuple[str, str, Any]] = []
        super().__init__(str(path), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeEngine

    def address_string(self) -> str:
        return "client"

    def log_message(self, *_: Any) -> None:
        """Nothing to the tests' output."""

    def do_HEAD(self) -> None:
        self._answer(200, b"")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        auth = self.headers.get("X-Registry-Auth")
        path = self.path.partition("/v1.45")[2]
        self.server.asked.append(
            ("POST", path, json.loads(base64.urlsafe_b64decode(auth)) if auth is not None else None)
        )
        if path.startswith("/containers/create"):
            if self.server.missing:
                self.server.missing -= 1
                self._answer(404, b'{"message": "No such image: app:latest"}')
            else:
                self._answer(201, b'{"Id": "c0ffee", "Warnings": []}')
            return
        self._answer(200, b"".join(json.dumps(message).encode() + b"\r\n" for message in self.server.messages))

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Api-Version", "1.45")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    (tmp_path / "docker").mkdir()
    known = {"auths": {"reg.test": {"auth": base64.b64encode(b"me:secret").decode()}}}
    (tmp_path / "docker" / "config.json").write_text(json.dumps(known))
    with FakeEngine(tmp_path / "engine.sock") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def command(engine: FakeEngine, *words: str) -> tuple[int, list[str], list[str]]:
    """Exit code, standard output and standard error of the client, in lines."""
    path = os.pathsep.join(sys.path)
    environment = {**os.environ, "DOCKER_CONFIG": str(engine.path.parent / "docker"), "PYTHONPATH": path}
    line = [sys.executable, "-m", "wherry.cli.main", "-H", f"unix://{engine.path}", *words]
    done = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


def test_pull(engine: FakeEngine) -> None:
    assert command(engine, "pull", "app") == (
        0,
        [
            "Using default tag: latest",
            "latest: Pulling from library/app",
            "0123456789ab: Pull complete",
            "Status: Downloaded newer image for app:latest",
            "docker.io/library/app:latest",
        ],
        [],
    )
    assert engine.asked == [("POST", "/images/create?fromImage=app&tag=latest", {})]


def test_pull_quietly_by_digest_with_what_is_kept_of_the_registry(engine: FakeEngine) -> None:
    digest = "sha256:" + "a" * 64
    words = ("image", "pull", "-q", "--platform", "linux/arm64", f"reg.test/app@{digest}")
    assert command(engine, *words) == (0, [f"reg.test/app@{digest}"], [])
    ((_, path, auth),) = engine.asked
    assert path == f"/images/create?fromImage=reg.test%2Fapp&platform=linux%2Farm64&tag={digest.replace(':', '%3A')}"
    assert auth == {"username": "me", "password": "secret", "serveraddress": "reg.test"}


def test_pull_all_tags(engine: FakeEngine) -> None:
    assert command(engine, "pull", "-a", "app")[0] == 0
    assert engine.asked == [("POST", "/images/create?fromImage=app", {})]


@pytest.mark.parametrize("verb", ["pull", "push"])
def test_all_tags_and_a_tag(engine: FakeEngine, verb: str) -> None:
    assert command(engine, verb, "-a", "app:1") == (1, [], ["tag can't be used with --all-tags/-a"])
    assert engine.asked == []


def test_what_goes_wrong_on_the_way(engine: FakeEngine) -> None:
    engine.messages = [DONE[0], {"errorDetail": {"message": "it broke"}, "error": "it broke"}]
    assert command(engine, "pull", "app:1") == (1, ["latest: Pulling from library/app"], ["it broke"])


STEERING = "\x1b]0;title\x07\x9b2J\r\x7f\u202e"
SHOWN = "\\x1b]0;title\\x07\\x9b2J\\x0d\\x7f\\u202e"


def test_what_a_registry_says_does_not_steer_the_terminal(engine: FakeEngine) -> None:
    engine.messages = [
        {"status": f"Pulling {STEERING}", "id": "latest"},
        {"status": "Waiting", "id": STEERING, "progressDetail": {}},
        {"errorDetail": {"message": f"denied: {STEERING}\nreally"}, "error": f"denied: {STEERING}\nreally"},
    ]
    said = [f"latest: Pulling {SHOWN}", f"{SHOWN}: Waiting"]
    assert command(engine, "pull", "app:1") == (1, said, [f"denied: {SHOWN}", "really"])


def test_what_the_engine_quotes_does_not_steer_the_terminal() -> None:
    assert EngineError(404, f"no {STEERING}").message == f"no {SHOWN}"
    assert tabular.table(["NAME"], [[STEERING]]) == f"NAME\n{SHOWN}\n"


def test_push(engine: FakeEngine) -> None:
    engine.messages = [
        {"status": "The push refers to repository [reg.test/app]"},
        {"status": "1: digest: sha256:abc size: 3"},
        {"progressDetail": {}, "aux": {"Tag": "1", "Digest": "sha256:abc", "Size": 3}},
    ]
    told = [message["status"] for message in engine.messages[:2]]
    assert command(engine, "push", "reg.test/app:1") == (0, told, [])
    assert command(engine, "push", "-q", "app") == (0, ["docker.io/library/app:latest"], [])
    assert [(path, bool(auth)) for _, path, auth in engine.asked] == [
        ("/images/reg.test/app/push?tag=1", True),
        ("/images/app/push?tag=latest", False),
    ]


def test_create_pulls_what_is_missing(engine: FakeEngine) -> None:
    engine.missing = 1
    assert command(engine, "create", "app") == (
        0,
        ["c0ffee"],
        [
            "Unable to find image 'app:latest' locally",
            "latest: Pulling from library/app",
            "0123456789ab: Pull complete",
            "Status: Downloaded newer image for app:latest",
        ],
    )
    assert [path.partition("?")[0] for _, path, _ in engine.asked] == [
        "/containers/create",
        "/images/create",
        "/containers/create",
    ]


@pytest.mark.parametrize(("pull", "times"), [("always", 1), ("missing", 0), ("never", 0)])
def test_when_create_pulls(engine: FakeEngine, pull: str, times: int) -> None:
    assert command(engine, "create", "--pull", pull, "app")[0] == 0
    assert sum(path.startswith("/images/create") for _, path, _ in engine.asked) == times


def test_never_is_never(engine: FakeEngine) -> None:
    engine.missing = 1
    code, _, told = command(engine, "create", "--pull", "never", "app")
    assert (code, told[0]) == (1, "Error response from daemon: No such image: app:latest")
    assert [path.partition("?")[0] for _, path, _ in engine.asked] == ["/containers/create"]


@pytest.mark.parametrize(("columns", "bar"), [(80, False), (120, True)])
def test_a_layer_has_one_line_on_a_terminal(columns: int, bar: bool) -> None:
    leader, follower = os.openpty()
    with open(leader, "rb", buffering=0) as screen:
        with open(follower, "w") as terminal:
            termios.tcsetwinsize(follower, (24, columns))
            lines = Lines(terminal)
            for message in DONE:
                lines.show(message)
            shown = b""
            while not shown.endswith(b"app:latest\r\n"):
                shown += screen.read(10_000)
    text = shown.decode()
    assert ("[====" in text) == bar
    assert text.count("\n") == 3, "two lines of words, and one of the layer, written over"
    assert "\x1b[1A\x1b[2K\r0123456789ab: Pull complete\r\x1b[1B" in text
