"""Firewall scripts as values: which ports, which chains of others, which rules are ours."""

from __future__ import annotations

from typing import Any

from wherry.model.container import PublishedPort
from wherry.model.firewall import (
    DOCKER_USER,
    FIREWALLD,
    IPTABLES,
    UFW_USER,
    Place,
    add_accepts,
    add_elements,
    droppers,
    is_accept,
    places,
    redirections,
)


def port(host_ip: str, protocol: str = "tcp") -> PublishedPort:
    return PublishedPort(protocol=protocol, container_port=80, host_ip=host_ip, host_port=8080)


def chain(place: Place, **more: str) -> dict[str, Any]:
    return {"family": place.family, "table": place.table, "name": place.chain, **more}


def test_elements() -> None:
    redirected = redirections([port("0.0.0.0"), port("::"), port("127.0.0.1", "udp")], "172.17.0.2")
    assert add_elements("wherry0", redirected).splitlines() == [
        "add element ip wherry0 published_any { tcp . 8080 : 172.17.0.2 . 80 }",
        "add element ip wherry0 published { 127.0.0.1 . udp . 8080 : 172.17.0.2 . 80 }",
    ]


def test_places() -> None:
    dropping = chain(IPTABLES, hook="forward", policy="drop")
    assert places([]) == []
    assert places([chain(IPTABLES, hook="forward", policy="accept")]) == []
    assert places([dropping]) == [IPTABLES]
    assert places([dropping, chain(UFW_USER)]) == [UFW_USER]
    assert places([dropping, chain(UFW_USER), chain(DOCKER_USER)]) == [DOCKER_USER]
    assert places([dropping, chain(DOCKER_USER), chain(FIREWALLD)]) == [DOCKER_USER, FIREWALLD]


def test_what_cannot_be_helped_is_named() -> None:
    own = chain(Place("inet", "mine", "f"), hook="forward", policy="drop")
    dropping = chain(IPTABLES, hook="forward", policy="drop")
    assert droppers([own, dropping], "wherry0", [IPTABLES]) == ["inet mine f"]
    assert droppers([{**own, "hook": "input"}, {**own, "policy": "accept"}], "wherry0", []) == []


def test_one_plain_match_a_rule() -> None:
    """A set would become accept-everything after iptables-save and iptables-restore."""
    for line in add_accepts(DOCKER_USER, "wherry0", ["iifname", "oifname"]).splitlines():
        assert line.split(" counter ")[0] in (
            'insert rule ip filter DOCKER-USER iifname "wherry0"',
            'insert rule ip filter DOCKER-USER oifname "wherry0"',
        )


def test_ours_is_what_does_what_ours_does() -> None:
    match = {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "wherry0"}}
    counter = {"counter": {"packets": 5, "bytes": 6}}
    assert is_accept({"expr": [match, counter, {"accept": None}]}, "iifname", "wherry0")
    assert is_accept({"expr": [match, {"accept": None}], "comment": "x"}, "iifname", "wherry0")
    assert not is_accept({"expr": [match, counter, {"accept": None}]}, "oifname", "wherry0")
    assert not is_accept({"expr": [match, counter, {"drop": None}]}, "iifname", "wherry0")
    assert not is_accept({"expr": [counter, {"accept": None}]}, "iifname", "wherry0")
