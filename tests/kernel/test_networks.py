"""The default bridge with real namespaces and packets: who reaches whom, by which port, and what is left afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import namespaces
from tests.support.namespaces import HOST, NEIGHBOUR, client, tcp_server, udp_server, within
from wherry.engine.networks import Networks, clean_host, fabric
from wherry.engine.networks.bridge import Bridge
from wherry.errors import InvalidParameter, SystemFailure
from wherry.linux import netns, sysctl
from wherry.linux.netlink import Socket
from wherry.linux.nftables import Nftables
from wherry.model import firewall as plans
from wherry.model.config import Config, HostConfig, PortBinding
from wherry.model.container import Container
from wherry.model.events import Event
from wherry.model.host import Binaries, CgroupLayout, Host, Roots
from wherry.model.network_requests import CreateRequest
from wherry.storage.database import Database

BOOT = "11111111-2222-3333-4444-555555555555"


class World:
    """One host, its neighbour, and an engine's networks on it."""

    def __init__(self, root: Path, beyond: int) -> None:
        self.root = root
        self.beyond = beyond
        self.here = netns.current()
        self.database = Database.open(root / "wherry.db")
        self.events: list[Event] = []
        self.namespaces: dict[str, int] = {}

    def networks(self, **options: str) -> Networks:
        roots = Roots(self.root, self.root)
        nothing = Binaries(None, None, None, None)
        host = Host(
            roots=roots,
            binaries=nothing,
            cgroups=CgroupLayout.V2,
            controllers=frozenset(),
            kernel=(6, 1),
            boot_id=BOOT,
            cpus=1,
            memory=0,
            nftables=True,
            ipv6=True,
            apparmor=False,
            selinux=False,
            seccomp=True,
        )
        return Networks(self.database, host, self.events.append, **options)

    def container(self, networks: Networks, name: str, ports: dict[str, list[PortBinding]] | None = None) -> Container:
        id = (name.encode().hex() * 64)[:64]
        config, host = Config(), HostConfig(network_mode="bridge", port_bindings=ports)  # type: ignore[arg-type]
        return Container(
            id=id,
            name=name,
            created_at=0,
            image="",
            image_ref="",
            chain_id="",
            config=config,
            host=host,
            sandbox=networks.new_sandbox(id, config, host),
        )

    async def start(self, networks: Networks, name: str, **ports: PortBinding) -> Container:
        """`tcp80=PortBinding(...)`: the container's namespace is `namespaces[name]`."""
        bindings = {f"{key[3:]}/{key[:3]}": [value] for key, value in ports.items()}
        container = self.container(networks, name, bindings)
        activation = await networks.attachments.activate(container)
        assert activation.netns_fd is not None
        self.namespaces[name] = activation.netns_fd
        return container

    def stop(self, name: str) -> None:
        os.close(self.namespaces.pop(name))

    def close(self) -> None:
        for fd in self.namespaces.values():
            os.close(fd)
        os.close(self.here)
        self.database.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with namespaces.host() as beyond:
        made = World(tmp_path, beyond)
        yield made
        made.close()


@pytest.fixture
async def networks(world: World) -> AsyncIterator[Networks]:
    made = world.networks()
    await made.open()
    await made.recover([])
    yield made
    await made.close()


async def ask(fd: int, target: tuple[str, int], server: socket.socket) -> str:
    """Connect from that namespace to a server, carry a line each way with half-close; the address that it saw."""

    def talk() -> str:
        with client(fd, target) as near:
            near.sendall(b"question")
            near.shutdown(socket.SHUT_WR)
            far, peer = server.accept()
            with far:
                far.settimeout(5)
                heard = b""
                while part := far.recv(100):
                    heard += part
                assert heard == b"question"
                far.sendall(b"answer")
            heard = b""
            while part := near.recv(100):
                heard += part
            assert heard == b"answer"
            return str(peer[0])

    return await asyncio.to_thread(talk)


