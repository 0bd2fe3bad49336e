"""What `./down` does."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from tools import demo, engine
from tools.engine import wherry
from tools.environment import VENV, unlink_commands
from tools.progress import Failure, run, say
from tools.settings import Settings

_REMOVE_BRIDGE = "import sys; from wherry.engine.networks import clean_host; clean_host(sys.argv[1:])"
_BRIDGE_NAME = '{{index .Options "com.docker.network.bridge.name"}}'


def take_down(settings: Settings, *, data: bool) -> None:
    """Leave the machine as it was before `./up`, but for Debian packages, cgroup mounts and, without `data`, the data.

    An engine that does not run is started first if it left data: only it can end its containers properly.
    """
    if (VENV / "bin" / "wherryd").exists() and (engine.answers(settings) or settings.data_root.is_dir()):
        if not engine.answers(settings):
            engine.start(settings)
        _end_containers(settings, remove=data)
        bridge = wherry(settings, "network", "inspect", "--format", _BRIDGE_NAME, "bridge").strip()
        engine.stop(settings)
        say("The engine has stopped")
        if bridge:
            _remove_bridge(bridge)
            say(f"The bridge {bridge} and its firewall table are gone")
    unlink_commands(settings.bin)
    _remove_tree(settings.exec_root)
    if data:
        _remove_tree(settings.data_root)
        _remove_tree(VENV)
        settings.log.unlink(missing_ok=True)
        say(f"{settings.data_root}, {settings.log} and {VENV} are gone")
    elif settings.data_root.is_dir():
        say(f"{settings.data_root} stays: images, containers and volumes; ./down --data removes it")


def _end_containers(settings: Settings, *, remove: bool) -> None:
    """Remove the web service of `./up`; stop the others, or remove them with their anonymous volumes."""
    with contextlib.suppress(Failure):  # it may be gone
        wherry(settings, "rm", "--force", "--volumes", demo.CONTAINER)
    if remove and (ids := wherry(settings, "ps", "--all", "--quiet", "--no-trunc").split()):
        say(f"Removing {len(ids)} container(s)")
        wherry(settings, "rm", "--force", "--volumes", *ids)
    elif ids := wherry(settings, "ps", "--quiet", "--no-trunc").split():
        say(f"Stopping {len(ids)} container(s)")
        wherry(settings, "stop", *ids)


def _remove_bridge(name: str) -> None:
    run([VENV / "bin" / "python3", "-c", _REMOVE_BRIDGE, name], env={"PYTHONPATH": str(VENV.parent / "src")})


def _remove_tree(path: Path) -> None:
    """Remove the folder unless something is mounted in it, which would be somebody's data."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        points = [line.split(" ")[4] for line in mounts]
        if inside := [point for point in points if point.startswith(f"{path}/")]:
            raise Failure(f"{path} stays, since something is still mounted in it: {inside[0]}")
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
