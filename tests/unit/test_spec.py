"""The OCI spec of a container, as values."""

from pathlib import Path
from typing import Any

import pytest

from wherry.errors import SystemFailure
from wherry.model import devices, mounts
from wherry.model.config import BindOptions, Config, HostConfig, Mount, ThrottleDevice, Ulimit
from wherry.model.container import Container, Sandbox
from wherry.model.devices import Device, DeviceRule
from wherry.model.host import CGROUP_FEATURES, Binaries, CgroupLayout, Host, Roots
from wherry.model.users import ResolvedUser
from wherry.model.validate import adapt
from wherry.runtime import spec
from wherry.runtime.spec import EtcFiles, SpecInputs

ID = "ab" * 32
MB = 1024 * 1024


def a_host(**changed: Any) -> Host:
    facts: dict[str, Any] = {
        "roots": Roots(Path("/d"), Path("/r")),
        "binaries": Binaries(None, None, None, None),
        "cgroups": CgroupLayout.HYBRID,
        "controllers": frozenset(),
        "kernel": (6, 1),
        "boot_id": "",
        "cpus": 2,
        "memory": 0,
        "nftables": True,
        "ipv6": True,
        "apparmor": False,
        "selinux": False,
        "seccomp": True,
        "cgroup_features": CGROUP_FEATURES,
        **changed,
    }
    return Host(**facts)


def made(config: Config | None = None, host: Host | None = None, inputs: dict[str, Any] | None = None, **settings: Any):  # type: ignore[no-untyped-def]
    host = host or a_host()
    config = config or Config()
    host_config = HostConfig(**settings)
    adapt(host_config, host, "crun")
    container = Container(
        id=ID,
        name="n",
        created_at=0,
        image="",
        image_ref="",
        chain_id="",
        path="/bin/true",
        args=["x"],
        config=config,
        host=host_config,
        sandbox=Sandbox(id=ID, mode=host_config.network_mode),
        mounts=mounts.resolve((), host_config, data_root="/d"),
    )
    given: dict[str, Any] = {
        "host": host,
        "rootfs": "/root",
        "cgroup": f"/wherry/{ID}",
        "user": ResolvedUser(0, 0, (0,), "/root"),
        "hostname": ID[:12],
        "netns": "/ns",
        "etc": EtcFiles("/f/hosts", "/f/hostname", "/f/resolv.conf"),
        "mounts": container.mounts,
        "ulimits": host_config.ulimits or (),
        **(inputs or {}),
    }
    return spec.build(container, SpecInputs(**given))


def mounted(built: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["destination"]: mount for mount in built["mounts"]}


def test_a_plain_container_is_what_the_real_engine_makes() -> None:
    built = made()
    assert [(m["destination"], m["type"], m["source"], m["options"]) for m in built["mounts"]] == [
        ("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        (
            "/dev/pts",
            "devpts",
            "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        ("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
        ("/sys/fs/cgroup", "cgroup", "cgroup", ["ro", "nosuid", "noexec", "nodev"]),
        ("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
        ("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", f"size={64 * MB}"]),
        ("/etc/resolv.conf", "bind", "/f/resolv.conf", ["bind", "rprivate"]),
        ("/etc/hostname", "bind", "/f/hostname", ["bind", "rprivate"]),
        ("/etc/hosts", "bind", "/f/hosts", ["bind", "rprivate"]),
    ]
    process = built["process"]
    assert process["args"] == ["/bin/true", "x"]
    assert process["env"] == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        f"HOSTNAME={ID[:12]}",
        "HOME=/root",
    ]
    assert process["cwd"] == "/"
    assert len(process["capabilities"]["bounding"]) == 14
    assert "ambient" not in process["capabilities"] and "inheritable" not in process["capabilities"]
    assert built["linux"]["namespaces"] == [
        {"type": "mount"},
        {"type": "network", "path": "/ns"},
        {"type": "uts"},
        {"type": "pid"},
        {"type": "ipc"},
    ]
    assert built["linux"]["sysctl"] == {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 2147483647",
    }
    assert built["linux"]["resources"].keys() == {"devices"}
    assert "annotations" not in built


def test_the_environment_replaces_and_removes() -> None:
    config = Config(env=["A=1", "PATH=/q", "A=2", "HOSTNAME", "HOME=/h"], tty=True)
    assert made(config)["process"]["env"] == ["PATH=/q", "TERM=xterm", "A=2", "HOME=/h"]


