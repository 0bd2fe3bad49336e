"""wherryd: flags and file, logging, signals, sockets; the engine and its API between start and stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib
import json
import logging
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.engine.settings import Settings
from wherry.errors import InvalidParameter, SystemFailure, WherryError
from wherry.model import daemon_config
from wherry.model.daemon_config import DaemonConfig
from wherry.model.events import Event
from wherry.model.timestamps import rfc3339_fixed
from wherry.model.visible import visible

if TYPE_CHECKING:
    from wherry.engine.engine import Engine

log = logging.getLogger("wherry.daemon")

VERSION = "0.1.0"
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon until SIGTERM or SIGINT. 0 after a clean stop, 1 if it could not start, 2 for wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        config = _configure(options)
        _check_against_host(config)
        if options.validate:
            print("configuration OK")
            return 0
        _set_up_logging(config)
        if os.geteuid() != 0:
            raise SystemFailure("wherryd needs to be started as root")
        importlib.import_module("wherry.api.serving")  # only now: `--help` and `--validate` need none of it
        asyncio.run(_serve(config, options))
    except WherryError as error:
        print(f"wherryd: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"wherryd: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wherryd", description="The Wherry daemon: runs containers, serves the Docker Engine API."
    )
    add = parser.add_argument
    add("-H", "--host", dest="hosts", action="append", metavar="unix:///PATH|fd://|tcp://ADDRESS:PORT",
        help=f"socket to listen on; may be repeated (default {daemon_config.DEFAULT_HOST})")  # fmt: skip
    defaults = DaemonConfig()
    add("--data-root", metavar="DIR", help=f"what survives a reboot (default {defaults.data_root})")
    add("--exec-root", metavar="DIR", help=f"what does not (default {defaults.exec_root})")
    add("-p", "--pidfile", metavar="FILE", help=f"file to write the process ID to (default {defaults.pidfile})")
    add(
        "-G", "--group", metavar="GROUP", help=f"group of the sockets (default {daemon_config.DEFAULT_GROUP}, if there)"
    )
    add("--config-file", metavar="FILE", help=f"JSON file of options (default {daemon_config.DEFAULT_FILE}, if there)")
    add("-l", "--log-level", metavar="LEVEL", help=f"{', '.join(daemon_config.LOG_LEVELS)} (default info)")
    add("--log-format", metavar="FORMAT", help="text or json (default text)")
    add("-D", "--debug", action="store_true", default=None, help="as --log-level debug")
    add("--bip", metavar="ADDRESS/PREFIX", help="address of the default bridge")
    add("--default-runtime", metavar="NAME", help="OCI runtime of containers that name none (default crun, or runc)")
    add("--tls", action="store_true", default=None, help="speak TLS on tcp://; see --tlsverify")
    add("--tlsverify", dest="tls_verify", action="store_true", default=None,
        help="speak TLS on tcp://, and only with clients whose certificate is of --tlscacert")  # fmt: skip
    add("--tlscacert", dest="tls_ca_cert", metavar="FILE", help="authority of the clients' certificates")
    add("--tlscert", dest="tls_cert", metavar="FILE", help="certificate of this daemon")
    add("--tlskey", dest="tls_key", metavar="FILE", help="key of this daemon's certificate")
    add("--unsafe-tcp", action="store_true", default=None,
        help="allow tcp:// without --tlsverify: whoever can reach it is root on this host")  # fmt: skip
    add("--label", dest="labels", action="append", metavar="KEY=VALUE", help="label of this engine; may be repeated")
    add("--default-shm-size", metavar="SIZE", help="size of /dev/shm of containers that name none (default 64M)")
    add("--default-ulimit", dest="default_ulimits", action="append", metavar="NAME=SOFT[:HARD]",
        help="limit of containers that do not name it; may be repeated")  # fmt: skip
    add("--log-driver", metavar="DRIVER",
        help=f"log driver of containers that name none (default {defaults.log_driver})")  # fmt: skip
    add("--log-opt", dest="log_options", action="append", metavar="NAME=VALUE",
        help="option of containers with that log driver; may be repeated")  # fmt: skip
    add("--live-restore", nargs="?", const=True, default=None, type=_boolean, metavar="true",
        help="containers run on while this daemon is stopped: they always do")  # fmt: skip
    add(
        "--userns-remap",
        metavar="default|USER[:GROUP]",
        help="containers' users are those subordinate IDs of the host's (default: of dockremap)",
    )
    add(
        "--cdi-spec-dir",
        dest="cdi_spec_dirs",
        action="append",
        metavar="DIR",
        help="where vendors describe devices for --device and --gpus (repeated)",
    )
    add("--registry-mirror", dest="registry_mirrors", action="append", metavar="URL",
        help="a mirror of docker.io, tried first; may be repeated")  # fmt: skip
    add("--insecure-registry", dest="insecure_registries", action="append", metavar="HOST[:PORT]|NETWORK",
        help="registry that may speak HTTP or have an unknown certificate; may be repeated")  # fmt: skip
    add("--allow-nondistributable-artifacts", dest="nondistributable", action="append", metavar="HOST[:PORT]|NETWORK",
        help="registry to which pushes send layers whose distribution is restricted; may be repeated")  # fmt: skip
    add("--max-concurrent-downloads", type=int, metavar="NUMBER",
        help=f"layers that pulls fetch at once (default {defaults.max_concurrent_downloads})")  # fmt: skip
    add("--max-concurrent-uploads", type=int, metavar="NUMBER",
        help=f"layers that pushes send at once (default {defaults.max_concurrent_uploads})")  # fmt: skip
    add("--max-download-attempts", type=int, metavar="NUMBER",
        help=f"attempts at each layer (default {defaults.max_download_attempts})")  # fmt: skip
    add("--validate", action="store_true", help="check the configuration and exit")
    add("-v", "--version", action="version", version=f"Wherry version {VERSION}")
    return parser


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "1", "t", "false", "0", "f"):
        raise argparse.ArgumentTypeError(f"must be true or false, not {text!r}")
    return text.lower() in ("true", "1", "t")


def _configure(options: argparse.Namespace) -> DaemonConfig:
    """Raises InvalidParameter."""
    flags = {
        option.key: value
        for option in daemon_config.OPTIONS
        if (value := getattr(options, option.attribute, None)) is not None
    }
    path = Path(options.config_file or daemon_config.DEFAULT_FILE)
    try:
        file: Any = json.loads(path.read_text(encoding="utf-8") or "{}")
    except FileNotFoundError:
        if options.config_file:
            raise InvalidParameter(f"unable to configure the daemon with file {path}: no such file") from None
        file = {}
    except (OSError, ValueError) as error:
        raise InvalidParameter(f"unable to configure the daemon with file {path}: {error}") from None
    return daemon_config.merge(flags, file, str(path))


def _check_against_host(config: DaemonConfig) -> None:
    """Whether the runtime and the group that the options name are there. Raises InvalidParameter."""
    from wherry.api.sockets import group_id

    _check_runtime(config)
    if config.group:
        group_id(config.group)


def _check_runtime(config: DaemonConfig) -> None:
    from wherry.linux.host import find

    installed = [name for name in ("crun", "runc") if find(name)]
    daemon_config.check_default_runtime(config.default_runtime, [*installed, *config.runtimes])


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = visible(record.getMessage(), lines=False)
        text = f"{rfc3339_fixed(time.time_ns())} {_level_name(record)} {record.name}: {said}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": rfc3339_fixed(time.time_ns()),
            "level": _level_name(record),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _level_name(record: logging.LogRecord) -> str:
    return next((name for name, level in LEVELS.items() if level == record.levelno), record.levelname.lower())


def _set_up_logging(config: DaemonConfig) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if config.log_format == "json" else _Text())
    logging.basicConfig(level=LEVELS[config.level], handlers=[handler])
    logging.getLogger("asyncio").setLevel(logging.WARNING)


async def _serve(config: DaemonConfig, options: argparse.Namespace) -> None:
    """Everything between start and stop, each part undone in reverse order."""
    from wherry.api.serving import open_api
    from wherry.engine.engine import EngineConfig, open_engine

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    engine_config = EngineConfig(
        data_root=config.data_root,
        exec_root=config.exec_root,
        bip=config.bip,
        cdi_directories=config.cdi_spec_dirs,
        userns_remap=config.userns_remap,
        builder=config.builder,
    )
    settings = Settings()
    _apply(config, settings)
    certificates = await asyncio.to_thread(Certificates, config)
    loop.add_signal_handler(signal.SIGHUP, log.warning, "not reloaded: the daemon is still starting")
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_pidfile(config.pidfile))
        sockets = stack.enter_context(_sockets(config))  # first: clients wait in the backlog while the engine opens
        engine = await stack.enter_async_context(open_engine(engine_config, settings))
        for warning in engine.facts.warnings():
            log.warning("%s", warning)
        reloads = Reloads(options, config, settings, certificates, partial(_tell_reload, engine))
        loop.add_signal_handler(signal.SIGHUP, reloads.reload)
        await stack.enter_async_context(open_api(engine, sockets, certificates.current if config.encrypted else None))
        gc.collect()
        gc.freeze()  # what start-up made lives as long as the daemon: never look at it again
        log.info("serving on %s", ", ".join(config.hosts))
        _notify("READY=1")
        await stop.wait()
        _notify("STOPPING=1")
        log.info("stopping; containers run on")


class Certificates:
    """What tcp:// speaks TLS with: the files as they were when they were last read. Raises InvalidParameter."""

    def __init__(self, config: DaemonConfig) -> None:
        self._config = config
        self._context: ssl.SSLContext | None = None
        self.read()

    def current(self) -> ssl.SSLContext:
        """For a daemon whose configuration is `encrypted`."""
        assert self._context is not None
        return self._context

    def read(self) -> None:
        """Take the files over, for new connections; all of them or, raising InvalidParameter, none. Blocking."""
        from wherry.api.tls import server_context

        config = self._config
        if config.encrypted:
            authority = Path(config.tls_ca_cert) if config.tls_verify else None
            self._context = server_context(Path(config.tls_cert), Path(config.tls_key), authority)


