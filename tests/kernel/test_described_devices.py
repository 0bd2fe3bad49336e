"""A device that a vendor's file describes, in a real container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Wherryd, temporary_folder
from tests.support.engine import Engine

DESCRIPTION = """\
cdiVersion: 0.6.0
kind: wt.example/thing
containerEdits:
  env: [OF=all]
devices:
- name: one
  containerEdits:
    env: [THING=one]
    deviceNodes:
    - {path: /dev/thing, hostPath: /dev/zero, permissions: r}
    mounts:
    - {hostPath: FOLDER/file, containerPath: /thing.txt, options: [ro, rbind]}
    hooks:
    - {hookName: createRuntime, path: /bin/sh, args: [sh, -c, "cat > FOLDER/hooked"]}
    additionalGids: [4321]
"""


@pytest.fixture
def folder() -> Path:
    return temporary_folder()


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    (folder / "cdi").mkdir()
    (folder / "file").write_text("from the host\n")
    (folder / "cdi" / "thing.yaml").write_text(DESCRIPTION.replace("FOLDER", str(folder)))
    daemon = Wherryd(folder)
    daemon.start("--cdi-spec-dir", str(folder / "cdi"))
    try:
        engine = Engine("wherry", daemon.socket, daemon.pid)
        engine.prepare()
        yield engine
        engine.tidy()
    finally:
        daemon.dispose()


def test_a_described_device(engine: Engine, folder: Path) -> None:
    look = "echo $OF $THING; cat /thing.txt; head -c 4 /dev/thing | wc -c; id -G"
    requests = [{"Driver": "cdi", "DeviceIDs": ["wt.example/thing=one"]}]
    out = engine.output(look, host={"DeviceRequests": requests}).splitlines()
    assert out[:3] == ["all one", "from the host", "4"]
    assert "4321" in out[3].split()
    assert (folder / "hooked").stat().st_size > 0  # the hook was told the container's state
    unknown = [{"Driver": "cdi", "DeviceIDs": ["wt.example/thing=two"]}]
    answer = engine.failed_start(["true"], host={"DeviceRequests": unknown})
    message = "CDI device injection failed: unresolvable CDI devices wt.example/thing=two"
    assert (answer.status, answer.message) == (500, message)