def test_a_terminal_has_a_size() -> None:
    process = made(Config(tty=True), console_size=(24, 80))["process"]
    assert process["terminal"] and process["consoleSize"] == {"height": 24, "width": 80}
    assert "consoleSize" not in made(Config(tty=True))["process"]


def test_outer_mounts_come_first() -> None:
    built = made(binds=["/x:/a/b/c", "/y:/a"], tmpfs={"/a/b": "", "/t/../u": "size=1m"})
    order = [m["destination"] for m in built["mounts"]]
    assert order.index("/a") < order.index("/a/b") < order.index("/a/b/c")
    assert mounted(built)["/u"]["options"] == ["noexec", "nosuid", "nodev", "rprivate", "size=1m"]


def test_a_mount_replaces_what_every_container_has() -> None:
    built = mounted(made(binds=["/x:/etc/hosts", "/y:/dev/shm:ro"]))
    assert built["/etc/hosts"]["source"] == "/x"
    assert built["/dev/shm"]["options"] == ["rbind", "rro", "rprivate"]
    below_dev = mounted(made(binds=["/x:/dev"]))
    assert not [place for place in below_dev if place.startswith("/dev/")]


def test_a_read_only_root_keeps_volumes_and_dev_writable() -> None:
    built = made(readonly_rootfs=True, binds=["/x:/w"], tmpfs={"/t": ""})
    assert built["root"]["readonly"] is True
    read_only = {place for place, mount in mounted(built).items() if {"ro", "rro"} & set(mount["options"])}
    assert read_only == {"/sys", "/sys/fs/cgroup", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}


@pytest.mark.parametrize(
    ("options", "kernel", "expected"),
    [
        (BindOptions(), (6, 1), "rro"),
        (BindOptions(), (5, 10), "ro"),
        (BindOptions(read_only_non_recursive=True), (6, 1), "ro"),
        (BindOptions(read_only_force_recursive=True), (6, 1), "rro"),
    ],
)
def test_read_only_goes_down_the_tree_where_the_kernel_can(
    options: BindOptions, kernel: tuple[int, int], expected: str
) -> None:
    mount = Mount("bind", "/x", "/m", read_only=True, bind_options=options)
    built = mounted(made(host=a_host(kernel=kernel), mounts=[mount]))
    assert built["/m"]["options"] == ["rbind", expected, "rprivate"]


@pytest.mark.parametrize(
    ("read_only", "options", "message"),
    [
        (False, BindOptions(read_only_non_recursive=True), "!ReadOnly && BindOptions.ReadOnlyNonRecursive"),
        (False, BindOptions(read_only_force_recursive=True), "!ReadOnly && BindOptions.ReadOnlyForceRecursive"),
        (
            True,
            BindOptions(read_only_force_recursive=True, read_only_non_recursive=True),
            "ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive",
        ),
    ],
)
def test_options_of_read_only_that_contradict(read_only: bool, options: BindOptions, message: str) -> None:
    with pytest.raises(SystemFailure) as refused:
        made(mounts=[Mount("bind", "/x", "/m", read_only=read_only, bind_options=options)])
    assert str(refused.value) == f"mount options conflict: {message}"


@pytest.mark.parametrize(
    ("modes", "expected"), [(["rslave"], "rslave"), (["shared", "rslave"], "shared"), (["private"], None), ([], None)]
)
def test_the_root_lets_shared_mounts_through(modes: list[str], expected: str | None) -> None:
    built = made(binds=[f"/x:/m{n}:{mode}" for n, mode in enumerate(modes)])
    assert built["linux"].get("rootfsPropagation") == expected


def test_privileged() -> None:
    built = made(privileged=True, inputs={"device_rules": [devices.EVERYTHING]})
    assert "maskedPaths" not in built["linux"] and "readonlyPaths" not in built["linux"]
    assert len(built["process"]["capabilities"]["bounding"]) == 41
    assert built["linux"]["resources"]["devices"][-1] == {"allow": True, "access": "rwm"}
    assert "ro" not in mounted(built)["/sys"]["options"] + mounted(built)["/sys/fs/cgroup"]["options"]