async def ask_udp(fd: int, target: tuple[str, int], server: socket.socket) -> str:
    def talk() -> str:
        with client(fd, target, socket.SOCK_DGRAM) as near:
            near.send(b"question")
            heard, peer = server.recvfrom(100)
            assert heard == b"question"
            server.sendto(b"answer", peer)
            assert near.recv(100) == b"answer"
            return str(peer[0])

    return await asyncio.to_thread(talk)


async def refused(fd: int, target: tuple[str, int]) -> bool:
    """Nobody answers there."""

    def attempt() -> bool:
        try:
            client(fd, target, patience=0.3).close()
        except OSError:
            return True
        return False

    return await asyncio.to_thread(attempt)


async def test_containers_reach_each_other_the_host_and_beyond(world: World, networks: Networks) -> None:
    one = await world.start(networks, "one")
    two = await world.start(networks, "two")
    assert one.sandbox.endpoints["bridge"].address != two.sandbox.endpoints["bridge"].address
    one_fd, two_fd = world.namespaces["one"], world.namespaces["two"]
    with tcp_server(two_fd, 80) as server:
        assert await ask(one_fd, (two.sandbox.endpoints["bridge"].address, 80), server) == address(one)
    with tcp_server(world.here, 80) as server:
        assert await ask(one_fd, (networks.host_gateway(), 80), server) == address(one)
    with tcp_server(world.beyond, 80) as server:  # it sees the host, not the container
        assert await ask(one_fd, (NEIGHBOUR, 80), server) == HOST


def address(container: Container) -> str:
    return container.sandbox.endpoints["bridge"].address


async def test_the_endpoint_is_as_dockers(world: World, networks: Networks) -> None:
    one = await world.start(networks, "one")
    endpoint = one.sandbox.endpoints["bridge"]
    network = networks.inspect("bridge")
    assert endpoint.network_id == network.id and len(endpoint.endpoint_id) == 64
    assert endpoint.gateway == network.gateway == "172.17.0.1"
    assert (endpoint.address, endpoint.prefix_length) == ("172.17.0.2", 16)
    assert endpoint.mac_address == "02:42:ac:11:00:02"
    await networks.attachments.deactivate(one)
    assert address(one) == "" and one.sandbox.ports == []
    told = [(event.type, event.action, event.attributes["name"]) for event in world.events]
    assert told == [("network", "connect", "bridge"), ("network", "disconnect", "bridge")]


@pytest.mark.parametrize("target", ["127.0.0.1", HOST, "::1", "172.17.0.1"])
async def test_a_published_port_answers_on_the_host(world: World, networks: Networks, target: str) -> None:
    await world.start(networks, "web", tcp80=PortBinding(host_port="8080"), udp53=PortBinding(host_port="5353"))
    with tcp_server(world.namespaces["web"], 80) as server:
        await ask(world.here, (target, 8080), server)
    with udp_server(world.namespaces["web"], 53) as server:
        await ask_udp(world.here, (target, 5353), server)


async def test_a_published_port_answers_from_beyond(world: World, networks: Networks) -> None:
    web = await world.start(networks, "web", tcp80=PortBinding(host_port="8080"), udp53=PortBinding(host_port="5353"))
    with tcp_server(world.namespaces["web"], 80) as server:  # it sees who asks
        assert await ask(world.beyond, (HOST, 8080), server) == NEIGHBOUR
    with udp_server(world.namespaces["web"], 53) as server:
        assert await ask_udp(world.beyond, (HOST, 5353), server) == NEIGHBOUR
    with tcp_server(world.namespaces["web"], 81):  # what is not published does not answer, even to who has a route
        assert await refused(world.beyond, (address(web), 81))


async def test_a_port_published_on_loopback_is_the_hosts_alone(world: World, networks: Networks) -> None:
    binding = PortBinding(host_ip="127.0.0.1", host_port="8080")
    await world.start(networks, "web", tcp80=binding)
    with tcp_server(world.namespaces["web"], 80) as server:
        await ask(world.here, ("127.0.0.1", 8080), server)
        assert await refused(world.beyond, (HOST, 8080))
        # a neighbour that sends packets for 127.0.0.1 to the host's own hardware address
        within(world.beyond, lambda: namespaces.sysctl("net/ipv4/conf/eth0/route_localnet", "1"))
        within(world.beyond, lambda: route_loopback_to_host())
        assert await refused(world.beyond, ("127.0.0.1", 8080))


