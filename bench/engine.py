"""One engine under measurement: its socket, its client, and the containers made for measuring."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.http import Connection, Failed

IMAGE = "wherry-bench:1"
LABEL = "wherry.bench"
_PROGRAMS = ("sh", "true", "sleep", "echo")


class Engine:
    """`client` is the command that drives it: the stock client by default, for every engine the same."""

    def __init__(self, name: str, address: str, client: tuple[str, ...] = ("docker",)) -> None:
        self.name = name
        self.address = address
        self.socket = address.removeprefix("unix://")
        self._client = (*client, "-H", address)
        self._environment = {**os.environ, "DOCKER_CLI_HINTS": "false"}
        self.api = Connection(self.socket)
        self.idle: list[str] = []  # IDs of idle containers kept running

    def client(self, *arguments: str) -> str:
        """Run the client and wait for it. Raises CalledProcessError with its output."""
        command = [*self._client, *arguments]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=self._environment
        )
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def client_discarding(self, *arguments: str) -> None:
        """The same, for output that is large and that nobody wants. Raises CalledProcessError."""
        command = [*self._client, *arguments]
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, env=self._environment)

    def version(self) -> dict[str, Any]:
        answer = self.api.call("GET", "/version")
        components = {part["Name"]: part["Version"] for part in answer.get("Components") or []}
        return {"version": answer["Version"], "api": answer["ApiVersion"], **components}

    def prepare(self) -> None:
        """Import the image and remove what an earlier run left."""
        self.remove_all()
        content = busybox_image()
        name, _, tag = IMAGE.partition(":")
        path = f"/images/create?fromSrc=-&repo={name}&tag={tag}"
        answer = self.api.send("POST", path, content, "application/x-tar")
        if "error" in str(answer):
            raise RuntimeError(f"{self.name}: import: {answer}")

    def clean(self) -> None:
        self.remove_all()
        with suppress(Failed):  # two names for one engine share the image
            self.api.call("DELETE", f"/images/{IMAGE}?force=1")

    def remove_all(self) -> None:
        filters = quote(f'{{"label":["{LABEL}"]}}')
        for entry in self.api.call("GET", f"/containers/json?all=1&filters={filters}"):
            self.api.call("DELETE", f"/containers/{entry['Id']}?force=1&v=1")
        self.idle.clear()

    def create(self, *command: str) -> str:
        body = {"Image": IMAGE, "Cmd": list(command), "Labels": {LABEL: "1"}}
        container: str = self.api.call("POST", "/containers/create", body)["Id"]
        return container

    def keep_idle(self, count: int) -> None:
        """Have this many idle containers running (in the default network), all of them new ones beyond those kept."""
        while len(self.idle) < count:
            container = self.create("sleep", "1000000")
            self.api.call("POST", f"/containers/{container}/start")
            self.idle.append(container)


def busybox_image() -> bytes:
    """A root file system as tar: the host's static busybox and a few names for it."""
    busybox = Path("/bin/busybox").read_bytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        directory = tarfile.TarInfo("bin")
        directory.type, directory.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(directory)
        program = tarfile.TarInfo("bin/busybox")
        program.size, program.mode = len(busybox), 0o755
        tar.addfile(program, io.BytesIO(busybox))
        for name in _PROGRAMS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return buffer.getvalue()


def milliseconds(started: float) -> float:
    return (time.perf_counter() - started) * 1000
