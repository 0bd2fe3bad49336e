"""The states of a container and every transition between them, as one table.

The names are those of Docker's `State.Status`; CREATING and STARTING are ours: they exist so that a
crash in the middle is recognised at the next start. A container being created is found by nobody; one that is starting
shows as what it was before (`State.shown`).
"""

from __future__ import annotations

import enum


class Status(enum.Enum):
    CREATING = "creating"
    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    EXITED = "exited"
    REMOVING = "removing"
    DEAD = "dead"

    @property
    def alive(self) -> bool:
        """A process exists."""
        return self in (Status.RUNNING, Status.PAUSED)


class Happening(enum.Enum):
    """What can happen to a container."""

    MADE = "made"
    START = "start asked"
    STARTED = "process started"
    START_FAILED = "start failed"
    PAUSE = "paused"
    UNPAUSE = "unpaused"
    EXIT = "process ended"
    BACK_OFF = "process ended, restart scheduled"
    GIVE_UP = "scheduled restart cancelled"
    REMOVE = "removal asked"
    REMOVE_FAILED = "removal failed"


S, H = Status, Happening

TRANSITIONS: dict[tuple[Status, Happening], Status] = {
    (S.CREATING, H.MADE): S.CREATED,
    (S.CREATED, H.START): S.STARTING,
    (S.EXITED, H.START): S.STARTING,
    (S.RESTARTING, H.START): S.STARTING,
    (S.STARTING, H.STARTED): S.RUNNING,
    (S.STARTING, H.START_FAILED): S.EXITED,
    (S.RUNNING, H.PAUSE): S.PAUSED,
    (S.PAUSED, H.UNPAUSE): S.RUNNING,
    (S.RUNNING, H.EXIT): S.EXITED,
    (S.PAUSED, H.EXIT): S.EXITED,
    (S.RUNNING, H.BACK_OFF): S.RESTARTING,
    (S.PAUSED, H.BACK_OFF): S.RESTARTING,
    (S.RESTARTING, H.GIVE_UP): S.EXITED,
    (S.CREATED, H.REMOVE): S.REMOVING,
    (S.EXITED, H.REMOVE): S.REMOVING,
    (S.RESTARTING, H.REMOVE): S.REMOVING,
    (S.DEAD, H.REMOVE): S.REMOVING,
    (S.REMOVING, H.REMOVE_FAILED): S.DEAD,
}


class ImpossibleTransition(Exception):
    """A defect in the caller: it must refuse by `Status` before it asks the table."""


def after(status: Status, happening: Happening) -> Status:
    """The status that follows. Raises ImpossibleTransition where the table has no row."""
    try:
        return TRANSITIONS[status, happening]
    except KeyError:
        raise ImpossibleTransition(f"a container that is {status.value}: {happening.value}") from None
