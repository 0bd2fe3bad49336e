"""What create refuses, and in which words: those of the real engine."""

from pathlib import Path
from typing import Any

import pytest

from wherry.errors import InvalidParameter, NotSupported, SystemFailure
from wherry.model import security
from wherry.model.config import (
    Config,
    EndpointConfig,
    Healthcheck,
    HostConfig,
    LogConfig,
    Mount,
    NetworkingConfig,
    PortBinding,
    RestartPolicy,
)
from wherry.model.host import CGROUP_FEATURES, Binaries, CgroupLayout, Host, Roots
from wherry.model.validate import MASKED_PATHS, adapt, validate

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
        **changed,
    }
    return Host(**facts)


def check(config: Config | None = None, host: Host | None = None, **settings: Any) -> list[str]:
    return validate(
        config or Config(),
        settings.pop("host_config", None) or HostConfig(**settings),
        NetworkingConfig(),
        host or a_host(),
        exists=lambda path: path == "/there",
        runtimes={"crun", "runc"},
    )


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"memory": 6 * MB - 1}, "Minimum memory limit allowed is 6MB"),
    ({"memory": -5}, "Minimum memory limit allowed is 6MB"),
    ({"memory_swap": 5}, "You should always set the Memory limit when using Memoryswap limit, see usage"),
    (
        {"memory": 64 * MB, "memory_swap": 32 * MB},
        "Minimum memoryswap limit should be larger than memory limit, see usage",
    ),
    ({"memory_swappiness": 101}, "Invalid value: 101, valid memory swappiness range is 0-100"),
    ({"memory_reservation": 5}, "Minimum memory reservation allowed is 6MB"),
    (
        {"memory": 7 * MB, "memory_reservation": 8 * MB},
        "Minimum memory limit can not be less than memory reservation limit, see usage",
    ),
    ({"nano_cpus": 10**9, "cpu_period": 1000}, "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
    ({"nano_cpus": 10**9, "cpu_quota": 1000}, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
    ({"nano_cpus": 2 * 10**9 + 1}, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
    ({"nano_cpus": -1}, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
    ({"cpu_quota": 999}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
    ({"cpu_realtime_period": -1}, "cpu real-time period cannot be negative"),
    ({"cpu_period": 5}, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"),
    ({"cpuset_cpus": "900"}, "Requested CPUs are not available - requested 900, available: 0-1"),
    ({"cpuset_cpus": "x"}, "Invalid value x for cpuset cpus: invalid format: x"),
    ({"cpuset_mems": "7"}, "Requested memory nodes are not available - requested 7, available: 0"),
    ({"cpuset_cpus": "9999999999"}, "Invalid value 9999999999 for cpuset cpus: value of out range, maximum is 8192"),
    ({"ipc_mode": "x"}, "invalid IPC mode: x"),
    ({"pid_mode": "container:"}, "invalid PID mode: container:"),
    ({"uts_mode": "private"}, "invalid UTS mode: private"),
    ({"cgroupns_mode": "x"}, "invalid cgroup namespace mode: x"),
    ({"shm_size": -1}, "SHM size can not be less than 0"),
    ({"oom_score_adj": 5000}, "Invalid value 5000, range for oom score adj is [-1000, 1000]"),
    ({"runtime": "x"}, "unknown or invalid runtime name: x"),
    ({"cap_add": ["X"]}, 'invalid CapAdd: unknown capability: "CAP_X"'),
    ({"extra_hosts": ["x"]}, 'bad format for add-host: "x"'),
    ({"extra_hosts": ["a:[::1]"]}, 'invalid IP address in add-host: "[::1]"'),
    ({"tmpfs": {"rel": ""}}, "invalid mount path: 'rel' mount path must be absolute"),
    ({"tmpfs": {"/": ""}}, "invalid specification: destination can't be '/'"),
    ({"annotations": {"": "x"}}, "invalid Annotations: the empty string is not permitted as an annotation key"),
    (
        {"network_mode": "container:"},
        "Invalid network mode: invalid container format container:<name|id>",
    ),
    (
        {"network_mode": "container:x", "publish_all_ports": True},
        "conflicting options: port publishing and the container type network mode",
    ),
    ({"network_mode": "container:x", "dns": ["1.1.1.1"]}, "conflicting options: dns and the network mode"),
    (
        {"network_mode": "container:x", "links": ["a:b"]},
        "conflicting options: container type network can't be used with links. This would result in undefined behavior",
    ),
    (
        {"network_mode": "host", "links": ["a:b"]},
        "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
    ),
    (
        {"auto_remove": True, "restart_policy": RestartPolicy("always")},
        "can't create 'AutoRemove' container with restart policy",
    ),
    (
        {"restart_policy": RestartPolicy("x")},
        "invalid restart policy: unknown policy 'x'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
    ),
    (
        {"restart_policy": RestartPolicy("always", -1)},
        "invalid restart policy: maximum retry count can only be used with 'on-failure' and cannot be negative",
    ),
    (
        {"restart_policy": RestartPolicy("on-failure", -1)},
        "invalid restart policy: maximum retry count cannot be negative",
    ),
    ({"log_config": LogConfig("nosuch")}, 'error looking up logging plugin nosuch: plugin "nosuch" not found'),
    (
        {"mounts": [Mount("bind", "/nope", "/m")]},
        'invalid mount config for type "bind": bind source path does not exist: /nope',
    ),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_refused_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        check(**settings)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(working_dir="rel"), "the working directory 'rel' is invalid, it needs to be an absolute path"),
        (Config(stop_signal="NOPE"), "invalid signal: NOPE"),
        (Config(env=["=x"]), "invalid environment variable: =x"),
        (Config(env=[""]), "invalid environment variable: "),
        (Config(healthcheck=Healthcheck(interval=1)), "Interval in Healthcheck cannot be less than 1ms"),
        (Config(healthcheck=Healthcheck(retries=-1)), "Retries in Healthcheck cannot be negative"),
    ],
)
def test_refused_configurations(config: Config, message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        check(config)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"isolation": "hyperv"}, "Invalid isolation: \"hyperv\" - linux only supports 'default'"),
        ({"io_maximum_iops": 4}, "Invalid QoS settings: linux does not support configuration of maximum IOPs"),
        ({"security_opt": ["x"]}, 'invalid --security-opt 1: "x"'),
        ({"security_opt": ["x=1"]}, 'invalid --security-opt 2: "x=1"'),
        ({"storage_opt": {"x": "1"}}, "Unknown option x"),
    ],
)
def test_what_the_real_engine_calls_a_failure(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SystemFailure) as refused:
        check(**settings)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    "settings",
    [
        {"links": ["a:b"], "network_mode": "mine"},
        {"cgroup": "x"},
        {"annotations": {"run.oci.handler": "x"}},
    ],
)
def test_what_is_not_done_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(NotSupported, match="not supported by this engine yet"):
        check(**settings)


