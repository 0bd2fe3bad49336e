import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.config import RestartPolicy
from wherry.model.restart import LONGEST_DELAY, next_delay, wants_restart, wants_start_with_engine


@pytest.mark.parametrize(
    ("name", "maximum", "exit_code", "restarts", "wanted"),
    [
        ("no", 0, 1, 0, False),
        ("", 0, 1, 0, False),
        ("always", 0, 0, 99, True),
        ("unless-stopped", 0, 0, 0, True),
        ("on-failure", 0, 0, 0, False),
        ("on-failure", 0, 1, 1000, True),
        ("on-failure", 2, 1, 1, True),
        ("on-failure", 2, 1, 2, False),
    ],
)
def test_policies(name: str, maximum: int, exit_code: int, restarts: int, wanted: bool) -> None:
    policy = RestartPolicy(name, maximum)
    assert wants_restart(policy, exit_code=exit_code, restarts=restarts, stopped_by_user=False) is wanted
    assert not wants_restart(policy, exit_code=exit_code, restarts=restarts, stopped_by_user=True)


def test_only_always_undoes_a_stop_when_the_engine_starts() -> None:
    wanting = [
        name
        for name in ("no", "on-failure", "unless-stopped", "always")
        if wants_start_with_engine(RestartPolicy(name), exit_code=1, restarts=0, stopped_by_user=True)
    ]
    assert wanting == ["always"]


@given(st.lists(st.floats(min_value=0, max_value=9.9), min_size=1, max_size=30))
def test_delays_double_up_to_a_minute(runs: list[float]) -> None:
    delay, seen = 0.0, []
    for ran_for in runs:
        delay = next_delay(delay, ran_for)
        seen.append(delay)
    assert seen == [min(0.1 * 2**n, LONGEST_DELAY) for n in range(len(runs))]
    assert next_delay(delay, 10.0) == 0.1
