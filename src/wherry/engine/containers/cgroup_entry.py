"""How a container's first process comes into its cgroup, with the limits in force before the user's command runs.

Plainly the runtime makes the cgroup and moves the process, which waits for an RCU grace period. Where processes can
enter by themselves (`Runtime.hierarchies`), what the runtime would have done is done here, in this order:

    prepare()          the cgroup in every hierarchy, while root and network are made
    rule(resources)    device rules, before the runtime is let go
    check(pid)         the runtime has made the process, which waits: is it inside?
    limit()            the limits

Any step that fails fails the start. Limits come last, since the runtime is inside while it makes the process, and a
container may be allowed one process, or 6 MB.
"""

from __future__ import annotations

from collections.abc import Sequence

from wherry.engine.containers.layout import Layout
from wherry.errors import SystemFailure
from wherry.linux import cgroups
from wherry.model.failpoints import failpoint
from wherry.model.host import Host
from wherry.model.updates import Write
from wherry.runtime import entering
from wherry.runtime.limits import planned
from wherry.runtime.oci import Runtime
from wherry.runtime.spec import Json, runtime_refusal


class CgroupEntry:
    """Of one start; where the runtime does it all, none of this does anything. All but `check` belong in a thread."""

    def __init__(self, host: Host, layout: Layout, runtime: Runtime) -> None:
        self._kind = host.cgroups
        self._path = layout.cgroup
        self._hierarchies = runtime.hierarchies
        self.limits: tuple[Write, ...] = ()
        self.runtime = entering.for_create(runtime, self._path) if runtime.hierarchies else runtime

    def prepare(self) -> None:
        """Make the cgroup."""
        if self._hierarchies:
            cgroups.make(self._hierarchies, self._path)
            failpoint("start.enter.made")

    def rule(self, resources: Json) -> None:
        """Set the device rules."""
        if self._hierarchies:
            plan = planned(resources, self._exists)
            self._fill(plan.rules)
            self.limits = plan.limits
            failpoint("start.enter.ruled")

    def check(self, pid: int) -> None:
        """Raises SystemFailure unless the first process, `pid`, is inside."""
        if self._hierarchies and not cgroups.holds(self._path, pid, len(self._hierarchies)):
            raise SystemFailure(f"the container's first process has not entered its cgroup {self._path} everywhere")

    def limit(self) -> None:
        """Set the limits."""
        self._fill(self.limits)
        failpoint("start.enter.limited")

    def undo(self) -> None:
        """Remove the cgroup of a start that has failed and whose processes are gone."""
        cgroups.remove(self._kind, self._path)

    def _exists(self, controller: str, file: str) -> bool:
        return cgroups.exists(self._kind, self._path, controller, file)

    def _fill(self, plan: Sequence[Write]) -> None:
        try:
            cgroups.fill(self._kind, self._path, plan)
        except SystemFailure as error:
            words = "unable to start container process: unable to apply cgroup configuration"
            raise runtime_refusal(f"{words}: {error}") from None
