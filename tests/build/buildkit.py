"""BuildKit as the real engine has it, driven by its own client."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.build.cases import BASE, ON_BUILD, Case, Made
from tests.build.results import Built, read_archive
from tests.support.engines import PEER
from tests.support.http import Client
from tests.support.images import base_tar, docker_archive

BUILDX = os.environ.get("PEER_BUILDX") or shutil.which("docker-buildx") or ""
"""The client: buildx runs by itself as well as under `docker`."""

BASE_CONFIG: dict[str, Any] = {"Env": ["PATH=/bin", "FROM_BASE=yes"], "Cmd": ["/bin/sh"], "Labels": {"base": "label"}}


def bases() -> list[bytes]:
    """The images that the cases begin with, as archives to load."""
    triggers = ["COPY a /from-trigger", "ENV TRIGGERED=yes", "RUN echo $TRIGGERED >/also"]
    return [
        docker_archive([base_tar()], [BASE], **BASE_CONFIG),
        docker_archive([base_tar()], [ON_BUILD], **BASE_CONFIG, OnBuild=triggers),
    ]


def lay_out(folder: Path, files: dict[str, Made]) -> None:
    """The files of a context."""
    for name, made in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if made.folder:
            path.mkdir()
        elif made.link:
            path.symlink_to(made.link)
        else:
            path.write_bytes(made.data)
            path.chmod(made.mode)
    for path in (folder, *folder.rglob("*")):
        set_time(path)


def set_time(path: Path) -> None:
    """A time of the file's own content: BuildKit takes a file of the same size and time for one it has been sent."""
    content = path.read_bytes() if path.is_file() and not path.is_symlink() else os.fsencode(path.name)
    seconds = 1_400_000_000 + zlib.crc32(content) % 200_000_000
    os.utime(path, (seconds, seconds), follow_symlinks=False)


class BuildFailed(Exception):
    """What the builder said. `message` is its last sentence, `shown` the source it showed."""

    def __init__(self, output: str) -> None:
        super().__init__(output)
        found = re.search(r"^ERROR: (?:failed to (?:build|solve): )*(.*)", output, re.MULTILINE | re.DOTALL)
        self.message = found[1].strip() if found else output
        frame = re.search(r"^(\S+:\d+)\n-{20}\n(.*?)\n-{20}$", output, re.MULTILINE | re.DOTALL)
        self.shown = frame[0] if frame else ""


class BuildKit:
    """A builder of cases. Its images have names of their own and are removed after they are read."""

    def __init__(self) -> None:
        self._http = Client(Path(PEER.removeprefix("unix://")))

    def prepare(self) -> None:
        for archive in bases():
            answer = self._http.post("/images/load", body=archive)
            assert answer.status == 200, answer.body

    def tidy(self) -> None:
        for name in (BASE, ON_BUILD):
            self._http.delete(f"/images/{name}", force=1)

    def build(self, case: Case, folder: Path) -> Built:
        """Raises BuildFailed."""
        name = f"wherry-test-built:{uuid.uuid4().hex[:12]}"
        with arranged(case, folder) as arguments:
            self._run("build", "--load", "--no-cache", "--provenance=false", "--progress=plain", "-t", name, *arguments)
        try:
            return self.image(name)
        finally:
            self._http.delete(f"/images/{name}", force=1)

    def image(self, name: str) -> Built:
        answer = self._http.get(f"/images/{name}/get")
        assert answer.status == 200, answer.body
        return read_archive(answer.body)

    def _run(self, *arguments: str) -> None:
        environment = {**os.environ, "DOCKER_HOST": PEER}
        run = subprocess.run([BUILDX, *arguments], capture_output=True, env=environment, check=False)
        if run.returncode:
            raise BuildFailed((run.stdout + run.stderr).decode("utf-8", "replace"))


@contextmanager
def arranged(case: Case, folder: Path) -> Iterator[list[str]]:
    """The case on disk, and the arguments of `build` that name it; the same for both builders."""
    context = folder / "context"
    context.mkdir()
    lay_out(context, dict(case.files))
    (context / "Dockerfile").write_text(case.dockerfile, newline="")
    set_time(context / "Dockerfile")
    arguments = list(case.arguments)
    for name, files in case.contexts.items():
        other = folder / f"context-{name}"
        other.mkdir()
        lay_out(other, dict(files))
        arguments += ["--build-context", f"{name}={other}"]
    for name, value in case.secrets.items():
        secret = folder / f"secret-{name}"
        secret.write_bytes(value)
        arguments += ["--secret", f"id={name},src={secret}"]
    yield [*arguments, str(context)]
