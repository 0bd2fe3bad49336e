"""Addresses of one network: never given out twice, and not again before they have rested."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wherry.errors import InvalidParameter, SystemFailure
from wherry.model.ipam import Addresses, Exhausted, choose_gateway, gateway_of, mac_of

SMALL = IPv4Network("10.0.0.0/28")
GATEWAY = IPv4Address("10.0.0.1")
HOSTS = frozenset(SMALL.hosts()) - {GATEWAY}


class Allocating(RuleBasedStateMachine):
    """A small network under any sequence of requests, against a plain model of it."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses = Addresses(SMALL, [GATEWAY], rest=1.0)
        self.now = 0.0
        self.taken: set[IPv4Address] = set()
        self.freed: dict[IPv4Address, float] = {}

    @rule()
    def allocate(self) -> None:
        try:
            found = self.addresses.allocate(self.now)
        except Exhausted:
            assert self.taken == HOSTS
            return
        assert found in HOSTS - self.taken
        rested = {address for address in HOSTS - self.taken if self.freed.get(address, -1.0) + 1.0 <= self.now}
        if rested:
            assert found == min(rested)
        else:  # better one that has not rested than none
            assert found == min(self.freed, key=lambda address: self.freed[address])
        self.taken.add(found)
        self.freed.pop(found, None)

    @rule(address=st.sampled_from(sorted(HOSTS)))
    def take(self, address: IPv4Address) -> None:
        assert self.addresses.take(address) == (address not in self.taken)
        self.taken.add(address)
        self.freed.pop(address, None)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.taken)))
        self.addresses.free(address, self.now)
        self.taken.remove(address)
        self.freed[address] = self.now
        self.now += 0.001  # no two at once: which of them is older would be open

    @rule(address=st.sampled_from(sorted(HOSTS)))
    def free_what_is_free(self, address: IPv4Address) -> None:
        if address not in self.taken:
            self.addresses.free(address, self.now)

    @rule(seconds=st.sampled_from([0.01, 0.5, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def strangers_are_refused(self) -> None:
        assert not self.addresses.take(GATEWAY)
        assert not self.addresses.take(IPv4Address("10.0.1.5"))


TestAllocating = Allocating.TestCase
TestAllocating.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_the_gateway_is_the_first_of_the_first_free_pool() -> None:
    assert choose_gateway([]) == IPv4Interface("172.17.0.1/16")
    default = IPv4Network("0.0.0.0/0")
    assert choose_gateway([default]) == IPv4Interface("172.17.0.1/16")
    docker = IPv4Network("172.17.0.0/16")
    assert choose_gateway([docker, IPv4Network("172.18.5.0/24")]) == IPv4Interface("172.19.0.1/16")
    assert choose_gateway([IPv4Network("172.16.0.0/12")]) == IPv4Interface("192.168.0.1/20")


def test_no_pool_is_left() -> None:
    with pytest.raises(SystemFailure, match="non-overlapping IPv4 address pool"):
        choose_gateway([IPv4Network("172.16.0.0/12"), IPv4Network("192.168.0.0/16")])


@given(st.lists(st.builds(IPv4Network, st.tuples(st.integers(0, 2**32 - 1), st.integers(8, 32)), st.just(False))))
def test_the_choice_overlaps_nothing(in_use: list[IPv4Network]) -> None:
    try:
        chosen = choose_gateway(in_use)
    except SystemFailure:
        return
    assert not any(chosen.network.overlaps(network) for network in in_use)


def test_bip() -> None:
    assert gateway_of("10.9.8.1/24") == IPv4Interface("10.9.8.1/24")
    for wrong in ("10.9.8.1", "x", "", "10.9.8.1/33", "10.9.8.0/24", "10.9.8.255/24", "10.9.8.1/32"):
        with pytest.raises(InvalidParameter):
            gateway_of(wrong)


def test_hardware_address() -> None:
    assert mac_of(IPv4Address("172.17.0.3")) == "02:42:ac:11:00:03"
