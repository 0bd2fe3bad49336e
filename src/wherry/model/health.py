"""Health checks: what is to be run and when, and what results come to (Docker's HEALTHCHECK, API `Health`).

    check = Check.of(container.config)              # None where there is nothing to run
    health = started(container.state.health)        # at each start
    health = judged(health, result, check, started_at=...)
    delay = check.interval_now(health, age=now - started_at)

Values only; times and durations are nanoseconds. The scheduler is `wherry.engine.health`.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct
from msgspec.structs import replace

from wherry.model.config import Config
from wherry.model.durations import format_duration

STARTING, HEALTHY, UNHEALTHY, NONE = "starting", "healthy", "unhealthy", "none"

KEPT_RESULTS = 5
KEPT_OUTPUT = 4096  # bytes of one result
FAILED = -1  # exit code of a probe that could not be run or took too long

_SECOND = 1_000_000_000
_INTERVAL = 30 * _SECOND
_TIMEOUT = 30 * _SECOND
_START_INTERVAL = 5 * _SECOND
_RETRIES = 3
_SHELL = ("/bin/sh", "-c")


class ProbeResult(Struct, frozen=True, kw_only=True):
    """One run of the check."""

    start: int
    end: int
    exit_code: int
    output: str


class Health(Struct, frozen=True, kw_only=True):
    """What is known of a container's health. `log` has the last results, oldest first."""

    status: str = STARTING
    failing_streak: int = 0
    log: tuple[ProbeResult, ...] = ()

    @property
    def text(self) -> str:
        """As `docker ps` has it in parentheses."""
        return "health: starting" if self.status == STARTING else self.status


@dataclass(frozen=True)
class Check:
    """A health check with every default filled in."""

    argv: tuple[str, ...]
    interval: int = _INTERVAL
    timeout: int = _TIMEOUT
    start_period: int = 0
    start_interval: int = _START_INTERVAL
    retries: int = _RETRIES

    @classmethod
    def of(cls, config: Config) -> Check | None:
        """The check of a container; None if it has none, is `NONE`, or is of a kind that Docker does not run."""
        asked = config.healthcheck
        kind, *words = (asked.test if asked is not None else None) or [NONE]
        if asked is None or kind not in ("CMD", "CMD-SHELL"):
            return None
        return cls(
            argv=tuple(words) if kind == "CMD" else (*(config.shell or _SHELL), *words),
            interval=asked.interval or _INTERVAL,
            timeout=asked.timeout or _TIMEOUT,
            start_period=asked.start_period,
            start_interval=asked.start_interval or _START_INTERVAL,
            retries=asked.retries or _RETRIES,
        )

    def interval_now(self, health: Health, *, age: int) -> int:
        """How long to wait until the next probe of a container that was started `age` ago."""
        early = max(0, age) < self.start_period  # a clock that was set back makes it no younger
        return self.start_interval if early and health.status == STARTING else self.interval

    def first_wait(self, health: Health, *, started_at: int, now: int) -> int:
        """How long to wait for the next probe of a container that is found running: as if nobody had been away."""
        last = health.log[-1].end if health.log else 0
        due = max(last, started_at) + self.interval_now(health, age=now - started_at)
        return min(max(0, due - now), self.interval_now(health, age=now - started_at))


def started(previous: Health | None) -> Health:
    """At a start: nothing is known yet; the results of former runs stay, as in Docker."""
    return Health(log=previous.log if previous is not None else ())


def suspended(health: Health) -> Health:
    """Nobody looks any more, since it is paused or has ended: Docker calls it unhealthy until the next good result."""
    return replace(health, status=UNHEALTHY)


def judged(health: Health, result: ProbeResult, check: Check, *, started_at: int) -> Health:
    """What a result comes to. Failures within the start period of a container that was never healthy do not count."""
    log = (*health.log, result)[-KEPT_RESULTS:]
    if result.exit_code == 0:
        return Health(status=HEALTHY, log=log)
    if health.status == STARTING and result.start - started_at < check.start_period:
        return replace(health, log=log)
    streak = health.failing_streak + 1
    return Health(status=UNHEALTHY if streak >= check.retries else health.status, failing_streak=streak, log=log)


class Output:
    """The beginning of what a probe writes, bounded."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._cut = False

    def add(self, data: bytes) -> None:
        room = KEPT_OUTPUT - len(self._kept)
        self._kept += data[:room]
        self._cut = self._cut or len(data) > room

    @property
    def text(self) -> str:
        return self._kept.decode(errors="replace") + ("..." if self._cut else "")


def too_slow(output: Output, timeout: int) -> str:
    """What is told of a probe that was killed for taking longer than `timeout`."""
    told = f"Health check exceeded timeout ({format_duration(timeout)})"
    return f"{told}: {output.text}" if output.text else told
