"""`wherry build` as people type it, on one engine."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.daemon import Wherryd, temporary_folder
from tests.support.engine import Engine
from tests.support.registries import PASSWORD, USER, Registry

SOURCE = Path(__file__).parents[2] / "src"

Done = subprocess.CompletedProcess[str]


class Client:
    """Our command, on an engine with the base image."""

    def __init__(self, daemon: Wherryd, home: Path) -> None:
        self.daemon = daemon
        self.engine = Engine("wherry", daemon.socket)
        self.home = home

    def __call__(self, *words: str, code: int = 0, stdin: bytes = b"", **environment: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "wherry.cli.main", "-H", f"unix://{self.daemon.socket}", *words],
            input=stdin,
            capture_output=True,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONPATH": str(SOURCE), **environment},
        )
        found = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
        assert found.returncode == code, found.stderr
        return found

    def build(self, folder: Path, *words: str, code: int = 0, **environment: str) -> Done:
        return self("build", "--progress=plain", *words, str(folder), code=code, **environment)

    def run(self, image: str, *command: str) -> str:
        return self.engine.output(list(command), Image=image)

    def log_in(self, registry: Registry) -> None:
        """As the tests' user, by the file alone."""
        (self.home / ".docker").mkdir(parents=True, exist_ok=True)
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (self.home / ".docker" / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))


@contextmanager
def engine_with_base() -> Iterator[Wherryd]:
    """A daemon of its own that has the base image."""
    daemon = Wherryd(temporary_folder())
    daemon.start()
    try:
        Engine("wherry", daemon.socket).prepare()
        yield daemon
    finally:
        daemon.dispose()


def dockerfile(folder: Path, text: str) -> None:
    (folder / "Dockerfile").write_text(text)