def test_links_of_an_endpoint_are_refused_too() -> None:
    networking = NetworkingConfig({"n": EndpointConfig(links=["a:b"])})
    with pytest.raises(NotSupported):
        validate(Config(), HostConfig(), networking, a_host(), exists=lambda path: True, runtimes=())


def test_a_plain_container_is_accepted_without_a_word() -> None:
    assert check() == []


def test_limits_that_the_host_cannot_keep_are_discarded_with_a_warning() -> None:
    host_config = HostConfig(
        memory=64 * MB, memory_swappiness=5, pids_limit=5, blkio_weight=300, oom_kill_disable=True, cpu_shares=5
    )
    warnings = check(host=a_host(cgroup_features=frozenset({"memory"})), host_config=host_config)
    assert warnings == [
        "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
        "Memory limited without swap.",
        "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. "
        "Memory swappiness discarded.",
        "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
        "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
        "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.",
        "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
    ]
    assert (host_config.memory, host_config.memory_swap, host_config.memory_swappiness) == (64 * MB, -1, None)
    assert (host_config.pids_limit, host_config.blkio_weight, host_config.oom_kill_disable) == (None, 0, None)


def test_published_ports_of_the_hosts_network_are_discarded() -> None:
    ports: dict[str, list[PortBinding] | None] = {"80/tcp": [PortBinding(host_port="8080")]}
    warnings = check(network_mode="host", port_bindings=ports)
    assert warnings == ["Published ports are discarded when using host network mode"]


def test_every_feature_has_its_name_in_the_hosts_table() -> None:
    """A host that keeps no limit at all discards them all and refuses none but `--cpus` and real-time."""
    settings: dict[str, Any] = {"memory": 64 * MB, "cpu_shares": 5, "cpu_quota": 5000, "pids_limit": 3}
    assert len(check(host=a_host(cgroup_features=frozenset()), **settings)) == 4
    assert check(host=a_host(cgroup_features=CGROUP_FEATURES), **settings) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (None, security.SecurityOptions()),
        (["no-new-privileges"], security.SecurityOptions(no_new_privileges=True)),
        (["no-new-privileges:false"], security.SecurityOptions()),
        (["seccomp=unconfined", "apparmor:x"], security.SecurityOptions(seccomp="unconfined", apparmor="x")),
        (['seccomp={"a":"b=c"}'], security.SecurityOptions(seccomp='{"a":"b=c"}')),
        (["seccomp=", "label=disable"], security.SecurityOptions(labels=("disable",))),
    ],
)
def test_security_options(options: list[str] | None, expected: security.SecurityOptions) -> None:
    assert security.parse(options) == expected


def test_adapting_shows_what_inspect_shows() -> None:
    settings = HostConfig(memory=64 * MB)
    adapt(settings, a_host(), "crun")
    assert (settings.network_mode, settings.ipc_mode, settings.cgroupns_mode) == ("bridge", "private", "host")
    assert (settings.shm_size, settings.memory_swap, settings.runtime) == (64 * MB, 128 * MB, "crun")
    assert settings.oom_kill_disable is False
    assert settings.masked_paths == list(MASKED_PATHS)
    assert settings.security_opt is None


def test_adapting_a_privileged_container_hides_nothing() -> None:
    settings = HostConfig(privileged=True, security_opt=["no-new-privileges"])
    adapt(settings, a_host(cgroups=CgroupLayout.V2), "crun")
    assert settings.masked_paths is None and settings.readonly_paths is None
    assert settings.security_opt == ["no-new-privileges", "label=disable"]
    assert settings.cgroupns_mode == "host"


def test_on_cgroup_v2_a_container_has_a_cgroup_namespace() -> None:
    settings = HostConfig()
    adapt(settings, a_host(cgroups=CgroupLayout.V2, cgroup_features=frozenset()), "crun")
    assert (settings.cgroupns_mode, settings.oom_kill_disable) == ("private", None)


def test_selinux_is_not_done() -> None:
    host = a_host(selinux=True)
    for settings in ({"security_opt": ["label=type:x"]}, {"binds": ["/a:/b:ro,Z"]}):
        with pytest.raises(NotSupported, match="SELinux"):
            check(host=host, **settings)
        assert check(**settings) == []
    assert check(host=host, security_opt=["label=disable"]) == []


@pytest.mark.parametrize(("asked", "tidy"), [("/a/../b", "/b"), ("/a/", "/a"), ("//a//b/.", "/a/b"), ("", "")])
def test_the_working_directory_is_tidied(asked: str, tidy: str) -> None:
    config = Config(working_dir=asked)
    check(config)
    assert config.working_dir == tidy
