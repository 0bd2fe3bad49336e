"""Networks that users make: addresses, isolation, connecting what runs; real packets between containers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.test_networks import GET, WEB, fetch, free_port, ports_of, publish
from tests.support.engine import Engine, eventually


@pytest.fixture
def networks(engine: Engine) -> Iterator[Engine]:
    """The engine, without networks of the tests before and after."""
    remove_all(engine)
    yield engine
    engine.tidy()
    remove_all(engine)


def remove_all(engine: Engine) -> None:
    for network in engine.http.get("/networks").json():
        if network["Name"].startswith("wt-"):
            for container in engine.http.get(f"/networks/{network['Id']}").json()["Containers"]:
                engine.remove(container)
            answer = engine.http.delete(f"/networks/{network['Id']}")
            assert answer.status == 204, answer.body


def make(engine: Engine, name: str, *configs: dict[str, Any], **more: Any) -> str:
    body = {"Name": name, "IPAM": {"Driver": "default", "Config": list(configs)}, **more}
    answer = engine.http.post("/networks/create", body)
    assert answer.status == 201, answer.body
    identity = answer.json()["Id"]
    assert isinstance(identity, str) and len(identity) == 64
    return identity


def inspect(engine: Engine, name: str) -> dict[str, Any]:
    network = engine.http.get(f"/networks/{name}").json()
    assert isinstance(network, dict)
    return network


def endpoint(engine: Engine, container: str, network: str) -> dict[str, Any]:
    found = engine.inspect(container)["NetworkSettings"]["Networks"][network]
    assert isinstance(found, dict)
    return found


def within(*names: str, **settings: Any) -> dict[str, Any]:
    """Options of create for a container in these networks."""
    return {
        "host": {"NetworkMode": names[0], **settings.pop("host", {})},
        "NetworkingConfig": {"EndpointsConfig": {name: {} for name in names}},
        **settings,
    }


def connect(engine: Engine, network: str, container: str, **asked: Any) -> Any:
    return engine.http.post(f"/networks/{network}/connect", {"Container": container, "EndpointConfig": asked})


def disconnect(engine: Engine, network: str, container: str) -> Any:
    return engine.http.post(f"/networks/{network}/disconnect", {"Container": container})


def reaches(engine: Engine, client: str, address: str, port: int = 80) -> bool:
    return engine.exec(client, f"{GET} | nc -w 2 {address} {port}")[1].endswith("served\n")


def test_create_and_inspect(networks: Engine) -> None:
    config = {"Subnet": "10.197.1.0/24", "IPRange": "10.197.1.128/25", "Gateway": "10.197.1.1"}
    options = {"com.docker.network.bridge.name": "wtbr0"}
    identity = make(networks, "wt-n", config, Labels={"l": "1"}, Options=options)
    for reference in ("wt-n", identity, identity[:8]):
        network = inspect(networks, reference)
        assert network["Id"] == identity and network["Driver"] == "bridge" and network["Scope"] == "local"
        assert network["IPAM"]["Config"] == [config]
        assert (network["Labels"], network["Options"], network["Containers"]) == ({"l": "1"}, options, {})
    listed = networks.http.get("/networks", filters={"label": ["l=1"], "type": ["custom"]}).json()
    assert [network["Name"] for network in listed] == ["wt-n"]
    assert networks.http.delete(f"/networks/{identity[:8]}").status == 204
    assert networks.http.get("/networks/wt-n").status == 404


def test_subnets_of_its_own_choice_differ(networks: Engine) -> None:
    make(networks, "wt-a")
    make(networks, "wt-b")
    chosen = [inspect(networks, name)["IPAM"]["Config"][0] for name in ("wt-a", "wt-b", "bridge")]
    assert len({config["Subnet"] for config in chosen}) == 3


@pytest.mark.parametrize(
    ("config", "status", "message"),
    [
        ({"Subnet": "nonsense"}, 400, "invalid subnet nonsense: invalid CIDR block notation"),
        ({"Subnet": "10.197.9.5/24"}, 400, "invalid subnet 10.197.9.5/24: it should be 10.197.9.0/24"),
        (
            {"Subnet": "10.197.9.0/24", "Gateway": "10.1.1.1"},
            400,
            "invalid gateway 10.1.1.1: parent subnet 10.197.9.0/24 doesn't contain this address",
        ),
        (
            {"Subnet": "10.197.9.0/24", "IPRange": "10.2.0.0/24"},
            400,
            "invalid ip-range 10.2.0.0/24: parent subnet 10.197.9.0/24 doesn't contain ip-range",
        ),
        ({"Subnet": "10.197.1.0/25"}, 403, "Pool overlaps with other one on this address space"),
    ],
)
def test_addresses_that_cannot_be(networks: Engine, config: dict[str, str], status: int, message: str) -> None:
    make(networks, "wt-n", {"Subnet": "10.197.1.0/24"})
    answer = networks.http.post("/networks/create", {"Name": "wt-x", "IPAM": {"Config": [config]}})
    assert answer.status == status
    assert answer.message.removeprefix("invalid network config:\n") == message


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"Name": "wt-n"}, 409, "network with name wt-n already exists"),
        ({"Name": "host"}, 403, "operation is not permitted on predefined host network "),
        ({"Name": " "}, 400, "invalid name:  "),
        ({"Name": "wt-x", "Driver": "nosuch"}, 404, 'plugin "nosuch" not found'),
        ({"Name": "wt-x", "Driver": "host"}, 403, 'only one instance of "host" network is allowed'),
        ({"Name": "wt-x", "Options": {"com.docker.network.driver.mtu": "-3"}}, 400, "invalid MTU number: -3"),
        (
            {"Name": "wt-x", "Options": {"com.docker.network.bridge.name": "lo"}},
            500,
            "existing interface lo is not a bridge",
        ),
    ],
)
def test_networks_that_cannot_be(networks: Engine, body: dict[str, Any], status: int, message: str) -> None:
    make(networks, "wt-n")
    answer = networks.http.post("/networks/create", body)
    assert (answer.status, answer.message) == (status, message)


def test_static_address(networks: Engine) -> None:
    identity = make(
        networks, "wt-n", {"Subnet": "10.197.1.0/24", "IPRange": "10.197.1.128/25", "Gateway": "10.197.1.1"}
    )
    asked = {"wt-n": {"IPAMConfig": {"IPv4Address": "10.197.1.77"}}}
    options = {"host": {"NetworkMode": "wt-n"}, "NetworkingConfig": {"EndpointsConfig": asked}}
    server = networks.idle(name="wt-s", Hostname="box", **options)
    found = endpoint(networks, server, "wt-n")
    assert (found["IPAddress"], found["IPPrefixLen"], found["Gateway"]) == ("10.197.1.77", 24, "10.197.1.1")
    assert (found["NetworkID"], found["MacAddress"]) == (identity, "02:42:0a:c5:01:4d")
    assert found["DNSNames"] == ["wt-s", server[:12], "box"]
    assert networks.inspect(server)["NetworkSettings"]["IPAddress"] == ""
    assert "10.197.1.77\tbox\n" in networks.exec(server, ["cat", "/etc/hosts"])[1]
    assert "default via 10.197.1.1 dev eth0" in networks.exec(server, ["ip", "route"])[1]
    member = inspect(networks, "wt-n")["Containers"][server]
    assert (member["Name"], member["IPv4Address"]) == ("wt-s", "10.197.1.77/24")
    answer = networks.failed_start(["true"], name="wt-t", **options)
    assert (answer.status, answer.message) == (403, "Address already in use")
    other = networks.idle(**within("wt-n"))
    assert endpoint(networks, other, "wt-n")["IPAddress"].startswith("10.197.1.1")
    assert networks.exec(other, ["ping", "-c", "1", "-W", "2", "10.197.1.77"])[0] == 0


def test_addresses_a_container_cannot_ask_for(networks: Engine) -> None:
    make(networks, "wt-n", {"Subnet": "10.197.1.0/24"})
    make(networks, "wt-auto")
    for network, words in (
        ("wt-n", "no configured subnet or ip-range contain the IP address 10.9.9.9"),
        (
            "wt-auto",
            "user specified IP address is supported only when connecting to networks with user configured subnets",
        ),
    ):
        asked = {network: {"IPAMConfig": {"IPv4Address": "10.9.9.9"}}}
        options = {"host": {"NetworkMode": network}, "NetworkingConfig": {"EndpointsConfig": asked}}
        answer = networks.try_create(["true"], **options)
        assert answer.status == 400
        assert answer.message == f"invalid config for network {network}: invalid endpoint settings:\n{words}"


def test_networks_are_apart(networks: Engine) -> None:
    make(networks, "wt-a")
    make(networks, "wt-b")
    server = networks.run(WEB, **within("wt-a"))
    address = endpoint(networks, server, "wt-a")["IPAddress"]
    friend, stranger, default = networks.idle(**within("wt-a")), networks.idle(**within("wt-b")), networks.idle()
    eventually(lambda: reaches(networks, friend, address))
    for outsider in (stranger, default):
        assert not reaches(networks, outsider, address)
        assert networks.exec(outsider, ["ping", "-c", "1", "-W", "1", address])[0] != 0
    there = endpoint(networks, default, "bridge")["IPAddress"]
    assert networks.exec(stranger, ["ping", "-c", "1", "-W", "1", there])[0] != 0


def test_internal(networks: Engine) -> None:
    make(networks, "wt-int", Internal=True)
    assert inspect(networks, "wt-int")["Internal"] is True
    one, two = networks.idle(**within("wt-int")), networks.idle(**within("wt-int"))
    assert "default" not in networks.exec(one, ["ip", "route"])[1]
    assert networks.exec(one, ["ping", "-c", "1", "-W", "2", endpoint(networks, two, "wt-int")["IPAddress"]])[0] == 0


def test_several_networks(networks: Engine) -> None:
    make(networks, "wt-b", {"Subnet": "10.197.2.0/24", "Gateway": "10.197.2.1"})
    make(networks, "wt-a", {"Subnet": "10.197.1.0/24", "Gateway": "10.197.1.1"})
    container = networks.idle(**within("wt-b", "wt-a"))
    assert list(networks.inspect(container)["NetworkSettings"]["Networks"]) == ["wt-a", "wt-b"]
    _, shown, _ = networks.exec(container, "ip -o -4 addr; ip route")
    assert "eth0 " in shown and "eth1 " in shown
    for name in ("wt-a", "wt-b"):
        assert f"inet {endpoint(networks, container, name)['IPAddress']}/24" in shown
    assert "default via 10.197.1.1 dev eth" in shown  # the first by name


def test_connect_and_disconnect(networks: Engine) -> None:
    make(networks, "wt-a", {"Subnet": "10.197.1.0/24", "Gateway": "10.197.1.1"})
    make(networks, "wt-b", {"Subnet": "10.197.2.0/24", "Gateway": "10.197.2.1"})
    server = networks.run(WEB, name="wt-s", Hostname="box", **within("wt-b"))
    client = networks.idle(**within("wt-a"))
    assert connect(networks, "wt-a", server, IPAMConfig={"IPv4Address": "10.197.1.50"}).status == 200
    eventually(lambda: reaches(networks, client, "10.197.1.50"))
    _, shown, _ = networks.exec(server, "ip -o -4 addr; ip route; cat /etc/hosts")
    assert "eth1    inet 10.197.1.50/24" in shown
    assert "default via 10.197.1.1 dev eth1" in shown
    assert "10.197.1.50\tbox\n" in shown
    again = connect(networks, "wt-a", server)
    assert (again.status, again.message) == (403, "endpoint with name wt-s already exists in network wt-a")

    assert disconnect(networks, "wt-a", server).status == 200
    _, shown, _ = networks.exec(server, "ip -o -4 addr; ip route; cat /etc/hosts")
    assert "eth1" not in shown and "10.197.1.50" not in shown
    assert "default via 10.197.2.1 dev eth0" in shown
    assert not reaches(networks, client, "10.197.1.50")
    again = disconnect(networks, "wt-a", server)
    assert (again.status, again.message) == (500, f"container {server} is not connected to network wt-a")
    assert list(networks.inspect(server)["NetworkSettings"]["Networks"]) == ["wt-b"]


def test_connect_a_stopped_container(networks: Engine) -> None:
    make(networks, "wt-a")
    make(networks, "wt-b")
    container = networks.create(["ip", "-o", "-4", "addr"], name="wt-c", **within("wt-a"))
    assert connect(networks, "wt-b", container).status == 200
    assert set(networks.inspect(container)["NetworkSettings"]["Networks"]) == {"wt-a", "wt-b"}
    networks.start(container)
    assert networks.wait(container) == 0
    assert b"eth1" in networks.logs(container)[0]
    assert disconnect(networks, "wt-a", container).status == 200
    answer = disconnect(networks, "wt-a", container)
    assert (answer.status, answer.message) == (500, f"container {container} is not connected to the network wt-a")


def test_connect_a_stopped_container_to_what_is_not_there_yet(networks: Engine) -> None:
    """As with `create`: it matters when the container starts."""
    http, container = networks.http, networks.create(["true"])
    assert http.post("/networks/wt-later/connect", {"Container": container}).status == 200
    assert endpoint(networks, container, "wt-later")["NetworkID"] == ""
    start = http.post(f"/containers/{container}/start")
    assert (start.status, start.message) == (404, "network wt-later not found")
    make(networks, "wt-later")
    networks.start(container)
    networks.wait(container)
    networks.remove(container)

    container = networks.create(["true"])
    assert http.post("/networks/wt-nope/connect", {"Container": container}).status == 200
    assert http.post("/networks/wt-nope/disconnect", {"Container": container}).status == 200
    answer = http.post("/networks/wt-nope/disconnect", {"Container": container})
    assert (answer.status, answer.message) == (
        500,
        f"container {container} is not connected to the network wt-nope",
    )
    networks.start(container)


@pytest.mark.parametrize("verb", ["connect", "disconnect"])
def test_what_is_not_there(networks: Engine, verb: str) -> None:
    make(networks, "wt-a")
    container = networks.idle()
    for network, name, message in (
        ("wt-ghost", container, "network wt-ghost not found"),
        ("wt-a", "wt-ghost", "No such container: wt-ghost"),
    ):
        answer = networks.http.post(f"/networks/{network}/{verb}", {"Container": name})
        assert (answer.status, answer.message) == (404, message)


def test_a_network_in_use_stays(networks: Engine) -> None:
    identity = make(networks, "wt-a")
    container = networks.idle(**within("wt-a"))
    answer = networks.http.delete("/networks/wt-a")
    words = f"error while removing network: network wt-a id {identity} has active endpoints"
    assert (answer.status, answer.message) == (403, words)
    networks.remove(container)
    assert networks.http.delete("/networks/wt-a").status == 204


def test_published_port(networks: Engine) -> None:
    make(networks, "wt-a")
    make(networks, "wt-b")
    port = free_port()
    published = publish(("80/tcp", "", str(port)))
    options = within("wt-b", host=published["host"], ExposedPorts=published["ExposedPorts"])
    server = networks.run(WEB, **options)
    assert {"HostIp": "0.0.0.0", "HostPort": str(port)} in ports_of(networks, server)["80/tcp"]
    assert b"served" in eventually(lambda: fetch(port))
    assert connect(networks, "wt-a", server).status == 200  # it leads now, and the port with it
    assert b"served" in eventually(lambda: fetch(port))
    assert disconnect(networks, "wt-b", server).status == 200
    assert b"served" in eventually(lambda: fetch(port))
    assert b"served" in eventually(lambda: fetch(port, "::1"))
    networks.remove(server)
    assert fetch(port) == b""


def test_prune(networks: Engine) -> None:
    make(networks, "wt-used", Labels={"wt": "1"})
    make(networks, "wt-unused", Labels={"wt": "1"})
    networks.idle(**within("wt-used"))
    pruned = networks.http.post("/networks/prune", filters={"label": ["wt=1"]})
    assert pruned.json() == {"NetworksDeleted": ["wt-unused"]}
    assert networks.http.get("/networks/wt-used").status == 200
    assert networks.http.post("/networks/prune", filters={"label": ["wt=1"]}).json() == {"NetworksDeleted": None}