def route_loopback_to_host() -> None:
    """127.0.0.1 is no longer here: without the routes of the table local, it is where the default route leads."""
    for prefix, address in ((32, "127.0.0.1"), (8, "127.0.0.0")):
        namespaces.configure(namespaces.delete_local_route(ipaddress.IPv4Interface(f"{address}/{prefix}")))


async def test_loopback_of_the_host_is_closed_to_containers(world: World, networks: Networks) -> None:
    """`route_localnet` is on for the bridge; nothing must come of it."""
    await world.start(networks, "one")
    fd = world.namespaces["one"]
    within(fd, lambda: namespaces.sysctl("net/ipv4/conf/eth0/route_localnet", "1"))
    within(fd, route_loopback_to_host)
    with tcp_server(world.here, 9090):
        assert await refused(fd, ("127.0.0.1", 9090))


async def test_hairpin(world: World, networks: Networks) -> None:
    """A container reaches its own published port and its neighbour's, by the host's addresses."""
    await world.start(networks, "web", tcp80=PortBinding(host_port="8080"), udp53=PortBinding(host_port="5353"))
    await world.start(networks, "one")
    for name in ("web", "one"):
        for target in (HOST, networks.host_gateway()):
            with tcp_server(world.namespaces["web"], 80) as server:
                assert await ask(world.namespaces[name], (target, 8080), server) == networks.host_gateway()
            with udp_server(world.namespaces["web"], 53) as server:
                assert await ask_udp(world.namespaces[name], (target, 5353), server) == networks.host_gateway()


async def test_none_has_loopback_alone(world: World, networks: Networks) -> None:
    config, host = Config(), HostConfig(network_mode="none")
    container = world.container(networks, "alone")
    container.sandbox = networks.new_sandbox("a" * 64, config, host)
    activation = await networks.attachments.activate(container)
    assert activation.netns_fd is not None
    world.namespaces["alone"] = activation.netns_fd

    def links() -> list[tuple[str, bool]]:
        with Socket() as route:
            return [(link.name, link.up) for link in route.links() if link.kind == "" or link.name == "lo"]

    assert ("lo", True) in within(activation.netns_fd, links)
    with tcp_server(activation.netns_fd, 80) as server:
        await ask(activation.netns_fd, ("127.0.0.1", 80), server)
    await networks.attachments.deactivate(container)


def links() -> set[str]:
    with Socket() as route:
        return {link.name for link in route.links()}


def inventory() -> tuple[set[str], str]:
    return links(), str(ruleset())


def ruleset() -> list[dict[str, object]]:
    firewall = Nftables()
    try:
        return firewall.objects("list ruleset")
    finally:
        firewall.close()


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 (the kernel sets no event)
            await asyncio.sleep(0.02)


async def test_a_stopped_container_leaves_nothing(world: World, networks: Networks) -> None:
    before = await asyncio.to_thread(inventory)
    web = await world.start(networks, "web", tcp80=PortBinding(host_port="8080"))
    first = address(web)
    assert await asyncio.to_thread(inventory) != before
    world.stop("web")
    await networks.attachments.deactivate(web)
    await networks.attachments.deactivate(web)
    await eventually(lambda: inventory() == before)
    with contextlib.closing(socket.create_server(("0.0.0.0", 8080))):
        pass
    again = await world.start(networks, "web2")
    assert address(again) != first  # rests


