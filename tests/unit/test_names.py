"""Capabilities, signals and CPU lists: names and numbers."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidParameter
from wherry.model import capabilities, cpusets, signals

names = st.sampled_from(capabilities.ALL)
spellings = names.flatmap(lambda n: st.sampled_from([n, n.lower(), n.removeprefix("CAP_"), n[4:].lower()]))


def test_numbers_are_the_kernels() -> None:
    assert capabilities.NUMBERS["CAP_CHOWN"] == 0
    assert capabilities.NUMBERS["CAP_SYS_ADMIN"] == 21
    assert capabilities.NUMBERS["CAP_CHECKPOINT_RESTORE"] == 40


def test_the_default_set_has_dockers_mask() -> None:
    assert sum(1 << capabilities.NUMBERS[name] for name in capabilities.DEFAULT) == 0xA80425FB


@given(st.lists(spellings), st.lists(spellings))
def test_single_adds_and_drops_apply_to_the_default_set(add: list[str], drop: list[str]) -> None:
    held = set(capabilities.resolve(add, drop, privileged=False))
    added, dropped = set(capabilities.normalise(add)), set(capabilities.normalise(drop))
    assert held == (set(capabilities.DEFAULT) - dropped) | added


@given(st.lists(spellings))
def test_dropping_all_leaves_what_is_added(add: list[str]) -> None:
    assert set(capabilities.resolve(add, ["all"], privileged=False)) == set(capabilities.normalise(add))


@given(st.lists(spellings))
def test_adding_all_leaves_out_what_is_dropped(drop: list[str]) -> None:
    held = capabilities.resolve(["ALL"], drop, privileged=False)
    assert set(held) == set(capabilities.ALL) - set(capabilities.normalise(drop))


@given(st.sets(names))
def test_nothing_is_handed_out_that_is_not_held(available: set[str]) -> None:
    assert set(capabilities.resolve(None, None, privileged=True, available=available)) == available
    assert set(capabilities.resolve(None, None, privileged=False, available=available)) <= available


def test_refusals_name_the_field() -> None:
    with pytest.raises(InvalidParameter, match=r'^invalid CapAdd: unknown capability: "CAP_X"$'):
        capabilities.validate(["x"], None)
    with pytest.raises(
        InvalidParameter, match=r'^invalid CapDrop: capability not supported by your kernel .*CAP_BPF"$'
    ):
        capabilities.validate(None, ["bpf"], available=capabilities.DEFAULT)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("TERM", 15),
        ("sigterm", 15),
        ("9", 9),
        ("SIGRTMIN+3", 37),
        ("rtmax-1", 63),
        ("RTMIN", 34),
        ("64", 64),
        ("CLD", 17),
    ],
)
def test_signals(text: str, number: int) -> None:
    assert signals.parse(text) == number


@given(st.sampled_from([s for s in signal.Signals if s < 32]))
def test_a_signals_name_parses_back(member: signal.Signals) -> None:
    assert signals.parse(signals.name(member)) == member


@pytest.mark.parametrize("text", ["NOPE", "0", "", "SIG", "1.5", "15 ", "٣"])
def test_no_signals(text: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^invalid signal: {text}"):
        signals.parse(text)


@pytest.mark.parametrize("text", ["32", "33", "65", "-1"])
def test_numbers_that_are_no_signals(text: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^the linux daemon does not support signal {text}"):
        signals.parse(text)


@given(st.sets(st.integers(0, 100), min_size=1))
def test_a_list_of_cpus_reads_back(numbers: set[int]) -> None:
    assert cpusets.parse(",".join(map(str, sorted(numbers)))) == numbers


@given(st.integers(0, 200), st.integers(0, 200))
def test_ranges_of_cpus(low: int, size: int) -> None:
    assert cpusets.parse(f"{low}-{low + size}") == set(range(low, low + size + 1))


@pytest.mark.parametrize("text", ["x", "1-0", "1-", "-1", "0,,1", "٣", " 1", "1-2-3"])
def test_no_lists_of_cpus(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid format: "):
        cpusets.parse(text)
