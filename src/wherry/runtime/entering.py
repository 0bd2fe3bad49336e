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
NO_CGROUPS = "--cgroup-manager=disabled"


def with_script(runtime: Runtime, hierarchies: Sequence[str], path: Path) -> Runtime:
    """A runtime whose processes can enter by themselves, with the script for it written to `path`.

    `hierarchies` are the folders of the v1 hierarchies.
    """
    whole = path.with_suffix(".new")
    whole.write_text(script_text(hierarchies, runtime.executable))
    whole.replace(path)
    return replace(runtime, hierarchies=tuple(hierarchies), entering=path)


def for_create(runtime: Runtime, cgroup: str) -> Runtime:
    """The runtime for one container's `create` inside a cgroup such as `/wherry/ID`."""
    return replace(runtime, program=SHELL, arguments=(str(runtime.entering), cgroup, NO_CGROUPS))


def for_exec(runtime: Runtime, container_id: str, cgroup: str, folder: Path) -> Runtime:
    """The runtime for one exec, with a state directory of its own made in `folder` (blocking).

    Raises OSError if the container is gone.
    """
    own = runtime.state / container_id
    state = folder / "state" / container_id
    state.mkdir(parents=True, mode=0o700)
    for file in own.iterdir():
        if file.name != "status":
            (state / file.name).symlink_to(file)
    status = json.loads((own / "status").read_bytes())
    (state / "status").write_text(json.dumps({**status, "cgroup-path": ""}))
    return replace(runtime, program=SHELL, arguments=(str(runtime.entering), cgroup), state=state.parent)


def script_text(hierarchies: Sequence[str], program: Path) -> str:
    """`sh SCRIPT CGROUP ARGUMENT...`: into that cgroup wherever there is one, then the program.

    A process that cannot enter a cgroup that is there does not run. A container made before a hierarchy was mounted has
    none in it.
    """
    files = [f'{shlex.quote(hierarchy)}"$cgroup/tasks"' for hierarchy in hierarchies]
    enter = [f"if test -e {file}; then echo 0 >{file}; fi" for file in files]
    return "\n".join(["set -e", "cgroup=$1", "shift", *enter, f'exec {shlex.quote(str(program))} "$@"']) + "\n"