def test_namespaces_of_the_host() -> None:
    built = made(
        network_mode="host", pid_mode="host", ipc_mode="host", uts_mode="host", inputs={"netns": "", "shm": "/dev/shm"}
    )
    assert built["linux"]["namespaces"] == [{"type": "mount"}]
    assert "hostname" not in built and "sysctl" not in built["linux"]
    assert mounted(built)["/dev/shm"] == {
        "destination": "/dev/shm",
        "type": "bind",
        "source": "/dev/shm",
        "options": ["rbind", "rprivate"],
    }


def test_namespaces_of_another_container() -> None:
    built = made(
        network_mode="container:x",
        pid_mode="container:x",
        ipc_mode="container:x",
        cgroupns_mode="private",
        inputs={"pid_ns": "/p", "ipc_ns": "/i", "shm": "/s"},
    )
    assert built["linux"]["namespaces"] == [
        {"type": "mount"},
        {"type": "network", "path": "/ns"},
        {"type": "uts"},
        {"type": "pid", "path": "/p"},
        {"type": "ipc", "path": "/i"},
        {"type": "cgroup"},
    ]
    assert "sysctl" not in built["linux"], "the other's settings stay as they are"


def test_no_shared_memory() -> None:
    assert "/dev/shm" not in mounted(made(ipc_mode="none"))


def test_limits() -> None:
    resources = made(
        memory=64 * MB,
        memory_swap=-1,
        memory_reservation=32 * MB,
        memory_swappiness=0,
        oom_kill_disable=True,
        nano_cpus=5 * 10**8,
        cpu_shares=512,
        cpuset_cpus="0",
        pids_limit=50,
        blkio_device_read_bps=[ThrottleDevice("/dev/x", 1024)],
        inputs={"block_devices": {"/dev/x": (8, 0)}},
    )["linux"]["resources"]
    assert resources["memory"] == {
        "limit": 64 * MB,
        "reservation": 32 * MB,
        "swappiness": 0,
        "disableOOMKiller": True,
    }
    assert resources["cpu"] == {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0"}
    assert resources["pids"] == {"limit": 50}
    assert resources["blockIO"] == {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1024}]}


def test_ulimits() -> None:
    process = made(ulimits=[Ulimit("nofile", 200, 100), Ulimit("CORE", -1, -1)])["process"]
    assert process["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 2**64 - 1, "hard": 2**64 - 1},
    ]


REFUSAL = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed"
)