async def test_a_udp_sender_that_goes_on_reaches_the_restarted_container(world: World, networks: Networks) -> None:
    """The kernel remembers where its packets went for as long as they come."""
    binding = PortBinding(host_port="5353")
    web = await world.start(networks, "web", udp53=binding)
    with contextlib.closing(client(world.beyond, (HOST, 5353), socket.SOCK_DGRAM)) as sender:
        for _ in range(2):
            received = False
            with udp_server(world.namespaces["web"], 53) as server:
                server.settimeout(0.05)
                async with asyncio.timeout(10):
                    while not received:
                        say(sender, b"again")
                        received = await asyncio.to_thread(hears, server)
            world.stop("web")
            await networks.attachments.deactivate(web)
            say(sender, b"in between")
            web = await world.start(networks, "web", udp53=binding)


def say(sender: socket.socket, words: bytes) -> None:
    with contextlib.suppress(ConnectionRefusedError):  # of what was said before, when nobody was there
        sender.send(words)


def hears(server: socket.socket) -> bool:
    try:
        return server.recv(100) == b"again"
    except TimeoutError:
        return False


async def test_the_interface_goes_even_if_the_namespace_stays(world: World, networks: Networks) -> None:
    before = await asyncio.to_thread(links)
    web = await world.start(networks, "web")
    await networks.attachments.deactivate(web)
    await eventually(lambda: links() == before)


async def test_conflicts_in_dockers_words(world: World, networks: Networks) -> None:
    await world.start(networks, "web", tcp80=PortBinding(host_port="8080"))
    before = await asyncio.to_thread(links)
    with pytest.raises(SystemFailure) as failure:
        await world.start(networks, "two", tcp80=PortBinding(host_port="8080"))
    assert str(failure.value).startswith("driver failed programming external connectivity on endpoint two (")
    assert str(failure.value).endswith("): Bind for 0.0.0.0:8080 failed: port is already allocated")
    with socket.create_server(("127.0.0.1", 8999)), pytest.raises(SystemFailure) as failure:
        await world.start(networks, "two", tcp80=PortBinding(host_port="8999"))
    assert "): Error starting userland proxy: listen tcp4 0.0.0.0:8999: bind: address already in use" in str(
        failure.value
    )
    with pytest.raises(SystemFailure) as failure:
        await world.start(networks, "two", tcp80=PortBinding(host_ip="10.99.99.99", host_port="8998"))
    assert "listen tcp4 10.99.99.99:8998: bind: cannot assign requested address" in str(failure.value)
    assert await asyncio.to_thread(links) == before
    with pytest.raises(OSError):  # and the other way round
        socket.create_server(("0.0.0.0", 8080))


async def test_ranges_and_free_ports(world: World, networks: Networks) -> None:
    await world.start(networks, "web", tcp80=PortBinding(host_port="8080"))
    ranged = await world.start(networks, "ranged", tcp80=PortBinding(host_port="8080-8082"))
    assert {port.host_port for port in ranged.sandbox.ports} == {8081}
    free = await world.start(networks, "free", tcp80=PortBinding(), udp80=PortBinding(host_ip="127.0.0.1"))
    tcp = {port.host_port for port in free.sandbox.ports if port.protocol == "tcp"}
    assert len(tcp) == 1 and min(tcp) >= 32768  # the same for IPv4 and IPv6
    with tcp_server(world.namespaces["free"], 80) as server:
        await ask(world.beyond, (HOST, tcp.pop()), server)


async def test_a_new_engine_takes_over(world: World) -> None:
    """As after kill -9: what runs goes on, what has no owner goes, what another took meanwhile is told."""
    first = world.networks()
    await first.open()
    await first.recover([])
    web = await world.start(
        first, "web", tcp80=PortBinding(host_port="8080"), tcp81=PortBinding(host_ip="127.0.0.1", host_port="8081")
    )
    lost = await world.start(first, "lost", tcp80=PortBinding(host_port="8082"))
    identities = {network.name: network.id for network in first.list()}
    await first.close()

    with socket.create_server(("127.0.0.1", 8081)):
        second = world.networks()
        await second.open()
        await second.recover([web.sandbox])
        assert {network.name: network.id for network in second.list()} == identities
        assert any("127.0.0.1:8081/tcp could not be taken again" in warning for warning in second.warnings)
    assert lost.sandbox.endpoints["bridge"].interface not in await asyncio.to_thread(links)
    with tcp_server(world.namespaces["web"], 80) as server:
        for target in ("127.0.0.1", "::1"):
            await ask(world.here, (target, 8080), server)
        await ask(world.beyond, (HOST, 8080), server)
    with pytest.raises(SystemFailure, match="port is already allocated"):
        await world.start(second, "two", tcp80=PortBinding(host_port="8080"))
    third = await world.start(second, "three", tcp80=PortBinding(host_port="8082"))
    assert address(third) != address(web)
    await second.close()


