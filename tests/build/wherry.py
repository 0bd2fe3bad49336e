"""Our builder of cases: the classic endpoint of a daemon of the tests' own."""

from __future__ import annotations

import io
import json
import tarfile
import uuid
from pathlib import Path

from tests.build.buildkit import arranged, bases
from tests.build.cases import Case
from tests.build.results import Built, read_archive
from tests.support.daemon import Wherryd
from tests.support.http import Client
from wherry.model.dockerfile.ignore import IgnoreRules, ignore_file_names, read_patterns


class Refused(Exception):
    """The build failed; the message is the engine's."""


class Wherry:
    def __init__(self, daemon: Wherryd) -> None:
        self.http = Client(daemon.socket)

    def prepare(self) -> None:
        for archive in bases():
            answer = self.http.post("/images/load", body=archive)
            assert answer.status == 200, answer.body

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
        try:
            saved = self.http.get(f"/images/{name}/get")
            assert saved.status == 200, saved.body
            return read_archive(saved.body)
        finally:
            self.http.delete(f"/images/{name}", force=1)


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

    def kept(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        path = info.name.removeprefix("./")
        if path != "." and path not in names and rules.ignores(path):
            if not info.isdir() or not rules.may_hold_exceptions(path):
                return None
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(context, arcname=".", filter=kept)
    return stream.getvalue()
