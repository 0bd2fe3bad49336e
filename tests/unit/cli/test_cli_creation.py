"""From the flags of `run` to the body of the request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wherry.cli import portspecs, values
from wherry.cli.creation import BadOption, body
from wherry.cli.flags import parse
from wherry.cli.table import CREATE_FLAGS


def made(*words: str) -> dict[str, Any]:
    flags, _ = parse(CREATE_FLAGS, list(words))
    return body(flags, "image", [])


def refusal(*words: str) -> str:
    with pytest.raises(BadOption) as caught:
        made(*words)
    return str(caught.value)


def test_what_is_said_without_flags() -> None:
    plain = made()
    assert (plain["AttachStdin"], plain["AttachStdout"], plain["AttachStderr"]) == (False, True, True)
    assert plain["Cmd"] is None
    assert plain["HostConfig"]["NetworkMode"] == "default"
    assert plain["HostConfig"]["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
    assert plain["HostConfig"]["MemorySwappiness"] == -1
    assert list(plain["NetworkingConfig"]["EndpointsConfig"]) == ["default"]


def test_streams() -> None:
    config = made("-i", "-t")
    assert (config["AttachStdin"], config["OpenStdin"], config["StdinOnce"], config["Tty"]) == (True,) * 4
    config = made("-a", "stderr")
    assert (config["AttachStdin"], config["AttachStdout"], config["AttachStderr"]) == (False, False, True)


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "env"
    file.write_text('# comment\n\nA=1\nFROM_CLIENT\nNOT_SET\nQ="q"\n  B=2 3\n')
    monkeypatch.setenv("FROM_CLIENT", "yes")
    monkeypatch.delenv("NOT_SET", raising=False)
    config = made("--env-file", str(file), "-e", "C=3", "-e", "FROM_CLIENT", "-e", "NOT_SET", "-e", "D=")
    assert config["Env"] == ["A=1", "FROM_CLIENT=yes", 'Q="q"', "B=2 3", "C=3", "FROM_CLIENT=yes", "NOT_SET", "D="]
    file.write_text("a b=c\n")
    assert refusal("--env-file", str(file)) == f"invalid env file ({file}): variable 'a b' contains whitespaces"
    assert refusal("--env-file", "/nowhere") == "open /nowhere: no such file or directory"


def test_entrypoint() -> None:
    assert made()["Entrypoint"] is None
    assert made("--entrypoint", "")["Entrypoint"] == [""]
    assert made("--entrypoint", "x")["Entrypoint"] == ["x"]


def test_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = made("-v", "/anonymous", "-v", "name:/a", "-v", "/host:/b:ro", "-v", "./rel:/c", "-v", "name:/a")
    assert config["Volumes"] == {"/anonymous": {}}
    assert config["HostConfig"]["Binds"] == ["name:/a", "/host:/b:ro", f"{tmp_path}/rel:/c"]
    assert refusal("-v", ":/x") == "invalid spec: :/x: empty section between colons"
    assert refusal("-v", "/a:/b:ro:more") == "invalid spec: /a:/b:ro:more: too many colons"


def test_health() -> None:
    config = made("--health-cmd", "a b", "--health-interval", "3s", "--health-retries", "2")
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "a b"], "Interval": 3 * 10**9, "Retries": 2}
    assert made("--no-healthcheck")["Healthcheck"] == {"Test": ["NONE"]}
    assert "Healthcheck" not in made()
    assert refusal("--no-healthcheck", "--health-cmd", "x") == "--no-healthcheck conflicts with --health-* options"
    assert refusal("--health-interval", "-1s") == "--health-interval cannot be negative"


def test_networks() -> None:
    config = made("--network", "name=front,alias=a,ip=10.0.0.2", "--network", "back")
    assert config["HostConfig"]["NetworkMode"] == "front"
    endpoints = config["NetworkingConfig"]["EndpointsConfig"]
    assert endpoints["front"]["Aliases"] == ["a"]
    assert endpoints["front"]["IPAMConfig"] == {"IPv4Address": "10.0.0.2"}
    assert set(endpoints) == {"front", "back"}
    assert made("--net", "host")["NetworkingConfig"] == {"EndpointsConfig": {}}
    assert made("--network", "own", "--link", "a:b")["NetworkingConfig"]["EndpointsConfig"]["own"]["Links"] == ["a:b"]
    assert refusal("--network-alias", "a") == "network-scoped aliases are only supported for user-defined networks"
    assert refusal("--network", "a", "--network", "a") == 'network "a" is specified multiple times'
    assert refusal("--network", "a", "--network", "host").startswith("conflicting options: cannot attach both")
    assert refusal("--network", "name=a,ip=1.2.3.4", "--ip", "1.2.3.5") == (
        "conflicting options: cannot specify both --ip and per-network IPv4 address"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pid", "x"], "--pid: invalid PID mode"),
        (["--uts", "x"], "--uts: invalid UTS mode"),
        (["--userns", "x"], "--userns: invalid USER mode"),
        (["--cgroupns", "x"], "--cgroupns: invalid CGROUP mode"),
        (["--rm", "--restart", "always"], "conflicting options: cannot specify both --restart and --rm"),
        (["--restart", "on-failure:x"], "invalid restart policy format: maximum retry count must be an integer"),
        (["--restart", ":1"], "invalid restart policy format: no policy provided before colon"),
        (["--storage-opt", "x"], "invalid storage option"),
        (["--security-opt", "foo"], 'Invalid --security-opt: "foo"'),
        (["--log-driver", "none", "--log-opt", "a=b"], "invalid logging opts for driver none"),
        (["--memory-swappiness", "101"], "invalid value: 101. Valid memory swappiness range is 0-100"),
        (["--mac-address", "x"], "x is not a valid mac address"),
        (["--device", "x"], "x is not an absolute path"),
        (["--device", "/a:/b:q"], "bad mode specified: q"),
        (["--expose", "1:2"], "invalid port format for --expose: 1:2"),
    ],
)
def test_refusals(words: list[str], message: str) -> None:
    assert refusal(*words) == message


def test_security(tmp_path: Path) -> None:
    profile = tmp_path / "p.json"
    profile.write_text('{ "defaultAction" : "SCMP_ACT_ALLOW" }')
    host = made("--security-opt", f"seccomp={profile}", "--security-opt", "systempaths=unconfined")["HostConfig"]
    assert host["SecurityOpt"] == ['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}']
    assert host["MaskedPaths"] == []
    assert host["ReadonlyPaths"] == []


def test_devices() -> None:
    host = made(
        "--device", "/dev/a", "--device", "/dev/a:/dev/b:r", "--device", "/dev/c:rw", "--device", "vendor.com/cls=x"
    )["HostConfig"]
    assert [tuple(device.values()) for device in host["Devices"]] == [
        ("/dev/a", "/dev/a", "rwm"),
        ("/dev/a", "/dev/b", "r"),
        ("/dev/c", "/dev/c", "rw"),
    ]
    assert host["DeviceRequests"][0]["DeviceIDs"] == ["vendor.com/cls=x"]


def test_capabilities_are_normalised() -> None:
    host = made("--cap-add", "chown", "--cap-add", "CAP_CHOWN", "--cap-drop", "all")["HostConfig"]
    assert (host["CapAdd"], host["CapDrop"]) == (["CAP_CHOWN"], ["ALL"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [("80/tcp", "", "")]),
        ("8080:80", [("80/tcp", "", "8080")]),
        ("127.0.0.1::80", [("80/tcp", "127.0.0.1", "")]),
        ("[::1]:82:80/udp", [("80/udp", "::1", "82")]),
        ("8000-8001:80-81", [("80/tcp", "", "8000"), ("81/tcp", "", "8001")]),
        ("8000-8001:80", [("80/tcp", "", "8000-8001")]),
    ],
)
def test_published_ports(text: str, expected: list[tuple[str, str, str]]) -> None:
    assert [(port, b["HostIp"], b["HostPort"]) for port, b in portspecs.one(text)] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", "invalid containerPort: abc"),
        ("99999:80", "invalid hostPort: 99999"),
        ("80:80/foo", "invalid proto: foo"),
        ("10-5:80", "invalid hostPort: 10-5"),
        ("8000-8010:80-81", "invalid ranges specified for container and host Ports: 80-81 and 8000-8010"),
        ("1.2.3:80:80", "invalid IP address: 1.2.3"),
    ],
)
def test_not_published_ports(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        portspecs.one(text)
    assert str(caught.value) == message


def test_the_long_form_of_a_port() -> None:
    assert portspecs.parse(["target=7,published=8,protocol=udp"], [])[1] == {"7/udp": [{"HostIp": "", "HostPort": "8"}]}


def test_mounts() -> None:
    assert values.mount("type=tmpfs,dst=/x,tmpfs-size=1m,tmpfs-mode=1777") == {
        "Type": "tmpfs",
        "Target": "/x",
        "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1777},
    }
    assert values.mount("src=v,dst=/y,volume-nocopy,ro")["VolumeOptions"] == {"DriverConfig": {}, "NoCopy": True}
    assert values.mount('"type=bind","src=/a,b",dst=/c')["Source"] == "/a,b"
    assert values.mount("TYPE=bind,Source=/A,DST=/c,READONLY") == values.mount("type=bind,source=/A,dst=/c,readonly")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "invalid field 'x' must be a key=value pair"),
        ("src=x", "target is required"),
        ("type=bind,foo=x", "unexpected key 'foo' in 'foo=x'"),
        ("type=bind,src=/x,dst=/m,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
        ("dst=/m,readonly=foo", "invalid value for readonly: foo"),
        ("type=tmpfs,dst=/x,tmpfs-mode=99", "invalid value for tmpfs-mode: 99"),
    ],
)
def test_not_mounts(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        values.mount(text)
    assert str(caught.value) == message


def test_gpus() -> None:
    assert values.gpus("all")["Count"] == -1
    request = values.gpus('"device=1,2","capabilities=a,b",driver=nv')
    assert (request["DeviceIDs"], request["Capabilities"], request["Count"]) == (["1", "2"], [["a", "b", "gpu"]], 0)
    with pytest.raises(ValueError, match="gpu request key 'count' can be specified only once"):
        values.gpus("all,count=2")


@pytest.mark.parametrize(("text", "nano"), [("1", 10**9), ("1.5", 15 * 10**8), ("1/2", 5 * 10**8)])
def test_cpus(text: str, nano: int) -> None:
    assert values.nano_cpus(text) == nano


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("decimal", "abc", "failed to parse abc as a rational number"),
        ("decimal", "0.0000000001", "value is too precise"),
        ("ulimit", "nofile=1:2:3", "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`"),
        ("ulimit", "foo=1", "invalid ulimit type: foo"),
        ("list/host", "x", 'bad format for add-host: "x"'),
        ("list/ip", "x", "IP address is not correctly formatted: x"),
        ("list/domain", "!", "! is not a valid domain"),
        ("list/link", "a:b:c", "bad format for links: a:b:c"),
        ("list/device-rule", "x", "invalid device cgroup format 'x'"),
        ("list/weight-device", "/dev/x:5", "invalid weight for device: /dev/x:5"),
        ("map/sysctl", "a", "sysctl 'a' is not allowed"),
        ("filter", "foo", "bad format of filter (expected name=value)"),
        ("network", "a=b,c=d", "invalid field key a"),
    ],
)
def test_values_refused(kind: str, text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        values.PARSERS[kind](text)
    assert str(caught.value) == message