async def test_two_engines_on_one_host_have_bridges_of_their_own(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other", world.beyond)
    first, second = world.networks(), other.networks()
    for networks in (first, second):
        await networks.open()
        await networks.recover([])
    assert first.inspect("bridge").bridge == "wherry0"
    assert second.inspect("bridge").bridge == "wherry1"
    assert first.inspect("bridge").subnet == "172.17.0.0/16"
    assert second.inspect("bridge").subnet == "172.18.0.0/16"
    await first.close()
    await second.close()
    other.close()


async def test_an_engine_has_its_own_bridge_again_while_another_one_looks_at_it(world: World) -> None:
    first = world.networks()
    await first.open()
    await first.close()
    looking = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)  # as an engine that starts holds each name
    looking.bind("\0wherry/bridge/wherry0")
    asyncio.get_running_loop().call_later(0.2, looking.close)
    again = world.networks()
    await again.open()
    assert again.inspect("bridge").bridge == "wherry0"
    await again.close()


@pytest.mark.parametrize("bip", ["172.17.0.1/16", "172.17.5.1/24", "172.16.0.1/12"])
async def test_an_address_of_another_bridge_is_refused(world: World, tmp_path: Path, bip: str) -> None:
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other", world.beyond)
    first, second = world.networks(), other.networks(bip=bip)
    await first.open()
    await first.recover([])
    before = await asyncio.to_thread(links)
    with pytest.raises(InvalidParameter, match=rf"--bip {bip}: the bridge wherry0 of this host "):
        await second.open()
    await second.close()
    assert await asyncio.to_thread(links) == before
    again = other.networks(bip="172.20.0.1/16")
    await again.open()
    assert again.inspect("bridge").subnet == "172.20.0.0/16"
    await again.close()
    await first.close()
    other.close()


async def test_what_another_engine_left_behind_goes(world: World, tmp_path: Path) -> None:
    """Its bridge, while it does not run: unless a container is in it."""
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other", world.beyond)
    first, second = world.networks(), other.networks()
    for networks in (first, second):
        await networks.open()
        await networks.recover([])
    one = await other.start(second, "one")
    for networks in (first, second):
        await networks.close()

    first = world.networks()
    await first.open()
    await first.recover([])
    assert {"wherry0", "wherry1"} <= await asyncio.to_thread(links)
    await first.close()
    other.stop("one")
    await eventually(lambda: one.sandbox.endpoints["bridge"].interface not in links())
    first = world.networks()
    await first.open()
    await first.recover([])
    left, rules = await asyncio.to_thread(inventory)
    assert "wherry0" in left and "wherry1" not in left and "wherry1" not in rules
    await first.close()
    other.close()


@pytest.mark.parametrize("by_the_engine", [True, False])
async def test_removal_leaves_the_host_as_it_was(world: World, by_the_engine: bool) -> None:
    firewall = Nftables()
    firewall.run("add table ip filter; add chain ip filter DOCKER-USER")
    before = await asyncio.to_thread(inventory)
    networks = world.networks()
    await networks.open()
    await networks.recover([])
    assert await asyncio.to_thread(inventory) != before
    if by_the_engine:
        await networks.close(remove=True)
    else:
        assert await asyncio.to_thread(clean_host) == []  # not while it runs
        await networks.close()
        assert await asyncio.to_thread(clean_host) == ["wherry0"]
    assert await asyncio.to_thread(inventory) == before
    assert sysctl.read("net/ipv4/ip_forward") == "0"
    firewall.close()


