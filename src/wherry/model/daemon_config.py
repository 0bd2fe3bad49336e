"""The daemon's configuration: flags and a JSON file with Docker's `daemon.json` keys. Pure.

Each option has one row in OPTIONS. A key that is not there is an error naming it, and so is an option given both as a
flag and in the file, as in Docker.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wherry.errors import InvalidParameter
from wherry.model import cache_rules, idmaps, logging_options, registry_options, ulimits
from wherry.model.cache_rules import CacheRules
from wherry.model.config import LogConfig, Ulimit
from wherry.model.container_defaults import SHM_SIZE, ContainerDefaults
from wherry.model.host import Host
from wherry.model.registry_options import RegistryOptions
from wherry.model.sizes import ram_in_bytes

DEFAULT_HOST = "unix:///run/wherry/wherry.sock"
DEFAULT_FILE = Path("/etc/wherry/daemon.json")
DEFAULT_GROUP = "wherry"
TLS_PORT, PLAIN_PORT = 2376, 2375  # of tcp:// that names none
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
    nondistributable: tuple[str, ...] = ()
    userns_remap: str = ""
    cdi_spec_dirs: tuple[Path, ...] = Host.cdi_directories
    max_concurrent_downloads: int = RegistryOptions.max_concurrent_downloads
    max_concurrent_uploads: int = RegistryOptions.max_concurrent_uploads
    max_download_attempts: int = RegistryOptions.max_download_attempts
    tls: bool = False
    tls_verify: bool = False
    tls_ca_cert: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    unsafe_tcp: bool = False
    labels: tuple[str, ...] = ()
    default_shm_size: int = SHM_SIZE  # bytes
    default_ulimits: Mapping[str, Ulimit] = field(default_factory=dict)
    log_driver: str = "json-file"
    log_options: Mapping[str, str] = field(default_factory=dict)
    live_restore: bool = True
    builder: CacheRules = field(default_factory=CacheRules)

    @property
    def encrypted(self) -> bool:
        """tcp:// speaks TLS."""
        return self.tls or self.tls_verify

    @property
    def defaults(self) -> ContainerDefaults:
        return ContainerDefaults(self.default_shm_size, self.default_ulimits, self.log_driver, self.log_options)

    @property
    def registries(self) -> RegistryOptions:
        return RegistryOptions(
            self.registry_mirrors,
            self.insecure_registries,
            self.max_concurrent_downloads,
            self.max_concurrent_uploads,
            self.max_download_attempts,
            self.nondistributable,
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


def _remap(value: Any) -> str:
    if _text(value):
        idmaps.parse_remap(value)
    return str(value)


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
        if not separator or scheme not in ("unix", "fd", "tcp") or (scheme == "unix" and not rest.startswith("/")):
            raise InvalidParameter(
                f"{host!r} is not supported: use unix:///path/of.sock, fd:// or tcp://ADDRESS:PORT with --tlsverify"
            )
        if scheme == "tcp":
            tcp_address(rest, 0)
    return tuple(value)


def tcp_address(written: str, port: int) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, `[::1]:PORT` or `HOST`; without a host localhost. Raises InvalidParameter."""
    wrong = InvalidParameter(f"tcp://{written} is not supported: use tcp://ADDRESS:PORT, such as tcp://0.0.0.0:2376")
    try:
        url = urlsplit(f"//{written}")
        found = url.port
    except ValueError:
        raise wrong from None
    if url.path.rstrip("/") or url.query or url.fragment or url.username is not None:
        raise wrong
    return url.hostname or "localhost", port if found is None else found


def _labels(value: Any) -> tuple[str, ...]:
    for label in _texts(value):
        key, equals, _ = label.partition("=")
        if not equals or not key.strip():
            raise InvalidParameter(f"bad attribute format: {label}: use KEY=VALUE")
    found: dict[str, str] = {}
    for label in value:
        key, _, content = label.partition("=")
        if found.setdefault(key, content) != content:
            raise InvalidParameter(f"conflict labels for {key}={content} and {key}={found[key]}")
    return tuple(value)


def _size(value: Any) -> int:
    try:
        size = value if isinstance(value, int) and not isinstance(value, bool) else ram_in_bytes(_text(value))
    except ValueError as error:
        raise InvalidParameter(str(error)) from None
    if size <= 0:
        raise InvalidParameter(f"must be greater than 0, not {value!r}")
    return size


def _ulimits(value: Any) -> dict[str, Ulimit]:
    """`["nofile=64:128"]` of flags, `{"nofile": {"Name": "nofile", "Soft": 64, "Hard": 128}}` of the file."""
    found: dict[str, Ulimit] = {}
    try:
        if isinstance(value, list | tuple):
            for written in value:
                name, soft, hard = ulimits.parse(_text(written))
                found[name] = Ulimit(name, hard, soft)
            return found
        if not isinstance(value, dict):
            raise InvalidParameter(f"must be an object, not {value!r}")
        for name, given in value.items():
            if not isinstance(given, dict) or set(given) - {"Name", "Soft", "Hard"} or given.get("Name", name) != name:
                raise InvalidParameter(f'ulimit {name} must be {{"Name": "{name}", "Soft": 64, "Hard": 128}}')
            soft, hard = given.get("Soft", 0), given.get("Hard", 0)
            if type(soft) is not int or type(hard) is not int:
                raise InvalidParameter(f"the limits of ulimit {name} must be numbers")
            if name not in ulimits.NAMES:
                raise InvalidParameter(f"invalid ulimit type: {name}")
            ulimits.check(soft, hard)
            found[name] = Ulimit(name, hard, soft)
    except ValueError as error:
        raise InvalidParameter(str(error)) from None
    return found


def _log_options(value: Any) -> dict[str, str]:
    if isinstance(value, list | tuple):
        value = dict(_text(written).partition("=")[::2] for written in value)
    if not isinstance(value, dict) or not all(isinstance(entry, str) for entry in value.values()):
        raise InvalidParameter(f"must be an object of strings, not {value!r}")
    return value


def _always(value: Any) -> bool:
    if not _flag(value):
        raise InvalidParameter("containers always run on while this daemon is stopped: it cannot be turned off")
    return True


def _bip(value: Any) -> str:
    try:
        interface = IPv4Interface(_text(value))
    except ValueError:
        raise InvalidParameter(f"must be an address with its prefix, such as 172.30.0.1/16, not {value!r}") from None
    if interface.network.prefixlen > 30 or interface.ip in (interface.network.network_address, interface.network[-1]):
        raise InvalidParameter(f"{value} leaves no address for containers")
    return str(interface)


def check_default_runtime(name: str, known: Iterable[str]) -> None:
    """Raises InvalidParameter for one that is neither on the host nor configured; "" is none in particular."""
    names = sorted(known)
    if name and name not in names:
        raise InvalidParameter(
            f"default runtime {name} is not known; known are {', '.join(names) or 'none'}: "
            "install it, or give its path under runtimes in the file of options"
        )


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
    live: bool = False  # a reload takes it over


OPTIONS = (
    Option("hosts", "hosts", _hosts, "host"),
    Option("data-root", "data_root", _path),
    Option("exec-root", "exec_root", _path),
    Option("pidfile", "pidfile", _path),
    Option("group", "group", _text),
    Option("log-level", "log_level", _one_of(*LOG_LEVELS), live=True),
    Option("log-format", "log_format", _one_of(*LOG_FORMATS)),
    Option("debug", "debug", _flag, live=True),
    Option("bip", "bip", _bip),
    Option("default-runtime", "default_runtime", _text, live=True),
    Option("runtimes", "runtimes", _runtimes, live=True),
    Option("tls", "tls", _flag),
    Option("tlsverify", "tls_verify", _flag),
    Option("tlscacert", "tls_ca_cert", _text),
    Option("tlscert", "tls_cert", _text),
    Option("tlskey", "tls_key", _text),
    Option("unsafe-tcp", "unsafe_tcp", _flag),
    Option("labels", "labels", _labels, "label", live=True),
    Option("default-shm-size", "default_shm_size", _size, live=True),
    Option("default-ulimits", "default_ulimits", _ulimits, "default-ulimit", live=True),
    Option("log-driver", "log_driver", _text, live=True),
    Option("log-opts", "log_options", _log_options, "log-opt", live=True),
    Option("live-restore", "live_restore", _always, live=True),
    Option("registry-mirrors", "registry_mirrors", _each(registry_options.mirror), "registry-mirror", live=True),
    Option(
        "insecure-registries",
        "insecure_registries",
        _each(registry_options.insecure_registry),
        "insecure-registry",
        live=True,
    ),
    Option("builder", "builder", cache_rules.read),
    Option(
        "allow-nondistributable-artifacts",
        "nondistributable",
        _each(registry_options.nondistributable_registry),
        live=True,
    ),
    Option("userns-remap", "userns_remap", _remap),
    Option("cdi-spec-dirs", "cdi_spec_dirs", _paths, "cdi-spec-dir"),
    Option("max-concurrent-downloads", "max_concurrent_downloads", _at_least_one, live=True),
    Option("max-concurrent-uploads", "max_concurrent_uploads", _at_least_one, live=True),
    Option("max-download-attempts", "max_download_attempts", _at_least_one, live=True),
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
    config = DaemonConfig(**given)
    _check(config)
    return config


def _check(config: DaemonConfig) -> None:
    """What options mean together. Raises InvalidParameter."""
    tcp = [host for host in config.hosts if host.startswith("tcp://")]
    if tcp and not (config.tls_verify or config.unsafe_tcp):
        raise InvalidParameter(
            f"{tcp[0]} makes whoever can reach it root on this host: use --tlsverify with --tlscacert, --tlscert and"
            " --tlskey, so that only clients with a certificate of yours are served, or say --unsafe-tcp"
        )
    if config.encrypted:
        needed = {"tlscert": config.tls_cert, "tlskey": config.tls_key}
        if config.tls_verify:
            needed["tlscacert"] = config.tls_ca_cert
        if missing := [f"--{name}" for name, path in needed.items() if not path]:
            raise InvalidParameter(f"TLS needs {', '.join(missing)} as well")
    log = config.defaults.log_config(LogConfig())
    logging_options.validate(log)
    logging_options.limits(log)


def changed(before: DaemonConfig, after: DaemonConfig, *, live: bool) -> list[str]:
    """The keys whose values differ, of those that a reload takes over or of the others."""
    return [
        option.key
        for option in OPTIONS
        if option.live is live and getattr(before, option.attribute) != getattr(after, option.attribute)
    ]


def _show(value: Any) -> str:
    return f"[{' '.join(value)}]" if isinstance(value, list | tuple) else str(value)


def live_parts(running: DaemonConfig, given: DaemonConfig) -> DaemonConfig:
    """The running configuration with what a reload takes over of the given one."""
    return replace(running, **{option.attribute: getattr(given, option.attribute) for option in OPTIONS if option.live})


def shown(config: DaemonConfig) -> dict[str, str]:
    """What a reload may change, as the attributes of Docker's event of it."""
    return {
        "allow-nondistributable-artifacts": json.dumps(list(config.nondistributable)),
        "debug": str(config.debug).lower(),
        "default-runtime": config.default_runtime,
        "default-shm-size": str(config.default_shm_size),
        "insecure-registries": json.dumps(list(config.insecure_registries)),
        "labels": json.dumps(list(config.labels)),
        "live-restore": "true",
        "max-concurrent-downloads": str(config.max_concurrent_downloads),
        "max-concurrent-uploads": str(config.max_concurrent_uploads),
        "max-download-attempts": str(config.max_download_attempts),
        "registry-mirrors": json.dumps(list(config.registry_mirrors)),
        "runtimes": " ".join(f"{name}:{path}" for name, path in config.runtimes.items()),
    }


assert {option.attribute for option in OPTIONS} == {entry.name for entry in fields(DaemonConfig)}
