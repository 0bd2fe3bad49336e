"""Links between containers: grammar, variables, lines of hosts files."""

from __future__ import annotations

import pytest

from wherry.errors import SystemFailure
from wherry.model.links import Link, Linked, environment, host_line, parse, shown, with_line


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("db", ("db", "db")),
        ("db:data", ("db", "data")),
        ("/db:/web/data", ("db", "data")),
        ("db:a/b", ("db", "a/b")),
        (":", ("", "")),
    ],
)
def test_grammar(written: str, meant: tuple[str, str]) -> None:
    assert parse(written) == meant


@pytest.mark.parametrize(
    ("written", "message"), [("", "empty string specified for links"), ("a:b:c", "bad format for links: a:b:c")]
)
def test_malformed(written: str, message: str) -> None:
    with pytest.raises(SystemFailure) as refused:
        parse(written)
    assert str(refused.value) == message


def test_variables() -> None:
    link = Linked(
        "/web/my-db", "db", "box", "10.0.0.2", ["80/tcp", "53/udp", "81/tcp"], ["A=1", "HOME=/x", "PATH=/", "B"]
    )
    assert environment(link) == [
        "MY_DB_PORT=udp://10.0.0.2:53",
        "MY_DB_PORT_80_TCP_START=tcp://10.0.0.2:80",
        "MY_DB_PORT_80_TCP_ADDR=10.0.0.2",
        "MY_DB_PORT_80_TCP_PROTO=tcp",
        "MY_DB_PORT_80_TCP_PORT_START=80",
        "MY_DB_PORT_80_TCP_END=tcp://10.0.0.2:81",
        "MY_DB_PORT_80_TCP_PORT_END=81",
        "MY_DB_PORT_53_UDP=udp://10.0.0.2:53",
        "MY_DB_PORT_53_UDP_ADDR=10.0.0.2",
        "MY_DB_PORT_53_UDP_PORT=53",
        "MY_DB_PORT_53_UDP_PROTO=udp",
        "MY_DB_PORT_80_TCP=tcp://10.0.0.2:80",
        "MY_DB_PORT_80_TCP_ADDR=10.0.0.2",
        "MY_DB_PORT_80_TCP_PORT=80",
        "MY_DB_PORT_80_TCP_PROTO=tcp",
        "MY_DB_PORT_81_TCP=tcp://10.0.0.2:81",
        "MY_DB_PORT_81_TCP_ADDR=10.0.0.2",
        "MY_DB_PORT_81_TCP_PORT=81",
        "MY_DB_PORT_81_TCP_PROTO=tcp",
        "MY_DB_NAME=/web/my-db",
        "MY_DB_ENV_A=1",
    ]


def test_without_ports() -> None:
    assert environment(Linked("/w/a", "a", "h", "10.0.0.2")) == ["A_NAME=/w/a"]


def test_hosts_line_and_its_change() -> None:
    line = host_line(Linked("/web/data", "db", "box", "10.0.0.2"))
    assert line == "10.0.0.2\tdata box db\n"
    assert host_line(Linked("/web/db", "db", "box", "10.0.0.2")) == "10.0.0.2\tdb box\n"
    before = "127.0.0.1\tlocalhost\n10.0.0.9\tdata box db\n10.0.0.9\tdata box dbx\n"
    assert with_line(before, line) == "127.0.0.1\tlocalhost\n10.0.0.2\tdata box db\n10.0.0.9\tdata box dbx\n"


def test_shown_with_the_names_of_now() -> None:
    links = {"b": Link("2", "old"), "a": Link("1", "gone")}
    assert shown(links, "web", {"2": "new"}) == ["/gone:/web/a", "/new:/web/b"]