DOCKERS = """
table ip filter {
    chain DOCKER-USER { counter return; }
    chain FORWARD { type filter hook forward priority filter; policy drop; jump DOCKER-USER; }
}
"""
UFWS = """
table ip filter {
    chain ufw-user-forward { }
    chain FORWARD { type filter hook forward priority filter; policy drop; jump ufw-user-forward; }
}
"""
PLAIN = "table ip filter { chain FORWARD { type filter hook forward priority filter; policy drop; }; }"
FIREWALLDS = """
table inet firewalld {
    chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept; reject; }
}
"""


@pytest.mark.parametrize("ruleset", [DOCKERS, UFWS, PLAIN, FIREWALLDS])
async def test_other_firewalls_let_containers_through(world: World, networks: Networks, ruleset: str) -> None:
    """Also those that come, or come again, while the engine runs."""
    firewall = Nftables()
    await world.start(networks, "web", tcp80=PortBinding(host_port="8080"))
    await world.start(networks, "one")

    def accepted() -> bool:
        return "wherry0: containers" in firewall.run("list ruleset")

    for _ in range(2):
        firewall.run(ruleset)
        await eventually(accepted)
        with tcp_server(world.namespaces["web"], 80) as server:
            await ask(world.beyond, (HOST, 8080), server)
            await ask(world.namespaces["one"], (HOST, 8080), server)
        with tcp_server(world.beyond, 80) as server:
            await ask(world.namespaces["one"], (NEIGHBOUR, 80), server)
        family = "inet firewalld" if "firewalld" in ruleset else "ip filter"
        firewall.run(f"delete table {family}")
    firewall.close()


async def test_a_firewall_we_may_not_write_in_is_told_of(world: World, networks: Networks) -> None:
    firewall = Nftables()
    firewall.run("table inet mine { chain f { type filter hook forward priority 0; policy drop; }; }")
    await eventually(lambda: any("inet mine f" in warning for warning in networks.warnings))
    firewall.close()


async def test_a_flushed_ruleset_is_laid_again(world: World, networks: Networks) -> None:
    firewall = Nftables()
    web = await world.start(networks, "web", tcp80=PortBinding(host_port="8080"))
    firewall.run("flush ruleset")
    two = await world.start(networks, "two", tcp80=PortBinding(host_port="8081"))  # at once, before anybody looked
    for name, port in (("web", 8080), ("two", 8081)):
        with tcp_server(world.namespaces[name], 80) as server:
            await ask(world.beyond, (HOST, port), server)
    firewall.run("flush ruleset")
    await networks.attachments.deactivate(two)
    firewall.run("flush ruleset")
    await eventually(lambda: "published_any" in firewall.run("list ruleset"))
    with tcp_server(world.namespaces["web"], 80) as server:
        assert await ask(world.beyond, (HOST, 8080), server) == NEIGHBOUR
    assert address(web)
    firewall.close()


def only_table(firewall: Nftables) -> str:
    return str(next(entry["table"]["name"] for entry in firewall.objects("list tables ip") if "table" in entry))


@pytest.mark.parametrize("deed", ["flush table ip {}", "flush chain ip {} publish", "delete table ip {}"])
async def test_rules_that_somebody_took_are_laid_again(world: World, networks: Networks, deed: str) -> None:
    firewall = Nftables()
    await world.start(networks, "web", tcp80=PortBinding(host_port="8080"))
    table = only_table(firewall)

    def rules() -> int:
        return sum("rule" in entry for entry in firewall.objects(f"list table ip {table}"))

    before = rules()
    firewall.run(deed.format(table))
    assert rules() < before
    await eventually(lambda: rules() == before)
    with tcp_server(world.namespaces["web"], 80) as server:
        await ask(world.beyond, (HOST, 8080), server)
    firewall.close()


