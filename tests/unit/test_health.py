"""Health checks as rules: what is run and when, and what results come to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.config import Config, Healthcheck
from wherry.model.health import (
    HEALTHY,
    KEPT_OUTPUT,
    KEPT_RESULTS,
    STARTING,
    UNHEALTHY,
    Check,
    Health,
    Output,
    ProbeResult,
    judged,
    started,
    suspended,
    too_slow,
)

SECOND = 10**9


def result(code: int, at: int = 0) -> ProbeResult:
    return ProbeResult(start=at, end=at + 1, exit_code=code, output="")


@pytest.mark.parametrize(
    ("test", "shell", "argv"),
    [
        (["CMD", "a", "b c"], None, ("a", "b c")),
        (["CMD-SHELL", "a && b"], None, ("/bin/sh", "-c", "a && b")),
        (["CMD-SHELL", "a"], ["/bin/bash", "-ec"], ("/bin/bash", "-ec", "a")),
        (["CMD"], None, ()),
    ],
)
def test_what_is_run(test: list[str], shell: list[str] | None, argv: tuple[str, ...]) -> None:
    check = Check.of(Config(healthcheck=Healthcheck(test=test), shell=shell))
    assert check is not None
    assert check == Check(argv=argv)
    assert (check.interval, check.timeout, check.start_period) == (30 * SECOND, 30 * SECOND, 0)
    assert (check.start_interval, check.retries) == (5 * SECOND, 3)


@pytest.mark.parametrize("test", [None, [], ["NONE"], ["X", "true"], [""]])
def test_nothing_is_run(test: list[str] | None) -> None:
    assert Check.of(Config(healthcheck=Healthcheck(test=test))) is None
    assert Check.of(Config()) is None


CODES = st.lists(st.sampled_from([0, 0, 1, 2, -1, 137]), max_size=30)


@given(codes=CODES, retries=st.integers(1, 5))
def test_status_follows_from_the_results(codes: list[int], retries: int) -> None:
    check, health = Check(("x",), retries=retries), started(None)
    for at, code in enumerate(codes):
        health = judged(health, result(code, at), check, started_at=0)
    last_good = max((index for index, code in enumerate(codes) if code == 0), default=None)
    streak = len(codes) if last_good is None else len(codes) - 1 - last_good
    assert health.failing_streak == streak
    if streak >= retries:
        assert health.status == UNHEALTHY
    else:
        assert health.status == (STARTING if last_good is None else HEALTHY)
    assert [entry.exit_code for entry in health.log] == codes[-KEPT_RESULTS:]


@given(codes=CODES, period=st.integers(0, 30))
def test_in_the_start_period_only_success_counts(codes: list[int], period: int) -> None:
    check, health = Check(("x",), retries=1, start_period=period), started(None)
    for at, code in enumerate(codes):
        before = health
        health = judged(health, result(code, at), check, started_at=0)
        if at < period and code != 0 and before.status == STARTING:
            assert (health.status, health.failing_streak) == (STARTING, before.failing_streak)
    if any(code == 0 for code in codes) or len(codes) > period:
        assert health.status != STARTING


@given(
    age=st.integers(0, 10**12),
    period=st.integers(0, 10**12),
    status=st.sampled_from([STARTING, HEALTHY, UNHEALTHY]),
)
def test_the_start_interval_is_for_starting_ones_in_their_start_period(age: int, period: int, status: str) -> None:
    check = Check(("x",), interval=7, start_interval=3, start_period=period)
    assert check.interval_now(Health(status=status), age=age) == (3 if age < period and status == STARTING else 7)


@given(started_at=st.integers(0, 10**6), last=st.integers(0, 10**6) | st.none(), now=st.integers(0, 2 * 10**6))
def test_a_new_daemon_goes_on_where_the_old_one_stopped(started_at: int, last: int | None, now: int) -> None:
    check = Check(("x",), interval=1000)
    health = Health(log=() if last is None else (ProbeResult(start=last, end=last, exit_code=0, output=""),))
    wait = check.first_wait(health, started_at=started_at, now=now)
    assert 0 <= wait <= check.interval  # whatever the clock did
    if 0 < wait < check.interval:
        assert now + wait == max(last or 0, started_at) + check.interval


def test_a_start_begins_anew_and_keeps_the_results() -> None:
    old = Health(status=UNHEALTHY, failing_streak=4, log=(result(1),))
    assert started(old) == Health(status=STARTING, failing_streak=0, log=(result(1),))


def test_who_is_not_looked_at_is_not_healthy() -> None:
    assert suspended(Health(status=HEALTHY)).status == UNHEALTHY
    assert judged(suspended(Health(status=HEALTHY)), result(0), Check(("x",)), started_at=0).status == HEALTHY


def test_text() -> None:
    assert [Health(status=status).text for status in (STARTING, HEALTHY, UNHEALTHY)] == [
        "health: starting",
        "healthy",
        "unhealthy",
    ]


@given(pieces=st.lists(st.binary(max_size=3000), max_size=6))
def test_output_is_bounded(pieces: list[bytes]) -> None:
    output = Output()
    for piece in pieces:
        output.add(piece)
    whole = b"".join(pieces)
    ending = "..." if len(whole) > KEPT_OUTPUT else ""
    assert output.text == whole[:KEPT_OUTPUT].decode(errors="replace") + ending


def test_a_slow_probe() -> None:
    output = Output()
    assert too_slow(output, 1500 * 10**6) == "Health check exceeded timeout (1.5s)"
    output.add(b"so far")
    assert too_slow(output, 60 * SECOND) == "Health check exceeded timeout (1m0s): so far"
