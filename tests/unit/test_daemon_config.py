"""Flags and file of the daemon."""

from pathlib import Path
from typing import Any

import pytest

from wherry.errors import InvalidParameter
from wherry.model.daemon_config import DEFAULT_HOST, OPTIONS, DaemonConfig, merge
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
        ({"hosts": ["tcp://0.0.0.0:2375"]}, {}, "--host: 'tcp://0.0.0.0:2375' is not supported"),
        ({"data-root": "here"}, {}, "--data-root: must be an absolute path"),
        ({"log-level": "loud"}, {}, "--log-level: must be one of debug, info, warn, error, fatal, not 'loud'"),
        ({}, {"log-format": 5}, "f: log-format: must be one of text, json, not 5"),
        ({}, {"bip": "x"}, "f: bip: must be an address with its prefix"),
        ({"bip": "10.0.0.0/24"}, {}, "leaves no address for containers"),
        ({}, {"debug": "yes"}, "f: debug: must be true or false"),
        ({"registry-mirrors": ["ftp://m"]}, {}, '--registry-mirror: invalid mirror: unsupported scheme "ftp"'),
        ({}, {"registry-mirrors": ["https://u:p@m/"]}, 'username/password not allowed in URI "https://m"'),
        ({"insecure-registries": ["a/b"]}, {}, "--insecure-registry: insecure registry a/b is not valid"),
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
        {"insecure-registries": ["http://r.example:5000", "10.1.2.3/8", "[::1]:5000"]},
        "f",
    )
    assert config.registries == RegistryOptions(
        ("https://m.example/x/",), ("r.example:5000", "10.0.0.0/8", "[::1]:5000"), 3, 1, 5
    )
