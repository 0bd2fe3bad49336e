"""How a container's first process comes into its cgroup, with the limits in force before the user's command runs.

Plainly the runtime makes the cgroup and moves the process, which on most hosts waits for an RCU grace period. Where
processes may enter by themselves (`Runtime.lets_enter`), what the runtime would have done is done here, in this order:

    prepare()            the cgroup in every hierarchy, while root and network are made
    arrange(resources)   device rules, and the script by which the runtime comes in
    complete(pid)        the runtime has made the process, which waits: it is checked to be inside, limits are set, and
                         the runtime's state names the cgroup

Any step that fails fails the start. Limits come last, since the runtime is inside while it makes the process, and a
container may be allowed one process, or 6 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wherry.engine.containers.layout import Layout
from wherry.errors import SystemFailure
from wherry.linux import cgroups
from wherry.model.failpoints import failpoint
from wherry.model.host import Host
from wherry.model.updates import Write
from wherry.runtime import entering
from wherry.runtime.limits import Plan, planned
from wherry.runtime.oci import Runtime
from wherry.runtime.spec import Json, runtime_refusal


class CgroupEntry:
    """Of one start. All methods block, briefly, and belong in a thread."""

    def __init__(self, host: Host, layout: Layout, runtime: Runtime) -> None:
        self._kind = host.cgroups
        self._layout = layout
        self._runtime = runtime
        self._tasks: list[Path] = []
        self._plan: Plan | None = None

    @property
    def runtime(self) -> Runtime:
        """The one for the monitor to call."""
        if self._runtime.lets_enter:
            return entering.by_way_of(self._runtime, self._layout.bundle)
        return self._runtime

    def prepare(self) -> None:
        """Make the cgroup."""
        if self._runtime.lets_enter:
            self._tasks = cgroups.make(self._layout.cgroup)
            failpoint("start.enter.made")

    def arrange(self, resources: Json) -> None:
        """Set the device rules. Resources that are not known here are left to the runtime, with all the rest."""
        if not self._runtime.lets_enter:
            return
        plan = planned(resources, self._exists)
        if plan is None or not all(self._exists(controller, "tasks") for controller in plan.controllers):
            entering.write_script(self._runtime, (), self._layout.bundle)
            return
        self._fill(plan.rules)
        entering.write_script(self._runtime, self._tasks, self._layout.bundle)
        self._plan = plan
        failpoint("start.enter.ruled")

    def complete(self, pid: int) -> None:
        """Set the limits; `pid` is the first process, which waits."""
        if self._plan is None:  # the runtime has done it
            return
        path = self._layout.cgroup
        if not cgroups.holds(path, pid, len(self._tasks)):
            raise SystemFailure(f"the container's first process has not entered its cgroup {path} in every hierarchy")
        self._fill(self._plan.limits)
        failpoint("start.enter.limited")
        self._runtime.name_cgroup(self._layout.container_id, path)

    def undo(self) -> None:
        """Remove the cgroup of a start that has failed and whose processes are gone."""
        cgroups.remove(self._kind, self._layout.cgroup)

    def _exists(self, controller: str, file: str) -> bool:
        return cgroups.exists(self._kind, self._layout.cgroup, controller, file)

    def _fill(self, plan: Sequence[Write]) -> None:
        try:
            cgroups.fill(self._kind, self._layout.cgroup, plan)
        except SystemFailure as error:
            words = "unable to start container process: unable to apply cgroup configuration"
            raise runtime_refusal(f"{words}: {error}") from None
