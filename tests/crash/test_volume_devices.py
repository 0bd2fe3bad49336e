"""Devices of volumes when the daemon dies: mounted while a container runs with them, and no longer."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.crash.conftest import Box
from tests.support.engine import eventually
from wherry.linux.mounts import mounted_below


def mounted(box: Box) -> list[Path]:
    return mounted_below(box.daemon.data / "volumes")


def test_devices_are_known_again(box: Box) -> None:
    engine = box.engine
    options = {"type": "tmpfs", "device": "tmpfs"}
    engine.http.post("/volumes/create", {"Name": "wt-dev", "DriverOpts": options})
    first = engine.idle(host={"Binds": ["wt-dev:/t"]})
    engine.exec(first, "echo told >/t/f")
    box.crash()
    assert len(mounted(box)) == 1
    assert engine.output(["cat", "/t/f"], host={"Binds": ["wt-dev:/t"]}) == "told\n"
    assert len(mounted(box)) == 1  # the first one still holds it
    engine.http.post(f"/containers/{first}/stop", t=0)
    eventually(lambda: not mounted(box), what="the unmounting")


def test_a_device_nobody_uses_any_more(box: Box) -> None:
    engine = box.engine
    options = {"type": "tmpfs", "device": "tmpfs"}
    engine.http.post("/volumes/create", {"Name": "wt-dev", "DriverOpts": options})
    container = engine.idle(host={"Binds": ["wt-dev:/t"]})
    pid = engine.state(container)["Pid"]
    box.daemon.kill()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    assert len(mounted(box)) == 1
    box.daemon.start()
    assert mounted(box) == []
    assert engine.state(container)["Status"] == "exited"


def test_removal_takes_nothing_that_is_mounted(box: Box, tmp_path: Path) -> None:
    """Not even where a former daemon left a bind of somebody's folder behind."""
    (tmp_path / "precious").write_text("mine")
    engine = box.engine
    options = {"type": "none", "device": str(tmp_path), "o": "bind"}
    engine.http.post("/volumes/create", {"Name": "wt-dev", "DriverOpts": options})
    container = engine.idle(host={"Binds": ["wt-dev:/t"]})
    box.crash()
    engine.remove(container)
    assert engine.http.delete("/volumes/wt-dev").status == 204
    assert (tmp_path / "precious").read_text() == "mine"
    assert mounted(box) == []
