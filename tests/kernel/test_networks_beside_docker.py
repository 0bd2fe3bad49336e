"""Beside a real dockerd, in the machine's own namespace: its FORWARD drops, and containers get through all the same."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from tests.kernel.test_networks import World, address, ask, refused
from tests.support import namespaces
from tests.support.namespaces import tcp_server, within
from wherry.linux import netlink, netns
from wherry.linux.netlink import Socket
from wherry.linux.nftables import Nftables
from wherry.model.config import PortBinding

BRIDGE = "wherrytest0"
UPLINK = "wherrytest1"
HOST, NEIGHBOUR = "198.18.77.1", "198.18.77.9"  # of the block for tests of devices, RFC 2544
INDEX = 7_770_010


def dockerd_is_here() -> bool:
    """A dockerd that uses iptables-nft has its chains in this namespace."""
    firewall = Nftables()
    try:
        return bool(firewall.objects("list chain ip filter DOCKER-USER"))
    finally:
        firewall.close()


beside_docker = pytest.mark.skipif(not dockerd_is_here(), reason="no dockerd in this network namespace")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The machine itself, with a neighbour on an interface made for it."""
    here = netns.current()
    beyond = within(here, lambda: netns.with_loopback(here))
    namespaces.configure(namespaces.pair(UPLINK, INDEX, "eth0", beyond))
    namespaces.configure(netlink.link_up(INDEX), netlink.add_address(INDEX, IPv4Interface(f"{HOST}/24")))
    within(
        beyond,
        lambda: namespaces.configure(
            netlink.link_up(INDEX + 1),
            netlink.add_address(INDEX + 1, IPv4Interface(f"{NEIGHBOUR}/24")),
            netlink.default_route(INDEX + 1, IPv4Address(HOST)),
        ),
    )
    made = World(tmp_path, beyond)
    yield made
    made.close()
    namespaces.configure(netlink.delete_link(UPLINK))
    os.close(beyond)
    os.close(here)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def traces() -> list[str]:
    """What this machine has of the bridge."""
    firewall = Nftables()
    try:
        rules = firewall.run("list ruleset")
    finally:
        firewall.close()
    with Socket() as route:
        names = [link.name for link in route.links()]
    return [name for name in names if name == BRIDGE] + [BRIDGE for _ in range(rules.count(f'"{BRIDGE}"'))]


@beside_docker
async def test_containers_get_through(world: World) -> None:
    networks = world.networks(bridge=BRIDGE)
    await networks.open()
    await networks.recover([])
    port = free_port()
    try:
        web = await world.start(networks, "web", tcp80=PortBinding(host_port=str(port)))
        await world.start(networks, "one")
        one = world.namespaces["one"]
        with tcp_server(world.namespaces["web"], 80) as server:
            assert await ask(one, (address(web), 80), server) != networks.host_gateway()
            await ask(one, (HOST, port), server)
            assert await ask(world.beyond, (HOST, port), server) == NEIGHBOUR
            for target in ("127.0.0.1", "::1", HOST):
                await ask(world.here, (target, port), server)
            await ask(world.namespaces["web"], (HOST, port), server)
        with tcp_server(world.namespaces["web"], 81):
            assert await refused(world.beyond, (address(web), 81))
        with tcp_server(world.beyond, 80) as server:
            assert await ask(one, (NEIGHBOUR, 80), server) == HOST
        assert networks.warnings == []
    finally:
        await networks.close(remove=True)
    assert await asyncio.to_thread(traces) == []