def nft(*arguments: str, script: str = "") -> str:
    return subprocess.run(["nft", *arguments], input=script, capture_output=True, text=True, check=True).stdout


async def test_a_table_that_was_saved_and_restored_holds_what_is_published_now(
    world: World, networks: Networks
) -> None:
    firewall = Nftables()
    table = only_table(firewall)
    saved = nft("list", "table", "ip", table)
    await world.start(networks, "web", tcp80=PortBinding(host_port="8080"))
    nft("-f", "-", script=f"delete table ip {table}\n{saved}")
    await eventually(lambda: "8080" in firewall.run(f"list map ip {table} published_any"))
    firewall.close()


async def test_rules_that_went_before_they_were_looked_at_are_laid_again(
    world: World, networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    firewall = Nftables()
    table = only_table(firewall)
    whole, laid = plans.whole_table, []

    def gone_at_once(segment: plans.Segment, published: Sequence[plans.Redirection], guard: plans.Guard | None) -> str:
        laid.append(segment)
        return whole(segment, published, guard) + (f"delete table ip {table}\n" if len(laid) == 1 else "")

    monkeypatch.setattr(plans, "whole_table", gone_at_once)
    firewall.run(f"delete table ip {table}")
    await eventually(lambda: len(laid) > 1 and "published" in firewall.run("list ruleset"))
    firewall.close()


async def test_turning_forwarding_on_makes_no_router(world: World, networks: Networks) -> None:
    """A second neighbour, to which the host has a route, stays out of the first one's reach."""
    with await asyncio.to_thread(namespaces.AnotherNeighbour, world.here) as second, tcp_server(second, 80) as server:
        with tcp_server(second, 81):
            assert await refused(world.beyond, (namespaces.SECOND, 80))
        await world.start(networks, "one")  # while containers reach it
        await ask(world.namespaces["one"], (namespaces.SECOND, 80), server)
        await ask(world.here, (namespaces.SECOND, 80), server)


async def test_forwarding_that_was_on_stays_the_hosts(world: World) -> None:
    namespaces.sysctl("net/ipv4/ip_forward", "1")
    networks = world.networks()
    await networks.open()
    await networks.recover([])
    with await asyncio.to_thread(namespaces.AnotherNeighbour, world.here) as second, tcp_server(second, 80) as server:
        await ask(world.beyond, (namespaces.SECOND, 80), server)
    await networks.close()


FAILPOINTS = [
    "networks.open.bridge-made",
    "networks.open.bridge-up",
    "networks.open.recorded",
    "networks.recover.ports-taken",
    "networks.recover.forwarding-recorded",
    "networks.recover.table-laid",
    "networks.recover.forwarding-on",
    "networks.recover.accepts-added",
    "networks.activate.ports-held",
    "networks.activate.veth-made",
    "networks.activate.address-given",
    "networks.activate.ports-published",
    "networks.activate.done",
    "networks.deactivate.ports-unpublished",
    "networks.close.accepts-removed",
    "networks.close.table-removed",
]


@pytest.mark.parametrize("failpoint", FAILPOINTS)
async def test_killed_at_any_step(world: World, tmp_path: Path, failpoint: str) -> None:
    """The next engine makes everything right, still guards the forwarding, and leaves nothing when it goes."""
    firewall = Nftables()
    firewall.run(DOCKERS)
    before = await asyncio.to_thread(inventory)
    root = str(Path(__file__).parents[2])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.kernel.network_crash",
        str(tmp_path),
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root}/src:{root}", "WHERRY_FAILPOINT": failpoint},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL, said

    networks = world.networks()
    await networks.open()
    await networks.recover([])
    web = await world.start(networks, "web", tcp80=PortBinding(host_port="8080"))
    with tcp_server(world.namespaces["web"], 80) as server:
        await ask(world.beyond, (HOST, 8080), server)
    await networks.attachments.deactivate(web)
    world.stop("web")
    with await asyncio.to_thread(namespaces.AnotherNeighbour, world.here) as second, tcp_server(second, 80):
        assert await refused(world.beyond, (namespaces.SECOND, 80))
    await networks.close(remove=True)
    await eventually(lambda: links() == before[0])
    assert (await asyncio.to_thread(inventory))[1] == before[1]
    assert sysctl.read("net/ipv4/ip_forward") == "0"
    firewall.close()


