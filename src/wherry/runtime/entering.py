"""Processes that enter their container's cgroups by themselves, 10 to 15 ms sooner (cgroup v1 and hybrid hosts).

crun moves a new process into its cgroups by PID, and the kernel makes the writer of a PID wait for an RCU grace period.
A thread that moves itself by writing 0 to `tasks` does not wait: it cannot exit or exec meanwhile
(cgroup_procs_write_start in kernel/cgroup/cgroup.c). So a shell enters first and then executes crun, whose children are
there from the start, and crun is told to leave cgroups alone: for a container by its option, for an exec by a copy of
the container's state that names none. Only for a familiar crun: that state is its own affair. The v2 tree of a hybrid
host, which controls nothing, is not entered: there a move always waits.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wherry.runtime.oci import Runtime

SHELL = Path("/bin/sh")
SCRIPT = "enter"
NO_CGROUPS = "--cgroup-manager=disabled"


def by_way_of(runtime: Runtime, folder: Path) -> Runtime:
    """The runtime for one container's `create`, by way of the script that `write_script` puts into `folder`."""
    return replace(runtime, program=SHELL, arguments=(str(folder / SCRIPT),))


def write_script(runtime: Runtime, tasks: Sequence[Path], folder: Path) -> None:
    """The script for one container. Without `tasks` (the files to write to) it leaves cgroups to the runtime."""
    options = [NO_CGROUPS] if tasks else []
    (folder / SCRIPT).write_text(script_text(tasks, runtime.executable, *options))


def entering(runtime: Runtime, container_id: str, tasks: Sequence[Path], folder: Path) -> Runtime:
    """The runtime for one exec, by way of a script and a state directory made in `folder` (blocking).

    `tasks` are the files to write to, one in each v1 hierarchy. Raises OSError if the container is gone.
    """
    own = runtime.state / container_id
    state = folder / "state" / container_id
    state.mkdir(parents=True, mode=0o700)
    for file in own.iterdir():
        if file.name != "status":
            (state / file.name).symlink_to(file)
    status = json.loads((own / "status").read_bytes())
    (state / "status").write_text(json.dumps({**status, "cgroup-path": ""}))
    (folder / SCRIPT).write_text(script_text(tasks, runtime.executable))
    return replace(by_way_of(runtime, folder), state=state.parent)


def script_text(tasks: Sequence[Path], program: Path, *options: str) -> str:
    """The script: a process that cannot enter everywhere does not run."""
    enter = [f"echo 0 >{shlex.quote(str(file))}" for file in tasks]
    words = shlex.join([str(program), *options])
    return "\n".join(["set -e", *enter, f'exec {words} "$@"']) + "\n"
