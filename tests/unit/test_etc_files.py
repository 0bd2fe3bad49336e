"""The contents of /etc/hosts and /etc/resolv.conf in a container."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import SystemFailure
from wherry.model.etc_files import (
    Resolver,
    for_own_network,
    hosts,
    only_stub,
    override,
    parse_resolver,
    render_resolver,
)

HEAD = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def test_hosts_name_the_others_first_and_the_container_last() -> None:
    extra = ["a:1.2.3.4", "b:::1", "gw:host-gateway"]
    text = hosts(extra, hostname="box", domainname="ex.org", addresses=["172.17.0.3"], gateway="172.17.0.1")
    assert text == HEAD + "1.2.3.4\ta\n::1\tb\n172.17.0.1\tgw\n172.17.0.3\tbox.ex.org box\n"


@pytest.mark.parametrize(("hostname", "names"), [("box", "box"), ("a.b.c", "a.b.c a")])
def test_the_short_name_follows_the_long(hostname: str, names: str) -> None:
    assert hosts([], hostname=hostname, addresses=["172.17.0.2"]) == f"{HEAD}172.17.0.2\t{names}\n"


def test_a_container_without_address_has_no_line() -> None:
    assert hosts([], hostname="box") == HEAD


def test_a_gateway_that_is_not_known() -> None:
    with pytest.raises(SystemFailure, match="host-gateway"):
        hosts(["gw:host-gateway"], hostname="box")


CONF = """\
# comment
; another
nameserver 10.0.0.1
nameserver ::1
nameserver 127.0.0.1
nameserver nonsense
nameserver 2001:db8::1
domain old.example
search a.example b.example
options ndots:3
options timeout:2
sortlist 130.155.160.0
"""


def test_reading_a_resolver() -> None:
    assert parse_resolver(CONF) == Resolver(
        ("10.0.0.1", "::1", "127.0.0.1", "2001:db8::1"),
        ("a.example", "b.example"),
        ("ndots:3", "timeout:2"),
        ("sortlist 130.155.160.0",),
    )


def test_the_hosts_loopback_is_not_reached_from_a_namespace() -> None:
    seen = for_own_network(parse_resolver(CONF), overridden=False, ipv6=False)
    assert seen.nameservers == ("10.0.0.1",)
    assert for_own_network(parse_resolver(CONF), overridden=False, ipv6=True).nameservers == ("10.0.0.1", "2001:db8::1")


def test_without_any_left_there_are_defaults() -> None:
    stub = parse_resolver("nameserver 127.0.0.53\n")
    assert only_stub(stub)
    assert for_own_network(stub, overridden=False, ipv6=False).nameservers == ("8.8.8.8", "8.8.4.4")


def test_what_is_asked_for_stays_even_loopback() -> None:
    asked = override(parse_resolver(CONF), dns=["127.0.0.1"], search=["."], options=["ndots:5", "x"])
    seen = for_own_network(asked, overridden=True, ipv6=False)
    assert (seen.nameservers, seen.search, seen.options) == (("127.0.0.1",), (), ("ndots:5", "x"))
    assert render_resolver(seen, "/etc/resolv.conf").endswith(
        "nameserver 127.0.0.1\noptions ndots:5 x\nsortlist 130.155.160.0\n\n"
        "# Based on host file: '/etc/resolv.conf'\n"
        "# Overrides: [nameservers search options]\n# Option ndots from: override\n"
    )


@pytest.mark.parametrize("server", ["x", ""])
def test_a_nameserver_is_an_address(server: str) -> None:
    with pytest.raises(SystemFailure, match=f"^bad nameserver address {server}: "):
        override(Resolver(), dns=[server], search=[], options=[])


words = st.text(alphabet="abcxyz0123456789.:", min_size=1, max_size=8)


@given(
    st.lists(st.ip_addresses().map(str), unique=True), st.lists(words), st.lists(words), st.booleans(), st.booleans()
)
def test_what_is_written_reads_back(
    servers: list[str], search: list[str], options: list[str], overridden: bool, ipv6: bool
) -> None:
    resolver = Resolver(tuple(servers), tuple(search), tuple(options))
    seen = for_own_network(resolver, overridden=overridden, ipv6=ipv6)
    assert parse_resolver(render_resolver(seen, "/etc/resolv.conf")) == seen
    if not overridden:
        assert seen.nameservers
        assert not any(ipaddress.ip_address(server).is_loopback for server in seen.nameservers)
