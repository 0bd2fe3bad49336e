"""Flags and file of the daemon."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wherry.errors import InvalidParameter
from wherry.model.config import LogConfig, Ulimit
from wherry.model.daemon_config import DEFAULT_HOST, OPTIONS, DaemonConfig, changed, live_parts, merge, tcp_address
from wherry.model.registry_options import RegistryOptions


def test_nothing_given() -> None:
    config = merge({}, {}, "f")
    assert config == DaemonConfig()
    assert config.hosts == (DEFAULT_HOST,)


def test_flags_and_file_complete_each_other() -> None:
    config = merge(
        {"hosts": ["unix:///a.sock", "fd://"], "log-level": "warn"},
        {"data-root": "/d", "bip": "10.9.0.1/24", "runtimes": {"mine": {"path": "/bin/mine"}}, "debug": True},
        "f",
    )
    assert config.hosts == ("unix:///a.sock", "fd://")
    assert config.data_root == Path("/d")
    assert config.runtimes == {"mine": Path("/bin/mine")}
    assert (config.log_level, config.level) == ("warn", "debug")


@pytest.mark.parametrize(
    ("flags", "file", "message"),
    [
        ({}, {"nope": 1, "also": 2}, "directives don't match any configuration option: also, nope"),
        ({}, [], "it must hold a JSON object"),
        (
            {"hosts": ["unix:///a"], "group": "g"},
            {"hosts": ["unix:///b"], "group": "h"},
            "the following directives are specified both as a flag and in the configuration file: "
            "hosts: (from flag: [unix:///a], from file: [unix:///b]), group: (from flag: g, from file: h)",
        ),
        ({"hosts": ["npipe:////./x"]}, {}, "--host: 'npipe:////./x' is not supported"),
        (
            {"hosts": ["tcp://0.0.0.0:2375"]},
            {},
            "tcp://0.0.0.0:2375 makes whoever can reach it root on this host: use --tlsverify",
        ),
        ({"hosts": ["tcp://:2376"], "tls": True}, {}, "tcp://:2376 makes whoever can reach it root on this host"),
        ({"hosts": ["tcp://h:99999"], "unsafe-tcp": True}, {}, "tcp://h:99999 is not supported"),
        ({"hosts": ["tcp://u@h:1"], "unsafe-tcp": True}, {}, "tcp://u@h:1 is not supported"),
        ({"hosts": ["tcp://h:1/x"], "unsafe-tcp": True}, {}, "tcp://h:1/x is not supported"),
        ({"tlsverify": True}, {"tlscert": "/c"}, "TLS needs --tlskey, --tlscacert as well"),
        ({"tls": True}, {}, "TLS needs --tlscert, --tlskey as well"),
        ({"labels": ["x"]}, {}, "--label: bad attribute format: x"),
        ({}, {"labels": ["a=1", "a=2"]}, "labels: conflict labels for a=2 and a=1"),
        ({"default-shm-size": "x"}, {}, "--default-shm-size: invalid size: 'x'"),
        ({"default-shm-size": "0"}, {}, "--default-shm-size: must be greater than 0"),
        ({"default-ulimits": ["nofile=2:1"]}, {}, "--default-ulimit: ulimit soft limit must be less than or equal"),
        ({"default-ulimits": ["files=2"]}, {}, "--default-ulimit: invalid ulimit type: files"),
        ({}, {"default-ulimits": {"nofile": {"Name": "core"}}}, "default-ulimits: ulimit nofile must be"),
        ({}, {"default-ulimits": {"nofile": {"Soft": "1"}}}, "the limits of ulimit nofile must be numbers"),
        ({}, {"default-ulimits": {"nofile": {"Soft": 2, "Hard": 1}}}, "ulimit soft limit must be less"),
        ({"log-driver": "syslog"}, {}, 'error looking up logging plugin syslog: plugin "syslog" not found'),
        ({"log-opts": ["x=1"]}, {}, "unknown log opt 'x' for json-file log driver"),
        ({"log-opts": ["max-size=x"]}, {}, "invalid size: 'x'"),
        ({"live-restore": False}, {}, "--live-restore: containers always run on while this daemon is stopped"),
        ({"data-root": "here"}, {}, "--data-root: must be an absolute path"),
        ({"log-level": "loud"}, {}, "--log-level: must be one of debug, info, warn, error, fatal, not 'loud'"),
        ({}, {"log-format": 5}, "f: log-format: must be one of text, json, not 5"),
        ({}, {"bip": "x"}, "f: bip: must be an address with its prefix"),
        ({"bip": "10.0.0.0/24"}, {}, "leaves no address for containers"),
        ({}, {"debug": "yes"}, "f: debug: must be true or false"),
        ({"registry-mirrors": ["ftp://m"]}, {}, '--registry-mirror: invalid mirror: unsupported scheme "ftp"'),
        ({}, {"registry-mirrors": ["https://u:p@m/"]}, 'username/password not allowed in URI "https://m"'),
        ({"insecure-registries": ["a/b"]}, {}, "--insecure-registry: insecure registry a/b is not valid"),
        (
            {"allow-nondistributable-artifacts": ["a/b"]},
            {},
            "allow-nondistributable-artifacts registry a/b is not valid",
        ),
        ({"insecure-registries": ["a:99999"]}, {}, "insecure registry a:99999 is not valid"),
        ({"max-concurrent-downloads": 0}, {}, "--max-concurrent-downloads: must be a number greater than 0, not 0"),
        ({}, {"max-download-attempts": True}, "must be a number greater than 0, not True"),
        ({}, {"runtimes": {"x": {"runtimeArgs": []}}}, "f: runtimes: runtime x must be"),
    ],
)
def test_what_is_wrong_is_named(flags: dict[str, Any], file: Any, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        merge(flags, file, "f")
    assert message in str(caught.value)


def test_every_option_is_an_attribute() -> None:
    assert {option.attribute for option in OPTIONS} == set(DaemonConfig.__dataclass_fields__)


def test_what_is_said_of_registries() -> None:
    config = merge(
        {"registry-mirrors": ["https://m.example/x", "https://m.example/x/"], "max-concurrent-uploads": 1},
        {
            "insecure-registries": ["http://r.example:5000", "10.1.2.3/8", "[::1]:5000"],
            "allow-nondistributable-artifacts": ["r.example:5000", "10.0.0.0/8"],
        },
        "f",
    )
    assert config.registries == RegistryOptions(
        ("https://m.example/x/",),
        ("r.example:5000", "10.0.0.0/8", "[::1]:5000"),
        3,
        1,
        5,
        ("r.example:5000", "10.0.0.0/8"),
    )


def test_what_containers_get() -> None:
    config = merge(
        {"default-ulimits": ["nofile=64:128", "core=0"], "default-shm-size": "1g", "log-opts": ["max-size=1m"]},
        {"labels": ["a=1", "b="], "live-restore": True},
        "f",
    )
    defaults = config.defaults
    assert (config.labels, defaults.shm_size) == (("a=1", "b="), 1 << 30)
    assert defaults.limits([Ulimit("core", 5, 5)]) == [Ulimit("core", 5, 5), Ulimit("nofile", 128, 64)]
    assert defaults.log_config(LogConfig()) == LogConfig("json-file", {"max-size": "1m"})
    assert defaults.log_config(LogConfig(config={"max-size": "2m", "tag": "x"})).config == {
        "max-size": "2m",
        "tag": "x",
    }
    assert defaults.log_config(LogConfig("none")) == LogConfig("none", {})
    file = merge({}, {"default-ulimits": {"nofile": {"Name": "nofile", "Soft": 64, "Hard": 128}}}, "f")
    assert file.default_ulimits == {"nofile": Ulimit("nofile", 128, 64)}


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("0.0.0.0:2376", ("0.0.0.0", 2376)),
        (":1", ("localhost", 1)),
        ("", ("localhost", 7)),
        ("[::1]:5", ("::1", 5)),
        ("h", ("h", 7)),
        ("h:0/", ("h", 0)),
    ],
)
def test_addresses_of_tcp(written: str, address: tuple[str, int]) -> None:
    assert tcp_address(written, 7) == address


def test_what_a_reload_takes_over() -> None:
    before = merge({}, {"debug": True, "bip": "10.0.0.1/8"}, "f")
    after = merge({}, {"labels": ["a=1"], "bip": "10.0.0.2/8"}, "f")
    assert changed(before, after, live=True) == ["debug", "labels"]
    assert changed(before, after, live=False) == ["bip"]
    assert live_parts(before, after) == replace(before, debug=False, labels=("a=1",))
