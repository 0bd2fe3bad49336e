"""Networks and published ports, with real traffic over loopback and between containers."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from tests.support.engine import IDLE, Engine, eventually

GET = r"printf 'GET / HTTP/1.0\r\n\r\n'"
WEB = ["httpd", "-f", "-p", "80", "-h", "/www"]


def publish(*ports: tuple[str, str, str]) -> dict[str, Any]:
    """Options of create for (container port, host IP, host port)."""
    bindings: dict[str, list[dict[str, str]]] = {}
    for inner, ip, outer in ports:
        bindings.setdefault(inner, []).append({"HostIp": ip, "HostPort": outer})
    return {"ExposedPorts": {inner: {} for inner in bindings}, "host": {"PortBindings": bindings}}


def ports_of(engine: Engine, container: str) -> dict[str, Any]:
    ports = engine.inspect(container)["NetworkSettings"]["Ports"]
    assert isinstance(ports, dict)
    return ports


def fetch(port: int, host: str = "127.0.0.1") -> bytes:
    """An HTTP GET; b"" where nobody listens."""
    try:
        with socket.create_connection((host, port), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            data = b""
            while more := connection.recv(4096):
                data += more
            return data
    except OSError:
        return b""


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with closing(socket.socket(socket.AF_INET, kind)) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


def test_published_on_loopback(engine: Engine) -> None:
    port = free_port()
    container = engine.run(WEB, **publish(("80/tcp", "127.0.0.1", str(port))))
    assert ports_of(engine, container) == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
    assert b"served" in eventually(lambda: fetch(port))
    engine.http.post(f"/containers/{container}/kill")
    eventually(lambda: ports_of(engine, container) == {})
    assert fetch(port) == b""
    engine.start(container)
    assert b"served" in eventually(lambda: fetch(port))


def test_published_everywhere(engine: Engine) -> None:
    port = free_port()
    container = engine.run(WEB, **publish(("80/tcp", "", str(port))))
    bound = ports_of(engine, container)["80/tcp"]
    assert {"HostIp": "0.0.0.0", "HostPort": str(port)} in bound
    assert b"served" in eventually(lambda: fetch(port))
    gateway = engine.inspect(container)["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
    assert b"served" in eventually(lambda: fetch(port, gateway))


def test_random_port(engine: Engine) -> None:
    container = engine.run(WEB, **publish(("80/tcp", "127.0.0.1", "")))
    (bound,) = ports_of(engine, container)["80/tcp"]
    assert int(bound["HostPort"]) >= 1024
    assert b"served" in eventually(lambda: fetch(int(bound["HostPort"])))


def test_range_of_host_ports(engine: Engine) -> None:
    first = free_port()
    ports = f"{first}-{first + 5}"
    taken = set()
    for _ in range(2):
        container = engine.run(WEB, **publish(("80/tcp", "127.0.0.1", ports)))
        (bound,) = ports_of(engine, container)["80/tcp"]
        taken.add(int(bound["HostPort"]))
    assert len(taken) == 2
    assert taken <= set(range(first, first + 6))


def test_publish_all(engine: Engine) -> None:
    exposed: dict[str, Any] = {"80/tcp": {}, "81/udp": {}}
    container = engine.run(WEB, ExposedPorts=exposed, host={"PublishAllPorts": True})
    ports = ports_of(engine, container)
    assert set(ports) == set(exposed)
    assert b"served" in eventually(lambda: fetch(int(ports["80/tcp"][0]["HostPort"])))


def test_exposed_is_not_published(engine: Engine) -> None:
    container = engine.run(WEB, ExposedPorts={"80/tcp": {}})
    assert ports_of(engine, container) == {"80/tcp": None}


UDP_ECHO = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 7000))
while True:
    data, peer = server.recvfrom(65536)
    server.sendto(b"got " + data, peer)
"""


