"""One engine under test, ours or the real one, as a foreign client sees it."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.support.http import Client, Response, join_frames, split_frames
from tests.support.images import base_tar

PREFIX = "wt-"  # of every name the tests make
BASE = "wt-base:latest"
# A shell that lives until it is told to end, and ends at once.
IDLE = ["sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"]
DEAF = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"]

T = TypeVar("T")


def eventually(probe: Callable[[], T], *, seconds: float = 15.0, what: str = "it") -> T:
    """Ask until the answer is true-ish, and return it."""
    deadline = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen in {seconds} s; last answer: {answer!r}")
        time.sleep(0.02)


class Engine:
    """What tests do with an engine. `http` is the raw API; the rest are shorthands for it.

    Methods raise AssertionError, with the engine's answer, where the engine refuses.
    """

    def __init__(self, name: str, socket: Path, pid: int | None = None) -> None:
        self.name = name
        self.pid = pid  # of a daemon whose process the tests may look into
        self.http = Client(socket)
        self._root: str | None = None

    # --- containers

    def try_create(
        self, cmd: list[str] | str | None = None, *, name: str = "", host: dict[str, Any] | None = None, **config: Any
    ) -> Response:
        body = {"Image": BASE, "HostConfig": host or {}, **config}
        if cmd is not None:
            body["Cmd"] = cmd
        query: dict[str, Any] = {"name": name} if name else {}
        return self.http.post("/containers/create", body, **query)

    def create(self, cmd: list[str] | str | None = None, **options: Any) -> str:
        answer = self.try_create(cmd, **options)
        assert answer.status == 201, answer.body
        container = answer.json()["Id"]
        assert isinstance(container, str)
        return container

    def start(self, container: str) -> None:
        answer = self.http.post(f"/containers/{container}/start")
        assert answer.status == 204, answer.body

    def run(self, cmd: list[str] | str | None = None, **options: Any) -> str:
        """Create and start; the process may still run."""
        container = self.create(cmd, **options)
        self.start(container)
        return container

    def idle(self, **options: Any) -> str:
        """Run IDLE and wait until it listens to TERM, which the first process of a namespace else ignores."""
        container = self.run(IDLE, **options)
        eventually(lambda: self.http.get(f"/containers/{container}/logs", stdout=1).body)
        return container

    def wait(self, container: str, condition: str = "") -> int:
        query: dict[str, Any] = {"condition": condition} if condition else {}
        answer = self.http.post(f"/containers/{container}/wait", **query)
        assert answer.status == 200, answer.body
        code = answer.json()["StatusCode"]
        assert isinstance(code, int)
        return code

    def inspect(self, container: str) -> dict[str, Any]:
        answer = self.http.get(f"/containers/{container}/json")
        assert answer.status == 200, answer.body
        document = answer.json()
        assert isinstance(document, dict)
        return document

    def state(self, container: str) -> dict[str, Any]:
        state = self.inspect(container)["State"]
        assert isinstance(state, dict)
        return state

    def logs(self, container: str, **options: Any) -> tuple[bytes, bytes]:
        """(stdout, stderr) of a container without a TTY."""
        answer = self.http.get(f"/containers/{container}/logs", **{"stdout": 1, "stderr": 1, **options})
        assert answer.status == 200, answer.body
        return join_frames(split_frames([answer.body]))

    def result(self, cmd: list[str] | str | None, **options: Any) -> tuple[int, bytes, bytes]:
        """Run to the end: (exit code, stdout, stderr). A string is run by the shell, None is the image's command."""
        container = self.run(["sh", "-c", cmd] if isinstance(cmd, str) else cmd, **options)
        code = self.wait(container)
        return code, *self.logs(container)

    def output(self, cmd: list[str] | str, **options: Any) -> str:
        """Run a command that succeeds; its stdout. A string is run by the shell."""
        code, out, err = self.result(cmd, **options)
        assert code == 0, (code, out, err)
        return out.decode()

    def failed_start(self, cmd: list[str] | str | None = None, **options: Any) -> Response:
        """The answer to the start of a container that can be created and not started."""
        container = self.create(cmd, **options)
        answer = self.http.post(f"/containers/{container}/start")
        assert answer.status >= 400, (answer.status, answer.body)
        return answer

    def remove(self, container: str) -> None:
        answer = self.http.delete(f"/containers/{container}", force=1, v=1)
        assert answer.status in (204, 404, 409), answer.body

    # --- exec

    def exec_create(self, container: str, cmd: list[str], **options: Any) -> str:
        body = {"Cmd": cmd, "AttachStdout": True, "AttachStderr": True, **options}
        answer = self.http.post(f"/containers/{container}/exec", body)
        assert answer.status == 201, answer.body
        identity = answer.json()["Id"]
        assert isinstance(identity, str)
        return identity

    def exec(self, container: str, cmd: list[str] | str, **options: Any) -> tuple[int, str, str]:
        """Run a command in a running container: (exit code, stdout, stderr). A string is run by the shell."""
        command = ["sh", "-c", cmd] if isinstance(cmd, str) else cmd
        identity = self.exec_create(container, command, **options)
        with self.http.hijack(f"/exec/{identity}/start", {"Detach": False, "Tty": False}) as connection:
            assert connection.status == 101, connection.answer().body
            out, err = connection.output()
        inspect = eventually(lambda: self._exec_ended(identity), what="the end of the exec")
        return inspect["ExitCode"], out.decode(), err.decode()

    def _exec_ended(self, identity: str) -> Any:
        inspect = self.http.get(f"/exec/{identity}/json").json()
        return None if inspect["Running"] else inspect

    # --- images

    def load(self, archive: bytes, **query: Any) -> Response:
        return self.http.request(
            "POST", "/images/load", body=archive, headers={"Content-Type": "application/x-tar"}, **query
        )

    def import_image(self, tar: bytes, repo: str, tag: str = "latest", *changes: str) -> str:
        answer = self.http.post("/images/create", body=tar, fromSrc="-", repo=repo, tag=tag, changes=list(changes))
        assert answer.status == 200, answer.body
        identity = answer.json_lines()[-1]["status"]
        assert identity.startswith("sha256:"), answer.body
        return str(identity)

    # --- the engine's own view of the host

    @contextmanager
    def folder(self) -> Iterator[tuple[Path, str]]:
        """A temporary folder for bind mounts: (path here, path as the engine sees it).

        An engine may live in another root, where our /tmp has another name; it is found by asking it.
        """
        here = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
        try:
            here.chmod(0o755)
            yield here, f"{self._tmp(here)}/{here.name}"
        finally:
            shutil.rmtree(here)

    def _tmp(self, folder: Path) -> str:
        if self._root is None:
            (folder / "mark").write_text("mark")
            for root in ("/tmp", "/mnt"):
                mount = {"Type": "bind", "Source": f"{root}/{folder.name}", "Target": "/x"}
                created = self.try_create(["test", "-e", "/x/mark"], host={"Mounts": [mount]})
                if created.status == 201:
                    container = created.json()["Id"]
                    self.start(container)
                    if self.wait(container) == 0:
                        self._root = root
                    self.remove(container)
                if self._root:
                    break
            (folder / "mark").unlink()
        assert self._root, "the engine does not see this host's /tmp"
        return self._root

    def memory(self) -> int:
        """Bytes of the daemon's own (anonymous) memory, 0 where its process is not known."""
        if self.pid is None:
            return 0
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) * 1024

    # --- tidying

    def prepare(self) -> None:
        """Forget what an interrupted run left and make the base image."""
        self.tidy()
        self.tidy_images()
        self.import_image(base_tar(), *BASE.split(":"), "ENV PATH=/bin", 'CMD ["sh"]')

    def tidy(self) -> None:
        """Remove every container, network and volume of the tests."""
        self.tidy_containers()
        for network in self.http.get("/networks").json():
            if network["Name"].startswith(PREFIX):
                answer = self.http.delete(f"/networks/{network['Id']}")
                assert answer.status in (204, 403, 404), answer.body
        for volume in self.http.get("/volumes").json()["Volumes"] or []:
            if volume["Name"].startswith(PREFIX):
                answer = self.http.delete(f"/volumes/{volume['Name']}", force=1)
                assert answer.status == 204, answer.body

    def tidy_containers(self) -> None:
        for container in self.http.get("/containers/json", all=1).json():
            names = container.get("Names") or []
            if container["Image"].startswith(PREFIX) or any(name.startswith("/" + PREFIX) for name in names):
                self.remove(container["Id"])

    def tidy_images(self) -> None:
        if self.name == "wherry":
            assert self.http.post("/build/prune", all=1).status == 200
        for image in self.http.get("/images/json").json():
            for tag in image["RepoTags"] or []:
                if tag.startswith(PREFIX):
                    answer = self.http.delete(f"/images/{tag}", force=1)
                    assert answer.status in (200, 404), answer.body
