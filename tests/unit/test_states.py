import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.states import TRANSITIONS, Happening, ImpossibleTransition, Status, after


def test_every_status_can_be_reached_and_left_for_removal() -> None:
    reached = {Status.CREATING}
    while True:
        more = {target for (source, _), target in TRANSITIONS.items() if source in reached} - reached
        if not more:
            break
        reached |= more
    assert reached == set(Status)


def test_only_a_process_that_lives_can_end() -> None:
    ends = {source for source, happening in TRANSITIONS if happening in (Happening.EXIT, Happening.BACK_OFF)}
    assert ends == {status for status in Status if status.alive}


@given(st.sampled_from(Status), st.sampled_from(Happening))
def test_what_the_table_lacks_is_refused(status: Status, happening: Happening) -> None:
    if (status, happening) in TRANSITIONS:
        assert after(status, happening) is TRANSITIONS[status, happening]
    else:
        with pytest.raises(ImpossibleTransition, match=status.value):
            after(status, happening)


@given(st.lists(st.sampled_from(Happening), max_size=30))
def test_nothing_removed_comes_back(happenings: list[Happening]) -> None:
    status = Status.REMOVING
    for happening in happenings:
        if (status, happening) in TRANSITIONS:
            status = after(status, happening)
    assert status in (Status.REMOVING, Status.DEAD)
