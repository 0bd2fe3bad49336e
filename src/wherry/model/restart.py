"""Restart policies: pure rules (Docker's documentation, "Start containers automatically")."""

from __future__ import annotations

from wherry.model.config import RestartPolicy

FIRST_DELAY = 0.1  # seconds
LONGEST_DELAY = 60.0
HEALTHY_RUN = 10.0  # a run of this many seconds starts the back-off anew


def wants_restart(policy: RestartPolicy, *, exit_code: int, restarts: int, stopped_by_user: bool) -> bool:
    """Whether a container that has just ended is to be started again."""
    if stopped_by_user:
        return False
    if policy.name in ("always", "unless-stopped"):
        return True
    if policy.name == "on-failure" and exit_code != 0:
        return policy.maximum_retry_count == 0 or restarts < policy.maximum_retry_count
    return False


def wants_start_with_engine(policy: RestartPolicy, *, exit_code: int, restarts: int, stopped_by_user: bool) -> bool:
    """Whether one that does not run is to be started when the engine starts: `always` even if it was stopped."""
    if policy.name == "always":
        return True
    return wants_restart(policy, exit_code=exit_code, restarts=restarts, stopped_by_user=stopped_by_user)


def next_delay(previous: float, ran_for: float) -> float:
    """Seconds to wait before the next start: doubled each time, from the beginning after a healthy run."""
    if previous <= 0 or ran_for >= HEALTHY_RUN:
        return FIRST_DELAY
    return min(previous * 2, LONGEST_DELAY)
