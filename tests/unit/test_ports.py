"""Published ports: Docker's reading of them, its words, and who gets which."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidParameter, NotSupported
from wherry.model.config import PortBinding
from wherry.model.ports import (
    Wanted,
    already_allocated,
    candidates,
    cannot_listen,
    parse_container_port,
    parse_range,
    wanted_ports,
)

PORTS = st.integers(1, 65535)


@pytest.mark.parametrize("text", ["abc", "70000", "90-80", "-1", "", "1-", "1-x", "٣", "999999999", " 80"])
def test_host_ports_that_are_none(text: str) -> None:
    with pytest.raises(InvalidParameter) as failure:
        parse_range(text)
    assert str(failure.value) == f'invalid port specification: "{text}"'


@pytest.mark.parametrize("text", ["x", "80-81", "70000", "70000/tcp", "/tcp", ""])
def test_container_ports_that_are_none(text: str) -> None:
    with pytest.raises(InvalidParameter) as failure:
        parse_container_port(text)
    assert str(failure.value) == f'invalid port specification: "{text.partition("/")[0]}"'


def test_protocols() -> None:
    assert parse_container_port("80") == (80, "tcp")
    assert parse_container_port("53/UDP") == (53, "udp")
    with pytest.raises(NotSupported, match="SCTP"):
        parse_container_port("80/sctp")
    with pytest.raises(InvalidParameter, match="invalid transport protocol: foo"):
        parse_container_port("80/foo")


@given(PORTS, PORTS)
def test_ranges(first: int, last: int) -> None:
    text = f"{first}-{last}"
    if first <= last:
        assert parse_range(text) == (first, last)
    else:
        with pytest.raises(InvalidParameter):
            parse_range(text)


def test_a_binding_without_address_means_all() -> None:
    (wanted,) = wanted_ports({"80/tcp": [PortBinding(host_port="8080")]}, [], False)
    assert wanted == Wanted(80, "tcp", ("0.0.0.0", "::"), 8080, 8080, True)
    (wanted,) = wanted_ports({"80/tcp": [PortBinding(host_ip="0:0::1", host_port="8080")]}, [], False)
    assert wanted == Wanted(80, "tcp", ("::1",), 8080, 8080, False)
    with pytest.raises(InvalidParameter, match="invalid IP address: nope"):
        wanted_ports({"80/tcp": [PortBinding(host_ip="nope")]}, [], False)


def test_publishing_all_leaves_alone_what_is_bound() -> None:
    bindings: dict[str, list[PortBinding] | None] = {"80/tcp": [PortBinding(host_port="8080")], "90/tcp": []}
    wanted = wanted_ports(bindings, ["80/tcp", "90/tcp", "100-101/udp"], True)
    assert [(one.container_port, one.protocol, one.first) for one in wanted] == [
        (80, "tcp", 8080),
        (90, "tcp", 0),
        (100, "udp", 0),
        (101, "udp", 0),
    ]
    assert [one.container_port for one in wanted_ports(bindings, ["90/tcp"], False)] == [80]


BINDINGS = st.builds(
    PortBinding,
    host_ip=st.sampled_from(["", "0.0.0.0", "127.0.0.1", "::", "::1"]),
    host_port=st.one_of(
        st.just(""),
        st.just("0"),
        PORTS.map(str),
        st.tuples(PORTS, PORTS).map(lambda ends: f"{min(ends)}-{max(ends)}"),
    ),
)


@given(st.dictionaries(PORTS.map("{}/tcp".format), st.lists(BINDINGS, max_size=3), max_size=4))
def test_fixed_ports_come_first(bindings: dict[str, list[PortBinding]]) -> None:
    wanted = wanted_ports(dict(bindings), [], False)
    assert len(wanted) == sum(len(values) for values in bindings.values())
    kinds = [(one.first == 0, one.first != one.last) for one in wanted]
    assert kinds == sorted(kinds)


@given(st.integers(0, 70000))
def test_free_ports_are_tried_all_round(start: int) -> None:
    ephemeral = range(32768, 32800)
    wanted = Wanted(80, "tcp", ("0.0.0.0",), 0, 0, True)
    tried = list(candidates(wanted, ephemeral, start))
    assert sorted(tried) == list(ephemeral)
    assert tried[0] == (start if start in ephemeral else 32768)


def test_a_range_is_tried_in_order() -> None:
    wanted = Wanted(80, "tcp", ("0.0.0.0",), 8080, 8082, True)
    assert list(candidates(wanted, range(0), 0)) == [8080, 8081, 8082]


def test_words() -> None:
    assert already_allocated("0.0.0.0", 80) == "Bind for 0.0.0.0:80 failed: port is already allocated"
    assert already_allocated("::", 80) == "Bind for [::]:80 failed: port is already allocated"
    assert (
        cannot_listen("tcp", "::", 8997, "Address already in use")
        == "Error starting userland proxy: listen tcp6 [::]:8997: bind: address already in use"
    )
    assert (
        cannot_listen("udp", "10.9.9.9", 1, "Cannot assign requested address")
        == "Error starting userland proxy: listen udp4 10.9.9.9:1: bind: cannot assign requested address"
    )
