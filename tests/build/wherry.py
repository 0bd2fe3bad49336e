"""Our builders of cases, in a daemon of the tests' own: the classic endpoint, and the command `build`."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import uuid
from pathlib import Path, PurePosixPath

from tests.build.buildkit import arranged, bases
from tests.build.cases import Case
from tests.build.results import Built, read_archive
from tests.support.daemon import SOURCE, Wherryd
from tests.support.http import Client
from wherry.model.dockerfile.ignore import IgnoreRules, ignore_file_names, read_patterns


class Refused(Exception):
    """The build failed; the message is the engine's."""


class Engine:
    """Where images are read from."""

    def __init__(self, daemon: Wherryd) -> None:
        self.socket = daemon.socket
        self.http = Client(daemon.socket)

    def prepare(self) -> None:
        for archive in bases():
            answer = self.http.post("/images/load", body=archive)
            assert answer.status == 200, answer.body

    def take(self, name: str) -> Built:
        """The image, which is removed."""
        try:
            saved = self.http.get(f"/images/{name}/get")
            assert saved.status == 200, saved.body
            return read_archive(saved.body)
        finally:
            self.http.delete(f"/images/{name}", force=1)


class Command(Engine):
    """`wherry build`, which carries everything."""

    def build(self, case: Case, folder: Path) -> Built:
        """Raises Refused, with all that was printed."""
        name = f"wherry-test-built:{uuid.uuid4().hex[:12]}"
        self.run(case, folder, "-t", name)
        return self.take(name)

    def run(self, case: Case, folder: Path, *more: str) -> None:
        """Raises Refused, with all that was printed."""
        with arranged(case, folder) as arguments:
            command = [sys.executable, "-m", "wherry.cli.main", "-H", f"unix://{self.socket}", "build", "--no-cache"]
            environment = {**os.environ, "PYTHONPATH": str(SOURCE), "NO_COLOR": "1"}
            run = subprocess.run([*command, *more, *arguments], capture_output=True, env=environment, check=False)
        if run.returncode:
            raise Refused((run.stdout + run.stderr).decode("utf-8", "replace"))


class Classic(Engine):
    def build(self, case: Case, folder: Path) -> Built:
        """Raises Refused. What the endpoint cannot carry (secrets, contexts) is not asked of it."""
        name = f"wherry-test-built:{uuid.uuid4().hex[:12]}"
        with arranged(case, folder) as arguments:
            query = {"t": name, "nocache": 1, "rm": 1, **_query(arguments[:-1])}
            answer = self.http.post("/build", body=_packed(Path(arguments[-1])), **query)
        messages = answer.json_lines()
        failures = [message["error"] for message in messages if "error" in message]
        if answer.status != 200 or failures:
            raise Refused(failures[0] if failures else answer.message)
        return self.take(name)


def _query(arguments: list[str]) -> dict[str, str]:
    query: dict[str, str] = {}
    maps: dict[str, dict[str, str]] = {"buildargs": {}, "labels": {}}
    names = {"--build-arg": "buildargs", "--label": "labels"}
    words = iter(arguments)
    for word in words:
        value = next(words)
        if word in names:
            key, _, text = value.partition("=")
            maps[names[word]][key] = text
        else:
            query[word.removeprefix("--")] = value
    return query | {name: json.dumps(values) for name, values in maps.items() if values}


def _packed(context: Path) -> bytes:
    """The context as clients of the classic endpoint send it: without what is ignored, but for the two files that say
    what to do."""
    names = (*ignore_file_names("Dockerfile"), "Dockerfile")
    ignoring = next((context / name for name in names[:2] if (context / name).exists()), None)
    rules = IgnoreRules(read_patterns(ignoring.read_text()) if ignoring else ())

    sent = set(names)
    for path in (path.relative_to(context).as_posix() for path in sorted(context.rglob("*"))):
        if not rules.ignores(path):
            sent |= {path, *(parent.as_posix() for parent in PurePosixPath(path).parents)}

    def kept(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if info.name not in sent and info.name != ".":
            return None
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(os.listdir(context)):
            archive.add(context / name, arcname=name, filter=kept)
    return stream.getvalue()