@contextmanager
def in_network_of(engine: Engine, container: str, program: str) -> Iterator[None]:
    """Run a Python program in the container's network namespace, for what the image has no tool for."""
    pid = engine.state(container)["Pid"]
    process = subprocess.Popen(["nsenter", "-t", str(pid), "-n", sys.executable, "-c", program])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("ip", ["127.0.0.1", ""])
def test_udp(engine: Engine, ip: str) -> None:
    port = free_port(socket.SOCK_DGRAM)
    container = engine.idle(**publish(("7000/udp", ip, str(port))))
    assert {"HostIp": ip or "0.0.0.0", "HostPort": str(port)} in ports_of(engine, container)["7000/udp"]

    def ask() -> bytes:
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
            client.settimeout(0.5)
            client.connect(("127.0.0.1", port))
            try:
                client.send(b"hello")
                return client.recv(100)
            except OSError:
                return b""

    with in_network_of(engine, container, UDP_ECHO):
        assert eventually(ask) == b"got hello"


def test_port_taken_by_a_container(engine: Engine) -> None:
    port = str(free_port())
    first = engine.run(WEB, **publish(("80/tcp", "127.0.0.1", port)))
    container = engine.create(WEB, name="wt-second", **publish(("80/tcp", "127.0.0.1", port)))
    answer = engine.http.post(f"/containers/{container}/start")
    assert answer.status == 500
    assert answer.message.startswith("driver failed programming external connectivity on endpoint wt-second (")
    assert answer.message.endswith(f"): Bind for 127.0.0.1:{port} failed: port is already allocated")
    state = engine.state(container)
    assert not state["Running"]
    assert ports_of(engine, container) == {}
    engine.remove(first)
    engine.start(container)
    assert b"served" in eventually(lambda: fetch(int(port)))


def test_port_taken_by_a_process(engine: Engine) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = engine.failed_start(WEB, name="wt-second", **publish(("80/tcp", "127.0.0.1", str(port))))
        assert answer.status == 500
        assert answer.message.startswith("driver failed programming external connectivity on endpoint wt-second (")
        assert f"127.0.0.1:{port}" in answer.message
        assert "address already in use" in answer.message or "port is already allocated" in answer.message


def test_one_port_for_two_protocols(engine: Engine) -> None:
    port = free_port()
    container = engine.run(WEB, **publish(("80/tcp", "127.0.0.1", str(port)), ("80/udp", "127.0.0.1", str(port))))
    assert set(ports_of(engine, container)) == {"80/tcp", "80/udp"}
    assert b"served" in eventually(lambda: fetch(port))