def _apply(config: DaemonConfig, settings: Settings) -> None:
    """Take over what may change at any time."""
    logging.getLogger().setLevel(LEVELS[config.level])
    settings.debug = config.debug
    settings.registries = config.registries
    settings.defaults = config.defaults
    settings.labels = config.labels
    settings.runtimes = config.runtimes
    settings.default_runtime = config.default_runtime
    settings.warnings = tuple(_unsafe(config))


def _unsafe(config: DaemonConfig) -> Iterator[str]:
    """One sentence for each socket that serves whoever reaches it, in Docker's words."""
    for host in config.hosts:
        if host.startswith("tcp://") and not config.tls_verify:
            scheme, how = ("https", "TLS client verification") if config.tls else ("http", "encryption")
            yield (
                f"API is accessible on {scheme}://{host.removeprefix('tcp://')} without {how}. Access to the remote API"
                " is equivalent to root access on the host: use --tlsverify."
            )


class Reloads:
    """SIGHUP: reads the file and the certificates again, takes over what may change at any time, and says what needs a
    restart."""

    def __init__(
        self,
        options: argparse.Namespace,
        config: DaemonConfig,
        settings: Settings,
        certificates: Certificates,
        tell: Callable[[dict[str, str]], None],
    ) -> None:
        self._options = options
        self._config = config
        self._settings = settings
        self._certificates = certificates
        self._tell = tell

    def reload(self) -> None:
        running = self._config
        try:
            given = _configure(self._options)
            _check_runtime(given)
            self._certificates.read()
        except InvalidParameter as error:
            log.error("configuration not reloaded: %s", error)
            return
        if keys := daemon_config.changed(running, given, live=False):
            log.warning("only a restart takes over: %s", ", ".join(keys))
        self._config = daemon_config.live_parts(running, given)
        _apply(self._config, self._settings)
        keys = daemon_config.changed(running, self._config, live=True)
        log.info("configuration reloaded: %s", ", ".join(keys) or "nothing changed")
        self._tell(daemon_config.shown(self._config))


