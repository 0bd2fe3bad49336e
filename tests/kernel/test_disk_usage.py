"""What a tree takes of the disk, by the judgement of du(1)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.daemon import Wherryd, temporary_folder
from tests.support.engine import Engine
from wherry.storage.usage import disk_usage


def du(*paths: Path) -> int:
    out = subprocess.run(["du", "-sc", "--block-size=1", *map(str, paths)], capture_output=True, text=True, check=True)
    return int(out.stdout.splitlines()[-1].split()[0])


def test_as_du(tmp_path: Path) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/er/file").write_bytes(b"x" * 100_000)
    (tmp_path / "small").write_text("x")
    os.link(tmp_path / "small", tmp_path / "deep/twin")
    os.symlink("/usr", tmp_path / "link")
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 30)
    top = os.stat(tmp_path).st_blocks * 512
    assert disk_usage(tmp_path) == du(tmp_path) - top
    assert disk_usage(tmp_path, directories=False) == 100_000 // 4096 * 4096 + 4096 + 4096


def test_nothing_there(tmp_path: Path) -> None:
    assert disk_usage(tmp_path / "none") == 0
    assert disk_usage(tmp_path) == 0


def test_df_is_what_du_says_of_the_data_root() -> None:
    daemon = Wherryd(temporary_folder())
    daemon.start()
    try:
        engine = Engine("wherry", daemon.socket)
        engine.prepare()
        script = "for d in / /v/; do dd if=/dev/urandom of=${d}f bs=65536 count=320 2>/dev/null; done"
        engine.result(script, host={"Binds": ["wt-du:/v"]})
        usage = engine.http.get("/system/df").json()
        told = usage["LayersSize"]
        told += sum(container.get("SizeRw", 0) for container in usage["Containers"])
        told += sum(volume["UsageData"]["Size"] for volume in usage["Volumes"])
        root = Path(engine.http.get("/info").json()["DockerRootDir"])
        assert abs(du(root) - told) < 0.02 * du(root)
        engine.tidy()
    finally:
        daemon.dispose()