def test_hairpin(engine: Engine) -> None:
    """A container reaches its own published port through the gateway's address."""
    port = free_port()
    container = engine.run(WEB, **publish(("80/tcp", "", str(port))))
    gateway = engine.inspect(container)["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
    eventually(lambda: engine.exec(container, f"{GET} | nc -w 2 {gateway} {port}")[1].endswith("served\n"))


def test_bridge(engine: Engine) -> None:
    container = engine.idle(name="wt-b")
    settings = engine.inspect(container)["NetworkSettings"]
    endpoint = settings["Networks"]["bridge"]
    assert settings["IPAddress"] == endpoint["IPAddress"]
    assert settings["Gateway"] == endpoint["Gateway"]
    assert len(endpoint["EndpointID"]) == len(endpoint["NetworkID"]) == 64
    address, prefix, mac = endpoint["IPAddress"], endpoint["IPPrefixLen"], endpoint["MacAddress"]
    _, shown, _ = engine.exec(container, "ip -o addr show; ip route; cat /sys/class/net/eth0/address")
    assert f"inet {address}/{prefix}" in shown
    assert "inet 127.0.0.1/8" in shown
    assert f"default via {endpoint['Gateway']} dev eth0" in shown
    assert mac in shown
    assert mac == "02:42:" + ":".join(f"{int(part):02x}" for part in address.split("."))
    engine.http.post(f"/containers/{container}/stop")
    endpoint = engine.inspect(container)["NetworkSettings"]["Networks"]["bridge"]
    assert (endpoint["IPAddress"], endpoint["Gateway"], endpoint["MacAddress"]) == ("", "", "")


def test_containers_reach_each_other_and_the_gateway(engine: Engine) -> None:
    server = engine.run(WEB)
    endpoint = engine.inspect(server)["NetworkSettings"]["Networks"]["bridge"]
    address = endpoint["IPAddress"]
    client = engine.idle()
    eventually(lambda: engine.exec(client, f"{GET} | nc -w 2 {address} 80")[1].endswith("served\n"))
    assert engine.exec(client, ["ping", "-c", "1", "-W", "2", endpoint["Gateway"]])[0] == 0


def test_none(engine: Engine) -> None:
    out = engine.output("ls /sys/class/net; ip route", host={"NetworkMode": "none"})
    assert [name for name in out.split() if name not in ("sit0", "tunl0", "ip6tnl0")] == ["lo"]
    container = engine.create(["true"], host={"NetworkMode": "none"})
    assert list(engine.inspect(container)["NetworkSettings"]["Networks"]) == ["none"]
    assert engine.output(["ping", "-c", "1", "127.0.0.1"], host={"NetworkMode": "none"})


def test_network_disabled(engine: Engine) -> None:
    answer = engine.try_create(["ls", "/sys/class/net"], NetworkDisabled=True)
    if answer.status == 501:  # refused, not dropped
        assert "NetworkDisabled" in answer.message
        return
    container = answer.json()["Id"]
    engine.start(container)
    engine.wait(container)
    assert b"eth0" not in engine.logs(container)[0]


def test_host(engine: Engine) -> None:
    import os

    container = engine.idle(host={"NetworkMode": "host"})
    assert engine.exec(container, ["readlink", "/proc/self/ns/net"])[1].strip() == os.readlink("/proc/self/ns/net")
    assert engine.exec(container, ["hostname"])[1].strip() == socket.gethostname()
    assert list(engine.inspect(container)["NetworkSettings"]["Networks"]) == ["host"]


def test_of_another_container(engine: Engine) -> None:
    owner = engine.run(["sh", "-c", "nc -l -p 7000 -e echo hello; sleep 60"], name="wt-owner", Hostname="box")
    mode = {"NetworkMode": "container:wt-owner"}
    container = engine.run(["sh", "-c", "until nc 127.0.0.1 7000; do sleep 0.05; done"], host=mode)
    assert engine.wait(container) == 0
    assert engine.logs(container)[0] == b"hello\n"
    assert engine.output(["hostname"], host=mode) == "box\n"
    assert engine.output(["cat", "/etc/hosts"], host=mode) == engine.exec(owner, ["cat", "/etc/hosts"])[1]
    inspect = engine.inspect(container)
    assert inspect["HostConfig"]["NetworkMode"] == f"container:{owner}"
    assert inspect["NetworkSettings"]["Networks"] == {}


def test_of_a_stopped_container(engine: Engine) -> None:
    owner = engine.create(IDLE, name="wt-owner")
    container = engine.create(["true"], host={"NetworkMode": "container:wt-owner"})
    answer = engine.http.post(f"/containers/{container}/start")
    assert answer.status == 409
    assert answer.message == f"cannot join network of a non running container: {owner}"


def test_mac_address(engine: Engine) -> None:
    endpoints = {"EndpointsConfig": {"bridge": {"MacAddress": "02:42:0a:0b:0c:0d"}}}
    container = engine.create(["cat", "/sys/class/net/eth0/address"], NetworkingConfig=endpoints)

    def shown() -> set[str]:
        settings = engine.inspect(container)["NetworkSettings"]
        return {settings["MacAddress"], settings["Networks"]["bridge"]["MacAddress"]}

    assert shown() == {"02:42:0a:0b:0c:0d"}  # what is asked for
    engine.start(container)
    engine.wait(container)
    assert engine.logs(container)[0] == b"02:42:0a:0b:0c:0d\n"
    assert shown() == {""}


def test_address_is_free_again(engine: Engine) -> None:
    """Many more starts than a moment's addresses."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: engine.result(["true"])[0], range(16))) == {0}


def test_addresses_differ(engine: Engine) -> None:
    containers = [engine.idle() for _ in range(4)]
    addresses = {engine.inspect(c)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] for c in containers}
    assert len(addresses) == 4


def test_read_networks(engine: Engine) -> None:
    networks = {network["Name"]: network for network in engine.http.get("/networks").json()}
    assert {"bridge", "host", "none"} <= networks.keys()
    assert [networks[name]["Driver"] for name in ("bridge", "host", "none")] == ["bridge", "host", "null"]
    bridge = networks["bridge"]
    (config,) = bridge["IPAM"]["Config"]
    assert config["Gateway"]
    container = engine.idle(name="wt-seen")
    for reference in ("bridge", bridge["Id"], bridge["Id"][:10]):
        network = engine.http.get(f"/networks/{reference}").json()
        assert network["Id"] == bridge["Id"]
        inside = network["Containers"][container]
        assert inside["Name"] == "wt-seen"
        endpoint = engine.inspect(container)["NetworkSettings"]["Networks"]["bridge"]
        assert inside["IPv4Address"] == f"{endpoint['IPAddress']}/{endpoint['IPPrefixLen']}"
        assert inside["EndpointID"] == endpoint["EndpointID"]
    assert [
        n["Name"] for n in engine.http.get("/networks", filters={"name": ["bridge"], "driver": ["bridge"]}).json()
    ] == ["bridge"]


def test_hosts_file(engine: Engine) -> None:
    container = engine.idle(Hostname="box", host={"ExtraHosts": ["db:10.1.2.3", "six:::1", "gw:host-gateway"]})
    endpoint = engine.inspect(container)["NetworkSettings"]["Networks"]["bridge"]
    lines = [line.split() for line in engine.exec(container, ["cat", "/etc/hosts"])[1].splitlines()]
    assert ["127.0.0.1", "localhost"] in lines
    assert ["10.1.2.3", "db"] in lines
    assert ["::1", "six"] in lines
    assert [endpoint["Gateway"], "gw"] in lines
    assert lines[-1] == [endpoint["IPAddress"], "box"]


def test_resolver(engine: Engine) -> None:
    out = engine.output(
        ["cat", "/etc/resolv.conf"],
        host={"Dns": ["192.0.2.53", "192.0.2.54"], "DnsSearch": ["example.org"], "DnsOptions": ["ndots:3"]},
    )
    lines = [line for line in out.splitlines() if line and not line.startswith("#")]
    assert lines == ["nameserver 192.0.2.53", "nameserver 192.0.2.54", "search example.org", "options ndots:3"]


def test_stop_frees_the_port_at_once(engine: Engine) -> None:
    port = free_port()
    for _ in range(3):
        container = engine.run(WEB, **publish(("80/tcp", "127.0.0.1", str(port))))
        engine.http.post(f"/containers/{container}/kill")
        engine.wait(container)
        engine.remove(container)


@pytest.mark.parametrize("mode", ["default", "bridge", ""])
def test_names_of_the_default_network(engine: Engine, mode: str) -> None:
    container = engine.create(["true"], host={"NetworkMode": mode})
    inspect = engine.inspect(container)
    assert list(inspect["NetworkSettings"]["Networks"]) == ["bridge"]
    assert inspect["HostConfig"]["NetworkMode"] in ("default", "bridge")


def test_large_transfer(engine: Engine) -> None:
    port = free_port()
    container = engine.run(
        ["sh", "-c", "while :; do head -c 3000000 /dev/zero | nc -l -p 7000; done"],
        **publish(("7000/tcp", "127.0.0.1", str(port))),
    )

    def count() -> int:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                total = 0
                while more := connection.recv(65536):
                    total += len(more)
                return total
        except OSError:
            time.sleep(0.05)
            return 0

    assert eventually(count) == 3_000_000
    assert container
