"""Records as the real engine shows them. Keys and nulls are those of an engine 26.1 (API 1.45), taken down from one."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.api import encode
from wherry.model.config import Config, HostConfig, PortBinding, RestartPolicy
from wherry.model.container import (
    Container,
    Endpoint,
    MountPoint,
    ProcessIdentity,
    PublishedPort,
    Sandbox,
    State,
)
from wherry.model.states import Status

SECOND = 1_000_000_000
NOW = 1_795_516_980 * SECOND

ENDPOINT_KEYS = (
    "IPAMConfig Links Aliases MacAddress NetworkID EndpointID Gateway IPAddress IPPrefixLen IPv6Gateway "
    "GlobalIPv6Address GlobalIPv6PrefixLen DriverOpts DNSNames"
).split()
INSPECT_KEYS = (
    "Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name RestartCount Driver Platform "
    "MountLabel ProcessLabel AppArmorProfile ExecIDs HostConfig GraphDriver Mounts Config NetworkSettings"
).split()
HOST_KEYS = (
    "Binds ContainerIDFile LogConfig NetworkMode PortBindings RestartPolicy AutoRemove VolumeDriver VolumesFrom "
    "ConsoleSize CapAdd CapDrop CgroupnsMode Dns DnsOptions DnsSearch ExtraHosts GroupAdd IpcMode Cgroup Links "
    "OomScoreAdj PidMode Privileged PublishAllPorts ReadonlyRootfs SecurityOpt UTSMode UsernsMode ShmSize Runtime "
    "Isolation CpuShares Memory NanoCpus CgroupParent BlkioWeight BlkioWeightDevice BlkioDeviceReadBps "
    "BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps CpuPeriod CpuQuota CpuRealtimePeriod "
    "CpuRealtimeRuntime CpusetCpus CpusetMems Devices DeviceCgroupRules DeviceRequests MemoryReservation MemorySwap "
    "MemorySwappiness OomKillDisable PidsLimit Ulimits CpuCount CpuPercent IOMaximumIOps IOMaximumBandwidth "
    "MaskedPaths ReadonlyPaths"
).split()
CONFIG_KEYS = (
    "Hostname Domainname User AttachStdin AttachStdout AttachStderr Tty OpenStdin StdinOnce Env Cmd Image Volumes "
    "WorkingDir Entrypoint OnBuild Labels"
).split()


def container(**changes: object) -> Container:
    record = Container(
        id="a" * 64,
        name="web",
        created_at=NOW - 60 * SECOND,
        image="sha256:" + "b" * 64,
        image_ref="busybox",
        chain_id="sha256:" + "c" * 64,
        path="sh",
        args=["-c", 'echo "a  b"'],
        config=Config(image="busybox", cmd=["sh"], exposed_ports={"80/tcp": {}, "99/udp": {}}),
        host=HostConfig(network_mode="bridge", port_bindings={"80/tcp": [PortBinding("", "8080")]}),
        state=State(status=Status.RUNNING, started_at=NOW - 5 * SECOND, process=ProcessIdentity(42, 1, "boot"), run=1),
        sandbox=Sandbox(
            id="d" * 64,
            mode="bridge",
            netns="/proc/42/ns/net",
            endpoints={
                "bridge": Endpoint(
                    network_id="n" * 64,
                    network="bridge",
                    endpoint_id="e" * 64,
                    gateway="172.17.0.1",
                    address="172.17.0.2",
                    prefix_length=16,
                    mac_address="02:42:ac:11:00:02",
                )
            },
            ports=[
                PublishedPort(protocol="tcp", container_port=80, host_ip="0.0.0.0", host_port=8080),
                PublishedPort(protocol="tcp", container_port=80, host_ip="::", host_port=8080),
            ],
        ),
        mounts=[
            MountPoint(type="volume", name="v", source="/v/_data", destination="/data", driver="local"),
            MountPoint(
                type="bind", source="/etc", destination="/a", mode="ro", read_write=False, propagation="rprivate"
            ),
            MountPoint(type="tmpfs", source="", destination="/scratch"),
            MountPoint(type="tmpfs", source="", destination="/t2", from_mounts=True),
        ],
    )
    for name, value in changes.items():
        setattr(record, name, value)
    return record


def stopped(**changes: object) -> Container:
    record = container()
    record.state = State(
        status=Status.EXITED, started_at=NOW - 9 * SECOND, finished_at=NOW - 3 * SECOND, exit_code=3, run=1
    )
    return record


def shown(record: Container) -> dict[str, object]:
    value = encode.inspect(record, directory=Path("/d"), exec_ids=[])
    decoded: dict[str, object] = json.loads(msgspec.json.encode(value))
    return decoded


def test_inspect_has_exactly_the_real_engines_keys() -> None:
    value = encode.inspect(container(), directory=Path("/d"), exec_ids=["x"], size=None)
    assert list(value) == INSPECT_KEYS
    assert list(value["HostConfig"]) == HOST_KEYS
    assert sorted(value["Config"]) == sorted([*CONFIG_KEYS, "ExposedPorts"])
    assert list(value["NetworkSettings"]["Networks"]["bridge"]) == ENDPOINT_KEYS


def test_a_running_containers_network() -> None:
    network = encode.network_settings(container())
    assert network["Ports"] == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
        "99/udp": None,
    }
    assert (network["IPAddress"], network["IPPrefixLen"], network["Gateway"]) == ("172.17.0.2", 16, "172.17.0.1")
    assert encode.port_list(container()) == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": 99, "Type": "udp"},
    ]


def test_a_stopped_containers_network_is_empty_but_named() -> None:
    record = stopped()
    network = encode.network_settings(record)
    assert (network["Ports"], network["IPAddress"], network["MacAddress"]) == ({}, "", "")
    bridge = network["Networks"]["bridge"]
    assert (bridge["NetworkID"], bridge["EndpointID"], bridge["IPAddress"]) == ("n" * 64, "", "")
    summary = encode.summary(record, "busybox", NOW)
    assert summary["Ports"] == []


def test_host_and_none_show_as_networks_and_a_shared_one_does_not() -> None:
    for mode in ("host", "none"):
        record = container(sandbox=Sandbox(id="d" * 64, mode=mode))
        assert list(encode.networks(record)) == [mode]
        assert encode.network_settings(record)["Ports"] == {}
    record = container(sandbox=Sandbox(id="d" * 64, mode="container:x"))
    settings = encode.network_settings(record)
    assert (settings["Networks"], settings["SandboxID"]) == ({}, "")


def test_the_list() -> None:
    summary = encode.summary(container(), "busybox", NOW)
    assert list(summary) == (
        "Id Names Image ImageID Command Created Ports Labels State Status HostConfig NetworkSettings Mounts".split()
    )
    assert summary["Command"] == "sh -c 'echo \"a  b\"'"
    assert (summary["State"], summary["Status"], summary["Labels"]) == ("running", "Up 5 seconds", {})
    assert [mount["Destination"] for mount in summary["Mounts"]] == ["/a", "/data", "/t2"]
    assert summary["Mounts"][0] == {
        "Type": "bind", "Source": "/etc", "Destination": "/a", "Mode": "ro", "RW": False, "Propagation": "rprivate",
    }  # fmt: skip
    sized = encode.summary(container(), "busybox", NOW, (0, 1000))
    assert "SizeRw" not in sized
    assert sized["SizeRootFs"] == 1000


def test_the_list_from_pieces_is_the_list() -> None:
    summaries = encode.Summaries()
    first, second = container(), stopped()
    second.id = "f" * 64
    for now in (NOW, NOW + 100 * SECOND):
        for change in ("a", "b"):
            first.name = change
            made = summaries.encode([first, second], ["busybox", "other"], now)
            assert json.loads(made) == json.loads(
                msgspec.json.encode([encode.summary(first, "busybox", now), encode.summary(second, "other", now)])
            )
    second.state = first.state
    (only,) = json.loads(summaries.encode([second], ["x"], NOW))
    assert only == json.loads(msgspec.json.encode(encode.summary(second, "x", NOW)))


def test_states() -> None:
    record = stopped()
    assert encode.status_text(record, NOW) == "Exited (3) 3 seconds ago"
    assert encode.state_of(record)["Pid"] == 0
    for status, text, is_running in (
        (Status.PAUSED, "Up 5 seconds (Paused)", True),
        (Status.REMOVING, "Removal In Progress", False),
        (Status.DEAD, "Dead", False),
    ):
        record = container()
        record.state.status = status
        assert (encode.status_text(record, NOW), encode.running(record)) == (text, is_running)
    record.state = State(status=Status.RESTARTING, exit_code=3, started_at=NOW, finished_at=NOW, run=2)
    assert encode.status_text(record, NOW) == "Restarting (3) Less than a second ago"
    assert encode.state_of(record)["Running"]
    record.state = State()
    assert encode.status_text(record, NOW) == "Created"
    assert encode.state_of(record)["StartedAt"] == "0001-01-01T00:00:00Z"


def test_a_container_that_is_being_started_shows_as_before() -> None:
    record = container()
    record.state = State(status=Status.STARTING, run=1)
    assert encode.shown_status(record) == "created"
    record.state = State(status=Status.STARTING, started_at=NOW, finished_at=NOW, run=2)
    assert encode.shown_status(record) == "exited"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (119, "About a minute"),
        (120, "2 minutes"), (3599, "59 minutes"), (3600, "About an hour"), (5399, "About an hour"), (5400, "2 hours"),
        (86_400, "24 hours"), (47 * 3600, "47 hours"), (48 * 3600, "2 days"), (13 * 86_400, "13 days"),
        (14 * 86_400, "2 weeks"), (59 * 86_400, "8 weeks"), (60 * 86_400, "2 months"), (729 * 86_400, "24 months"),
        (730 * 86_400, "2 years"),
    ],
)  # fmt: skip
def test_durations_in_words(seconds: int, text: str) -> None:
    assert encode.human_duration(seconds * SECOND) == text


@given(st.integers(-(10**9), 10**20))
def test_every_duration_has_words(nanoseconds: int) -> None:
    assert encode.human_duration(nanoseconds)


def test_optional_keys_show_when_they_have_a_value() -> None:
    host = HostConfig(tmpfs={"/x": ""}, init=True, sysctls={"a": "b"}, restart_policy=RestartPolicy("always"))
    assert {"Tmpfs", "Init", "Sysctls"} <= encode.host_config(host).keys()
    config = Config(stop_signal="INT", stop_timeout=0, mac_address="02:42:ac:11:00:99")
    assert encode.config(config).keys() >= {"StopSignal", "StopTimeout", "MacAddress"}


def test_everything_encodes() -> None:
    assert shown(container())["Name"] == "/web"
