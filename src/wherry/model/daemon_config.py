"""The daemon's configuration: flags and a JSON file with Docker's `daemon.json` keys. Pure.

Each option has one row in OPTIONS. A key that is not there is an error naming it, and so is an option given both as a
flag and in the file, as in Docker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

from wherry.errors import InvalidParameter
from wherry.model import registry_options
from wherry.model.host import Host
from wherry.model.registry_options import RegistryOptions

DEFAULT_HOST = "unix:///run/wherry/wherry.sock"
DEFAULT_FILE = Path("/etc/wherry/daemon.json")
DEFAULT_GROUP = "wherry"
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
LOG_FORMATS = ("text", "json")


@dataclass(frozen=True)
class DaemonConfig:
    """What the daemon was asked to be."""

    hosts: tuple[str, ...] = (DEFAULT_HOST,)
    data_root: Path = Path("/var/lib/wherry")
    exec_root: Path = Path("/run/wherry")
    pidfile: Path = Path("/run/wherry/wherry.pid")
    group: str = ""  # "" is DEFAULT_GROUP if the host has it, the daemon's own otherwise
    log_level: str = "info"
    log_format: str = "text"
    debug: bool = False
    bip: str = ""  # address and prefix of the default bridge
    default_runtime: str = ""  # "" is the best one the host has
    runtimes: Mapping[str, Path] = field(default_factory=dict)
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    cdi_spec_dirs: tuple[Path, ...] = Host.cdi_directories
    max_concurrent_downloads: int = RegistryOptions.max_concurrent_downloads
    max_concurrent_uploads: int = RegistryOptions.max_concurrent_uploads
    max_download_attempts: int = RegistryOptions.max_download_attempts

    @property
    def registries(self) -> RegistryOptions:
        return RegistryOptions(
            self.registry_mirrors,
            self.insecure_registries,
            self.max_concurrent_downloads,
            self.max_concurrent_uploads,
            self.max_download_attempts,
        )

    @property
    def level(self) -> str:
        return "debug" if self.debug else self.log_level


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidParameter(f"must be a string, not {value!r}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidParameter(f"must be true or false, not {value!r}")
    return value


def _path(value: Any) -> Path:
    path = Path(_text(value))
    if not path.is_absolute():
        raise InvalidParameter(f"must be an absolute path, not {value!r}")
    return path


def _paths(value: Any) -> tuple[Path, ...]:
    return tuple(_path(entry) for entry in _texts(value))


def _one_of(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            raise InvalidParameter(f"must be one of {', '.join(choices)}, not {value!r}")
        return _text(value)

    return check


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(entry, str) for entry in value):
        raise InvalidParameter(f"must be a list of strings, not {value!r}")
    return tuple(value)


def _each(read: Callable[[str], str]) -> Callable[[Any], tuple[str, ...]]:
    """Every one of a list of strings, in the order given, without repetitions."""
    return lambda value: tuple(dict.fromkeys(read(entry) for entry in _texts(value)))


def _at_least_one(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidParameter(f"must be a number greater than 0, not {value!r}")
    return value


def _hosts(value: Any) -> tuple[str, ...]:
    for host in _texts(value):
        scheme, separator, rest = host.partition("://")
        if not separator or scheme not in ("unix", "fd") or (scheme == "unix" and not rest.startswith("/")):
            raise InvalidParameter(f"{host!r} is not supported: use unix:///path/of.sock or fd://")
    return tuple(value)


def _bip(value: Any) -> str:
    try:
        interface = IPv4Interface(_text(value))
    except ValueError:
        raise InvalidParameter(f"must be an address with its prefix, such as 172.30.0.1/16, not {value!r}") from None
    if interface.network.prefixlen > 30 or interface.ip in (interface.network.network_address, interface.network[-1]):
        raise InvalidParameter(f"{value} leaves no address for containers")
    return str(interface)


def _runtimes(value: Any) -> dict[str, Path]:
    if not isinstance(value, dict):
        raise InvalidParameter(f"must be an object, not {value!r}")
    found = {}
    for name, given in value.items():
        if not isinstance(given, dict) or set(given) != {"path"}:
            raise InvalidParameter(f'runtime {name} must be {{"path": "/path/of/program"}}')
        found[name] = _path(given["path"])
    return found


@dataclass(frozen=True)
class Option:
    """`key` in the file, `--flag` on the command line."""

    key: str
    attribute: str
    read: Callable[[Any], Any]
    flag: str = ""  # "" is the key


OPTIONS = (
    Option("hosts", "hosts", _hosts, "host"),
    Option("data-root", "data_root", _path),
    Option("exec-root", "exec_root", _path),
    Option("pidfile", "pidfile", _path),
    Option("group", "group", _text),
    Option("log-level", "log_level", _one_of(*LOG_LEVELS)),
    Option("log-format", "log_format", _one_of(*LOG_FORMATS)),
    Option("debug", "debug", _flag),
    Option("bip", "bip", _bip),
    Option("default-runtime", "default_runtime", _text),
    Option("runtimes", "runtimes", _runtimes),
    Option("registry-mirrors", "registry_mirrors", _each(registry_options.mirror), "registry-mirror"),
    Option(
        "insecure-registries", "insecure_registries", _each(registry_options.insecure_registry), "insecure-registry"
    ),
    Option("cdi-spec-dirs", "cdi_spec_dirs", _paths, "cdi-spec-dir"),
    Option("max-concurrent-downloads", "max_concurrent_downloads", _at_least_one),
    Option("max-concurrent-uploads", "max_concurrent_uploads", _at_least_one),
    Option("max-download-attempts", "max_download_attempts", _at_least_one),
)


def merge(flags: Mapping[str, Any], file: Any, source: str) -> DaemonConfig:
    """The configuration of flags (by key, only those given) and the decoded file, which came from `source`.

    Raises InvalidParameter naming the file, the keys and what is wrong with them.
    """
    where = f"unable to configure the daemon with file {source}"
    if not isinstance(file, dict):
        raise InvalidParameter(f"{where}: it must hold a JSON object")
    known = {option.key for option in OPTIONS}
    if unknown := sorted(set(file) - known):
        raise InvalidParameter(
            f"{where}: the following directives don't match any configuration option: {', '.join(unknown)}"
        )
    if both := [key for key in file if key in flags]:
        told = ", ".join(f"{key}: (from flag: {_show(flags[key])}, from file: {_show(file[key])})" for key in both)
        raise InvalidParameter(
            f"{where}: the following directives are specified both as a flag and in the configuration file: {told}"
        )
    given: dict[str, Any] = {}
    for option in OPTIONS:
        for values, prefix in ((flags, f"--{option.flag or option.key}"), (file, f"{where}: {option.key}")):
            if option.key in values:
                try:
                    given[option.attribute] = option.read(values[option.key])
                except InvalidParameter as error:
                    raise InvalidParameter(f"{prefix}: {error}") from None
    return DaemonConfig(**given)


def _show(value: Any) -> str:
    return f"[{' '.join(value)}]" if isinstance(value, list | tuple) else str(value)


assert {option.attribute for option in OPTIONS} == {entry.name for entry in fields(DaemonConfig)}
