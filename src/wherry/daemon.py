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
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wherry.engine.settings import Settings
from wherry.errors import InvalidParameter, SystemFailure, WherryError
from wherry.model import daemon_config
from wherry.model.daemon_config import DaemonConfig
from wherry.model.timestamps import rfc3339_fixed

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
    add("-H", "--host", dest="hosts", action="append", metavar="unix:///PATH|fd://",
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
    add("--max-concurrent-downloads", type=int, metavar="NUMBER",
        help=f"layers that a pull fetches at once (default {defaults.max_concurrent_downloads})")  # fmt: skip
    add("--max-concurrent-uploads", type=int, metavar="NUMBER",
        help=f"layers that a push sends at once (default {defaults.max_concurrent_uploads})")  # fmt: skip
    add("--max-download-attempts", type=int, metavar="NUMBER",
        help=f"attempts at each layer (default {defaults.max_download_attempts})")  # fmt: skip
    add("--validate", action="store_true", help="check the configuration and exit")
    add("-v", "--version", action="version", version=f"Wherry version {VERSION}")
    return parser


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


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = f"{rfc3339_fixed(time.time_ns())} {_level_name(record)} {record.name}: {record.getMessage()}"
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
        default_runtime=config.default_runtime,
        runtimes=config.runtimes,
        cdi_directories=config.cdi_spec_dirs,
    )
    settings = Settings()
    _apply(config, settings)
    loop.add_signal_handler(signal.SIGHUP, _reload, options, settings)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_pidfile(config.pidfile))
        sockets = stack.enter_context(_sockets(config))  # first: clients wait in the backlog while the engine opens
        engine = await stack.enter_async_context(open_engine(engine_config, settings))
        for warning in engine.facts.warnings():
            log.warning("%s", warning)
        await stack.enter_async_context(open_api(engine, sockets))
        gc.collect()
        gc.freeze()  # what start-up made lives as long as the daemon: never look at it again
        log.info("serving on %s", ", ".join(config.hosts))
        _notify("READY=1")
        await stop.wait()
        _notify("STOPPING=1")
        log.info("stopping; containers run on")


def _apply(config: DaemonConfig, settings: Settings) -> None:
    """Take over what may change at any time."""
    logging.getLogger().setLevel(LEVELS[config.level])
    settings.debug = config.debug
    settings.registries = config.registries


def _reload(options: argparse.Namespace, settings: Settings) -> None:
    """SIGHUP: read the file again and take over what may change at any time."""
    try:
        config = _configure(options)
    except InvalidParameter as error:
        log.error("configuration not reloaded: %s", error)
        return
    _apply(config, settings)
    log.info("configuration reloaded: log level %s", config.level)


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