@pytest.mark.parametrize(
    ("settings", "inputs", "message"),
    [
        ({"ulimits": [Ulimit("x", 1, 1)]}, {}, "wrong rlimit value: RLIMIT_X"),
        ({"sysctls": {"kernel.sysrq": "1"}}, {}, 'sysctl "kernel.sysrq" is not in a separate kernel namespace'),
        ({"sysctls": {"": "1"}}, {}, 'sysctl "" is not in a separate kernel namespace'),
        (
            {"sysctls": {"net.ipv4.ip_forward": "1"}, "network_mode": "host"},
            {"netns": ""},
            'sysctl "net.ipv4.ip_forward" not allowed in host network namespace',
        ),
        (
            {"sysctls": {"net/ipv4/ip_forward": "1"}, "network_mode": "host"},
            {"netns": ""},
            'sysctl "net.ipv4.ip_forward" not allowed in host network namespace',
        ),
        (
            {"sysctls": {"kernel.shmmax": "1"}, "ipc_mode": "host"},
            {},
            'sysctl "kernel.shmmax" is not allowed in the hosts ipc namespace',
        ),
        (
            {"sysctls": {"kernel.hostname": "x"}},
            {},
            'sysctl "kernel.hostname" is not allowed as it conflicts with the OCI "hostname" field',
        ),
        (
            {"sysctls": {"kernel.domainname": "x"}, "uts_mode": "host"},
            {},
            'sysctl "kernel.domainname" is not in a separate kernel namespace',
        ),
    ],
)
def test_what_only_fails_at_start(settings: dict[str, Any], inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(SystemFailure) as refused:
        made(inputs=inputs, **settings)
    assert str(refused.value) == f"{REFUSAL}: {message}: unknown"


@pytest.mark.parametrize("name", ["net.ipv4.ip_forward", "kernel.shmmax", "fs.mqueue.msg_max", "kernel.domainname"])
def test_settings_of_the_containers_own_namespaces(name: str) -> None:
    assert made(sysctls={name: "1"})["linux"]["sysctl"][name] == "1"


def test_devices_and_their_rules() -> None:
    device = Device("/dev/fool", "c", 1, 7, 0o600, 5, 6)
    settings = HostConfig(device_cgroup_rules=["c 7:* rw"])
    rules = spec.device_rules(settings, [(device, "r")])
    assert rules == [DeviceRule(True, "c", 1, 7, "r"), DeviceRule(True, "c", 7, -1, "rw")]
    built = made(inputs={"devices": [device], "device_rules": rules})["linux"]
    assert built["devices"] == [
        {"path": "/dev/fool", "type": "c", "major": 1, "minor": 7, "fileMode": 0o600, "uid": 5, "gid": 6}
    ]
    assert built["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
    assert built["resources"]["devices"][-2:] == [
        {"allow": True, "access": "r", "type": "c", "major": 1, "minor": 7},
        {"allow": True, "access": "rw", "type": "c", "major": 7},
    ]


@pytest.mark.parametrize("rule", ["x", "c 1:3 z", "c 1:3", "c  1:3 rwm", "", "c 1:3 rwm\n"])
def test_bad_device_rules(rule: str) -> None:
    with pytest.raises(SystemFailure) as refused:
        devices.parse_rule(rule)
    assert str(refused.value) == f"invalid device cgroup rule format: '{rule}'"


@pytest.mark.parametrize("access", ["", "z", "rz"])
def test_bad_permissions_of_a_device(access: str) -> None:
    with pytest.raises(SystemFailure, match="device access"):
        spec.device_rules(HostConfig(), [(Device("/dev/x", "c", 1, 3), access)])


def test_an_init_goes_first() -> None:
    built = made(init=True, inputs={"init": "/usr/bin/tini-static"})
    assert built["process"]["args"] == ["/sbin/docker-init", "--", "/bin/true", "x"]
    assert mounted(built)["/sbin/docker-init"]["source"] == "/usr/bin/tini-static"


def test_a_profile_of_apparmor_only_where_the_host_has_it() -> None:
    options = ["apparmor=p"]
    assert "apparmorProfile" not in made(security_opt=options)["process"]
    assert made(host=a_host(apparmor=True), security_opt=options)["process"]["apparmorProfile"] == "p"


def test_annotations_of_the_user_cannot_replace_the_filter() -> None:
    filter_annotation = {"run.oci.seccomp_bpf_data": "AAAA"}
    built = made(annotations={"a": "b"}, inputs={"annotations": filter_annotation})
    assert built["annotations"] == {"a": "b", **filter_annotation}


def test_every_propagation_word_is_an_option_that_runtimes_know() -> None:
    for word in mounts.PROPAGATION_MODES:
        assert word in mounted(made(binds=[f"/x:/m:{word}"]))["/m"]["options"]


@pytest.mark.parametrize(
    ("bind", "problem"),
    [("/x:/proc", "it is not of type proc"), ("/x:/proc/self", "it is inside /proc"), ("/proc:/proc", "")],
)
def test_nothing_stands_in_for_proc(bind: str, problem: str) -> None:
    if not problem:
        assert mounted(made(binds=[bind]))["/proc"]["source"] == "/proc"
        return
    with pytest.raises(SystemFailure, match=f"cannot be mounted because {problem}"):
        made(binds=[bind])


def test_files_of_proc_may_be_replaced() -> None:
    assert "/proc/uptime" in mounted(made(binds=["/x:/proc/uptime"]))


def test_no_quota_is_no_quota() -> None:
    assert "cpu" not in made(cpu_quota=-1)["linux"]["resources"]


@pytest.mark.parametrize(
    ("limit", "late"),
    [
        (Ulimit("nofile", 20, 10), True),
        (Ulimit("NOFILE", -1, 10), True),
        (Ulimit("nofile", 20, 30), False),
        (Ulimit("nofile", 5000, 5000), False),
        (Ulimit("core", 0, 0), False),
    ],
)
def test_limits_too_low_for_the_runtime_come_late(limit: Ulimit, late: bool) -> None:
    assert spec.late_limits([limit]) == ([limit] if late else [])
    assert spec.early_limits([limit]) == ([] if late else [limit])