def _tell_reload(engine: Engine, attributes: dict[str, str]) -> None:
    engine.events.emit(
        Event(
            time_ns=time.time_ns(),
            type="daemon",
            action="reload",
            id=engine.facts.id,
            attributes={"name": socket.gethostname(), **attributes},
        )
    )


@contextlib.contextmanager
def _sockets(config: DaemonConfig) -> Iterator[list[socket.socket]]:
    """The listening sockets; files of our own are removed at the end."""
    from wherry.api import sockets as listening

    group: int | None = None
    if config.group:
        group = listening.group_id(config.group)
    else:
        with contextlib.suppress(InvalidParameter):
            group = listening.group_id(daemon_config.DEFAULT_GROUP)
    with contextlib.ExitStack() as stack:
        sockets: list[socket.socket] = []
        for host in config.hosts:
            scheme, _, rest = host.partition("://")
            if scheme == "fd":
                sockets += listening.inherited(dict(os.environ), rest)
            elif scheme == "tcp":
                port = daemon_config.TLS_PORT if config.encrypted else daemon_config.PLAIN_PORT
                sockets.append(stack.enter_context(listening.bind_tcp(*daemon_config.tcp_address(rest, port))))
            else:
                sockets.append(listening.bind_unix(Path(rest), group))
                stack.callback(_remove_socket, Path(rest), os.stat(rest).st_ino)
        yield sockets


def _remove_socket(path: Path, inode: int) -> None:
    with contextlib.suppress(OSError):
        if path.stat().st_ino == inode:  # not another daemon's by now
            path.unlink()


@contextlib.contextmanager
def _pidfile(path: Path) -> Iterator[None]:
    """Raises SystemFailure if another daemon wrote it and runs."""
    with contextlib.suppress(OSError, ValueError):
        other = int(path.read_text(encoding="ascii"))
        if other != os.getpid() and b"wherryd" in Path(f"/proc/{other}/cmdline").read_bytes():
            raise SystemFailure(f"pidfile {path}: process with PID {other} is still running: choose another --pidfile")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{os.getpid()}\n", encoding="ascii")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _notify(state: str) -> None:
    """Tell a service manager (sd_notify(3)); nothing without one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, contextlib.suppress(OSError):
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.send(state.encode())


if __name__ == "__main__":
    sys.exit(main())
