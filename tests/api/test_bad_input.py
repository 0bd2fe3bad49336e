"""What an engine refuses, in which words, and that nothing is left behind."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.engine import Engine

MIB = 1 << 20

REFUSED_AT_CREATE: list[tuple[str, dict[str, Any], dict[str, Any], int, str]] = [
    # (what, Config, HostConfig, status, message)
    ("unknown image", {"Image": "wt-none"}, {}, 404, "No such image: wt-none:latest"),
    ("unknown tag", {"Image": "wt-base:no"}, {}, 404, "No such image: wt-base:no"),
    (
        "invalid reference",
        {"Image": "WT!!"},
        {},
        400,
        "invalid reference format: repository name (library/WT!!) must be lowercase",
    ),
    ("memory below the minimum", {}, {"Memory": 1000}, 400, "Minimum memory limit allowed is 6MB"),
    ("negative memory", {}, {"Memory": -1}, 400, "Minimum memory limit allowed is 6MB"),
    (
        "swap below memory",
        {},
        {"Memory": 64 * MIB, "MemorySwap": MIB},
        400,
        "Minimum memoryswap limit should be larger than memory limit, see usage",
    ),
    (
        "swap without memory",
        {},
        {"MemorySwap": 64 * MIB},
        400,
        "You should always set the Memory limit when using Memoryswap limit, see usage",
    ),
    (
        "reservation above memory",
        {},
        {"Memory": 16 * MIB, "MemoryReservation": 64 * MIB},
        400,
        "Minimum memory limit can not be less than memory reservation limit, see usage",
    ),
    (
        "reservation below the minimum",
        {},
        {"MemoryReservation": 1000},
        400,
        "Minimum memory reservation allowed is 6MB",
    ),
    (
        "swappiness",
        {},
        {"MemorySwappiness": 101},
        400,
        "Invalid value: 101, valid memory swappiness range is 0-100",
    ),
    ("added capability", {}, {"CapAdd": ["NOPE"]}, 400, 'invalid CapAdd: unknown capability: "CAP_NOPE"'),
    ("dropped capability", {}, {"CapDrop": ["NOPE"]}, 400, 'invalid CapDrop: unknown capability: "CAP_NOPE"'),
    (
        "CPUs and quota",
        {},
        {"NanoCpus": 10**9, "CpuQuota": 1000},
        400,
        "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
    ),
    (
        "CPUs and period",
        {},
        {"NanoCpus": 10**9, "CpuPeriod": 1000},
        400,
        "Conflicting options: Nano CPUs and CPU Period cannot both be set",
    ),
    ("quota", {}, {"CpuQuota": 10}, 400, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
    (
        "period",
        {},
        {"CpuPeriod": 10},
        400,
        "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
    ),
    ("cpuset", {}, {"CpusetCpus": "a"}, 400, "Invalid value a for cpuset cpus: invalid format: a"),
    ("oom score", {}, {"OomScoreAdj": 2000}, 400, "Invalid value 2000, range for oom score adj is [-1000, 1000]"),
    ("negative shm", {}, {"ShmSize": -1}, 400, "SHM size can not be less than 0"),
    (
        "container network without a name",
        {},
        {"NetworkMode": "container:"},
        400,
        "Invalid network mode: invalid container format container:<name|id>",
    ),
    (
        "hostname in a container's network",
        {"Hostname": "a"},
        {"NetworkMode": "container:wt-x"},
        400,
        "conflicting options: hostname and the network mode",
    ),
    (
        "ports in a container's network",
        {},
        {"NetworkMode": "container:wt-x", "PortBindings": {"80/tcp": [{"HostPort": "1"}]}},
        400,
        "conflicting options: port publishing and the container type network mode",
    ),
    ("pid mode", {}, {"PidMode": "nope"}, 400, "invalid PID mode: nope"),
    ("ipc mode", {}, {"IpcMode": "nope"}, 400, "invalid IPC mode: nope"),
    ("uts mode", {}, {"UTSMode": "nope"}, 400, "invalid UTS mode: nope"),
    ("cgroup mode", {}, {"CgroupnsMode": "nope"}, 400, "invalid cgroup namespace mode: nope"),
    (
        "restart policy",
        {},
        {"RestartPolicy": {"Name": "nope"}},
        400,
        "invalid restart policy: unknown policy 'nope'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
    ),
    (
        "negative retries",
        {},
        {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}},
        400,
        "invalid restart policy: maximum retry count cannot be negative",
    ),
    (
        "retries of always",
        {},
        {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 1}},
        400,
        "invalid restart policy: maximum retry count can only be used with 'on-failure'",
    ),
    (
        "restart and remove",
        {},
        {"RestartPolicy": {"Name": "always"}, "AutoRemove": True},
        400,
        "can't create 'AutoRemove' container with restart policy",
    ),
    (
        "container port",
        {},
        {"PortBindings": {"99999/tcp": [{"HostPort": "1"}]}},
        400,
        'invalid port specification: "99999"',
    ),
    (
        "host port too large",
        {},
        {"PortBindings": {"80/tcp": [{"HostPort": "99999"}]}},
        400,
        'invalid port specification: "99999"',
    ),
    (
        "host port not a number",
        {},
        {"PortBindings": {"80/tcp": [{"HostPort": "a"}]}},
        400,
        'invalid port specification: "a"',
    ),
    (
        "relative working directory",
        {"WorkingDir": "rel"},
        {},
        400,
        "the working directory 'rel' is invalid, it needs to be an absolute path",
    ),
    ("environment without a name", {"Env": ["=x"]}, {}, 400, "invalid environment variable: =x"),
    ("empty environment entry", {"Env": [""]}, {}, 400, "invalid environment variable: "),
    ("stop signal", {"StopSignal": "NOPE"}, {}, 400, "invalid signal: NOPE"),
    ("runtime", {}, {"Runtime": "nope"}, 400, "unknown or invalid runtime name: nope"),
    (
        "log driver",
        {},
        {"LogConfig": {"Type": "nope"}},
        400,
        'error looking up logging plugin nope: plugin "nope" not found',
    ),
    (
        "log option",
        {},
        {"LogConfig": {"Type": "json-file", "Config": {"nope": "1"}}},
        400,
        "unknown log opt 'nope' for json-file log driver",
    ),
    ("extra host", {}, {"ExtraHosts": ["nope"]}, 400, 'bad format for add-host: "nope"'),
    ("extra host's address", {}, {"ExtraHosts": ["a:nope"]}, 400, 'invalid IP address in add-host: "nope"'),
    ("security option", {}, {"SecurityOpt": ["nope"]}, 500, 'invalid --security-opt 1: "nope"'),
    ("security option's key", {}, {"SecurityOpt": ["nope=1"]}, 500, 'invalid --security-opt 2: "nope=1"'),
    (
        "bind with a relative target",
        {},
        {"Binds": ["/a:b"]},
        500,
        "invalid volume specification: '/a:b': invalid mount config for type \"bind\": "
        "invalid mount path: 'b' mount path must be absolute",
    ),
    (
        "volume with a relative target",
        {},
        {"Binds": ["nope"]},
        500,
        "invalid volume specification: 'nope': invalid mount config for type \"volume\": "
        "invalid mount path: 'nope' mount path must be absolute",
    ),
    ("bind mode", {}, {"Binds": ["/a:/b:zz"]}, 500, "invalid mode: zz"),
    (
        "bind over the root",
        {},
        {"Binds": ["/a:/"]},
        500,
        "invalid volume specification: '/a:/': invalid mount config for type \"bind\": "
        "invalid specification: destination can't be '/'",
    ),
    ("bind with too many parts", {}, {"Binds": ["/a:/b:ro:x"]}, 500, "invalid volume specification: '/a:/b:ro:x'"),
    (
        "volume name",
        {},
        {"Binds": ["x!:/b"]},
        400,
        'create x!: "x!" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are '
        "allowed. If you intended to pass a host directory, use absolute path",
    ),
    ("two binds on one path", {}, {"Binds": ["/tmp:/b", "/var:/b"]}, 400, "Duplicate mount point: /b"),
    (
        "bind source missing",
        {},
        {"Mounts": [{"Type": "bind", "Source": "/wt-nope", "Target": "/x"}]},
        400,
        'invalid mount config for type "bind": bind source path does not exist: /wt-nope',
    ),
    (
        "relative bind source",
        {},
        {"Mounts": [{"Type": "bind", "Source": "wt-nope", "Target": "/x"}]},
        400,
        "invalid mount config for type \"bind\": invalid mount path: 'wt-nope' mount path must be absolute",
    ),
    (
        "mount without a target",
        {},
        {"Mounts": [{"Type": "bind", "Source": "/tmp"}]},
        400,
        'invalid mount config for type "bind": field Target must not be empty',
    ),
    (
        "mount type",
        {},
        {"Mounts": [{"Type": "nope", "Source": "/tmp", "Target": "/x"}]},
        400,
        'invalid mount config for type "nope": mount type unknown',
    ),
    (
        "tmpfs with a source",
        {},
        {"Mounts": [{"Type": "tmpfs", "Source": "/a", "Target": "/x"}]},
        400,
        'invalid mount config for type "tmpfs": field Source must not be specified',
    ),
    (
        "tmpfs with a relative target",
        {},
        {"Tmpfs": {"rel": ""}},
        400,
        "invalid mount path: 'rel' mount path must be absolute",
    ),
    ("volumes from nobody", {}, {"VolumesFrom": ["wt-nope"]}, 400, "No such container: wt-nope"),
]


@pytest.mark.parametrize(
    ("config", "host", "status", "message"),
    [case[1:] for case in REFUSED_AT_CREATE],
    ids=[case[0] for case in REFUSED_AT_CREATE],
)
def test_refused_at_create(
    engine: Engine, config: dict[str, Any], host: dict[str, Any], status: int, message: str
) -> None:
    answer = engine.try_create(["true"], name="wt-refused", host=host, **config)
    assert (answer.status, answer.message) == (status, message)
    assert engine.http.get("/containers/wt-refused/json").status == 404


def test_more_cpus_than_there_are(engine: Engine) -> None:
    cpus = engine.http.get("/info").json()["NCPU"]
    for asked in (-1, 1000 * 10**9):
        answer = engine.try_create(["true"], host={"NanoCpus": asked})
        words = f"Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        assert (answer.status, answer.message) == (400, words)
    answer = engine.try_create(["true"], host={"CpusetCpus": "999"})
    assert answer.status == 400
    assert answer.message.startswith("Requested CPUs are not available - requested 999, available: 0")


@pytest.mark.parametrize("name", ["-x", "a b", "a/b", ".x", "é", "x"])
def test_invalid_name(engine: Engine, name: str) -> None:
    answer = engine.try_create(["true"], name=name)
    words = f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    assert (answer.status, answer.message) == (400, words)


def test_name_taken(engine: Engine) -> None:
    first = engine.create(["true"], name="wt-taken")
    answer = engine.try_create(["true"], name="wt-taken")
    assert answer.status == 409
    assert answer.message == (
        f'Conflict. The container name "/wt-taken" is already in use by container "{first}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )


def test_no_command(engine: Engine) -> None:
    engine.import_image(b"\0" * 10240, "wt-empty")
    for name in ("", "a/b"):  # it is looked at before the name
        answer = engine.try_create(None, name=name, Image="wt-empty")
        assert (answer.status, answer.message) == (400, "no command specified")


def test_a_directory_in_place_of_the_users(engine: Engine) -> None:
    engine.import_image(b"\0" * 10240, "wt-bare")
    container = engine.create(["true"], Image="wt-bare", WorkingDir="/etc/passwd")
    answer = engine.http.post(f"/containers/{container}/start")
    assert answer.status == 500
    assert answer.message.startswith("unable to find user 0: ")
    assert answer.message.endswith(": is a directory")
    engine.remove(container)
    assert engine.http.delete("/images/wt-bare").status == 200


NO_USER = "no matching entries in passwd file"
NO_GROUP = "no matching entries in group file"
REFUSED_AT_START: list[tuple[str, list[str], dict[str, Any], dict[str, Any], int, str]] = [
    # (what, command, Config, HostConfig, status, words in the message)
    ("unknown user", ["true"], {"User": "ghost"}, {}, 500, f"unable to find user ghost: {NO_USER}"),
    ("unknown group", ["true"], {"User": "u:ghost"}, {}, 500, f"unable to find group ghost: {NO_GROUP}"),
    ("unknown extra group", ["true"], {}, {"GroupAdd": ["ghost"]}, 500, f"Unable to find group ghost: {NO_GROUP}"),
    ("unknown network", ["true"], {}, {"NetworkMode": "wt-nonet"}, 404, "network wt-nonet not found"),
    ("network of nobody", ["true"], {}, {"NetworkMode": "container:wt-nope"}, 404, "No such container: wt-nope"),
    ("command not in PATH", ["nosuch"], {}, {}, 400, 'exec: "nosuch": executable file not found in $PATH'),
    ("command missing", ["/nosuch"], {}, {}, 400, 'exec: "/nosuch": stat /nosuch: no such file or directory'),
    ("command not executable", ["/etc/passwd"], {}, {}, 400, 'exec: "/etc/passwd": permission denied'),
    ("command is a directory", ["/etc"], {}, {}, 400, 'exec: "/etc": is a directory: unknown: permission denied'),
    ("directory in $PATH", ["shm"], {"Env": ["PATH=/dev"]}, {}, 400, 'exec: "shm": executable file not found in $PATH'),
    ("command below a file", ["/etc/passwd/x"], {}, {}, 400, "not a directory: unknown: Are you trying to mount a"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "config", "host", "status", "words"),
    [case[1:] for case in REFUSED_AT_START],
    ids=[case[0] for case in REFUSED_AT_START],
)
def test_refused_at_start(
    engine: Engine, command: list[str], config: dict[str, Any], host: dict[str, Any], status: int, words: str
) -> None:
    answer = engine.try_create(command, host=host, **config)
    if answer.status != 201:  # found at once
        assert (answer.status, answer.message) == (400, words)  # clients take a 404 for the image, and pull it
        return
    container = answer.json()["Id"]
    answer = engine.http.post(f"/containers/{container}/start")
    assert answer.status == status
    assert words in answer.message
    state = engine.state(container)
    assert not state["Running"]
    assert state["Pid"] == 0
    assert state["Status"] in ("created", "exited")


@pytest.mark.parametrize(("command", "code"), [("nosuch", 127), ("/nosuch", 127), ("/etc/passwd", 126), ("/etc", 126)])
def test_exit_code_of_a_failed_start(engine: Engine, command: str, code: int) -> None:
    container = engine.create([command])
    engine.http.post(f"/containers/{container}/start")
    state = engine.state(container)
    assert state["ExitCode"] == code
    assert state["Error"]


def test_a_container_can_be_started_after_a_failed_start(engine: Engine) -> None:
    owner = engine.create(["sleep", "60"])
    container = engine.create(["sh", "-c", "echo up"], host={"NetworkMode": f"container:{owner}"})
    assert engine.http.post(f"/containers/{container}/start").status == 409
    engine.start(owner)
    engine.start(container)
    assert engine.wait(container) == 0


def test_working_directory_is_a_file(engine: Engine) -> None:
    """Found at create or at start."""
    answer = engine.try_create(["true"], WorkingDir="/etc/passwd")
    if answer.status == 201:
        answer = engine.http.post(f"/containers/{answer.json()['Id']}/start")
    assert answer.status in (400, 500)
    assert "/etc/passwd" in answer.message
    assert "not a directory" in answer.message.lower()


def test_bodies_that_are_not_json(engine: Engine) -> None:
    def post(body: bytes, kind: str = "application/json") -> tuple[int, str]:
        headers = {"Content-Type": kind} if kind else {}
        answer = engine.http.request("POST", "/containers/create", body=body, headers=headers)
        return answer.status, answer.message

    assert post(b"") == (400, "invalid JSON: got EOF while reading request body")
    assert post(b"null") == (400, "config cannot be empty in order to create a container")
    assert post(b"{} {}") == (400, "unexpected content after JSON")
    assert post(b"{}", "text/plain") == (
        400,
        "unsupported Content-Type header (text/plain): must be 'application/json'",
    )
    assert post(b"{}", "") == (400, "malformed Content-Type header (): mime: no media type")
    for spoiled in (b"{", b"{x}", b'{"Image":'):
        status, message = post(spoiled)
        assert status == 400
        assert message.startswith("invalid JSON: ")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"Image": 3}, "Image"),
        ({"Image": "wt-base", "HostConfig": {"Memory": "x"}}, "Memory"),
        ({"Image": "wt-base", "Env": "A=1"}, "Env"),
    ],
)
def test_wrong_type_names_the_field(engine: Engine, body: dict[str, Any], field: str) -> None:
    answer = engine.http.post("/containers/create", body)
    assert answer.status == 400
    assert answer.message.startswith("invalid JSON: ")
    assert field in answer.message


def test_json_as_go_reads_it(engine: Engine) -> None:
    """Unknown fields are ignored, keys match whatever their case, Cmd is a string or a list."""
    answer = engine.http.post(
        "/containers/create",
        {"iMage": "wt-base", "cmd": "true", "Nonsense": 1, "hostconfig": {"AUTOREMOVE": False, "Other": {}}},
    )
    assert answer.status == 201, answer.body
    assert engine.inspect(answer.json()["Id"])["Config"]["Cmd"] == ["true"]