async def test_a_start_that_is_given_up_leaves_nothing(world: World, networks: Networks) -> None:
    """Cancelled at any moment, as when a client of the library hangs up."""
    before = await asyncio.to_thread(inventory)
    for turns in range(6):
        container = world.container(networks, "web", {"80/tcp": [PortBinding(host_port="8080")]})
        task = asyncio.create_task(networks.attachments.activate(container))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            os.close((await task).netns_fd or -1)
            await networks.attachments.deactivate(container)
        await eventually(lambda: inventory() == before)
    web = await world.start(networks, "web", tcp80=PortBinding(host_port="8080"))
    assert web.sandbox.ports


async def test_many_at_once(world: World, networks: Networks) -> None:
    names = [f"c{number}" for number in range(40)]
    before = await asyncio.to_thread(inventory)
    started = await asyncio.gather(*(world.start(networks, name, tcp80=PortBinding()) for name in names))
    assert len({address(container) for container in started}) == 40
    assert len({port.host_port for container in started for port in container.sandbox.ports}) == 40
    for name in names:
        world.stop(name)
    await asyncio.gather(*(networks.attachments.deactivate(container) for container in started))
    await eventually(lambda: inventory() == before)


@pytest.mark.parametrize("turns", range(6))
async def test_a_removed_network_stays_removed(world: World, turns: int) -> None:
    """Whoever repairs the firewall meanwhile, its table and its accepts in Docker's chain do not come back."""
    firewall = Nftables()
    firewall.run(DOCKERS)
    networks = world.networks()
    await networks.open()
    await networks.recover([])
    before = await asyncio.to_thread(inventory)
    for name in ("a", "b", "c"):
        await networks.create(CreateRequest(name=name))
    repairs = asyncio.create_task(networks._fabric.repair())
    for _ in range(turns):
        await asyncio.sleep(0)
    for name in ("c", "b", "a"):
        await networks.remove(name)
    await repairs
    assert await asyncio.to_thread(inventory) == before
    await networks.close(remove=True)
    firewall.close()


async def test_what_a_failed_creation_left_goes_at_the_next_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(bridge: Bridge, *arguments: object) -> None:
        raise OSError("the kernel will not")

    networks = world.networks()
    await networks.open()
    await networks.recover([])
    before = await asyncio.to_thread(links)
    with monkeypatch.context() as patch:
        patch.setattr(Bridge, "lay", refuse)
        patch.setattr(Bridge, "remove", refuse)
        with pytest.raises(SystemFailure, match="the network a could not be made: the kernel will not"):
            await networks.create(CreateRequest(name="a"))
    assert await asyncio.to_thread(links) != before
    assert [network.name for network in networks.list()] == ["bridge", "host", "none"]
    await networks.close()
    networks = world.networks()
    await networks.open()
    await networks.recover([])
    assert await asyncio.to_thread(links) == before
    await networks.close(remove=True)


async def test_a_network_removed_on_a_host_without_nftables_goes_when_it_has_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise OSError("the nftables library is missing")

    networks = world.networks()
    await networks.open()
    await networks.recover([])
    before = await asyncio.to_thread(links)
    await networks.create(CreateRequest(name="a"))
    await networks.close()
    with monkeypatch.context() as patch:
        patch.setattr(fabric, "Kernel", missing)
        networks = world.networks()
        await networks.open()
        await networks.recover([])
        await networks.remove("a")
        assert [network.name for network in networks.list()] == ["bridge", "host", "none"]
        await networks.close()
    assert await asyncio.to_thread(links) != before
    networks = world.networks()
    await networks.open()
    await networks.recover([])
    assert await asyncio.to_thread(links) == before
    await networks.close(remove=True)
