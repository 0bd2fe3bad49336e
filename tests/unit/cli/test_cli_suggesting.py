"""What may have been meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.cli.commandline import resolve
from wherry.cli.errors import Failure
from wherry.cli.suggesting import did_you_mean, distance


@pytest.mark.parametrize(
    ("first", "second", "far"),
    [("run", "rnu", 1), ("run", "run", 0), ("", "ab", 2), ("stop", "stpo", 1), ("images", "image", 1), ("cp", "ps", 2)],
)
def test_distance(first: str, second: str, far: int) -> None:
    assert distance(first, second) == far


@given(st.text(max_size=8), st.text(max_size=8))
def test_distance_goes_both_ways(first: str, second: str) -> None:
    assert distance(first, second) == distance(second, first) <= max(len(first), len(second))
    assert (distance(first, second) == 0) == (first == second)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("rnu", "\n\nDid you mean run?"),
        ("imagse", "\n\nDid you mean images?"),
        ("foo", ""),
        ("xyzzyx", ""),
        ("stat", "\n\nDid you mean start or stats?"),
    ],
)
def test_the_nearest_words(word: str, said: str) -> None:
    assert did_you_mean(word, ["run", "rm", "images", "start", "stats", "top", "cp"]) == said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rnu"], "wherry: unknown command: wherry rnu\n\nDid you mean run?\n\nRun"),
        (["container", "lss"], "unknown command: wherry container lss\n\nDid you mean ls?\n\nUsage:"),
        (["run", "--detahc", "x"], "unknown flag: --detahc\n\nDid you mean --detach?\n\nUsage:"),
        (["netwrk"], "Did you mean network?"),
    ],
)
def test_errors_name_them(words: list[str], said: str) -> None:
    with pytest.raises(Failure) as refused:
        resolve(words)
    assert said in str(refused.value)
