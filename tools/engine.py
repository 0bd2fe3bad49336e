"""The engine as a process: is it there, start it, stop it; and its own command on it."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from pathlib import Path

from tools.environment import VENV
from tools.progress import Failure, run, say
from tools.settings import Settings

_PATIENCE = 60.0
"""Seconds to wait for the engine to answer or to end: re-adopting very many containers takes some."""


def wherry(settings: Settings, *arguments: str) -> str:
    """Run our own command against this engine; its standard output. Raises Failure with what it said.

    What it remembers of files that it has sent goes with the engine, not into the user's home.
    """
    words: list[str | Path] = [VENV / "bin" / "wherry", "--host", f"unix://{settings.socket}", *arguments]
    return run(words, env={**os.environ, "XDG_CACHE_HOME": str(settings.exec_root / "cache")})


def answers(settings: Settings) -> bool:
    """Whether an engine answers `GET /_ping` at the socket."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(settings.socket))
            connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: wherry\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def start(settings: Settings) -> None:
    """Start the engine, detached from this terminal, and wait until it answers. Raises Failure with its last words."""
    if answers(settings):
        say(f"The engine runs already (PID {pid(settings) or '?'})")
        return
    settings.exec_root.mkdir(parents=True, exist_ok=True)
    settings.log.parent.mkdir(parents=True, exist_ok=True)
    command = [str(VENV / "bin" / "wherryd"), *flags(settings)]
    with settings.log.open("ab") as log:
        beginning = log.tell()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True
        )
    deadline = time.monotonic() + _PATIENCE
    while not answers(settings):
        code = process.poll()
        if code is not None or time.monotonic() > deadline:
            with settings.log.open("rb") as said:
                said.seek(beginning)
                words = said.read()[-4000:].decode(errors="replace")
            what = "does not answer" if code is None else f"ended with exit code {code}"
            raise Failure(f"the engine {what}; {settings.log} says:\n{words}")
        time.sleep(0.05)
    say(f"The engine runs (PID {process.pid}); its log is {settings.log}")


def flags(settings: Settings) -> list[str]:
    """The daemon's options; none for what is the default, so that its configuration file has a say."""
    default = Settings.from_environment({})
    options: list[str] = []
    if settings.data_root != default.data_root:
        options += ["--data-root", str(settings.data_root)]
    if settings.exec_root != default.exec_root:
        options += ["--exec-root", str(settings.exec_root)]
        options += ["--pidfile", str(settings.pidfile), "--host", f"unix://{settings.socket}"]
    if settings.bip:
        options += ["--bip", settings.bip]
    return options


def pid(settings: Settings) -> int | None:
    """The running engine's process ID by its pidfile, if that process is ours and runs with these roots."""
    try:
        number = int(settings.pidfile.read_text())
        words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return number if os.fsencode(settings.exec_root) in words or b"wherryd" in b" ".join(words) else None


def stop(settings: Settings) -> None:
    """SIGTERM, and wait for the end. Raises Failure if it does not come; nothing harsher is done."""
    number = pid(settings)
    if number is None:
        return
    descriptor = os.pidfd_open(number)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not select.select([descriptor], [], [], _PATIENCE)[0]:
            raise Failure(f"the engine (PID {number}) does not end on SIGTERM; {settings.log} may say why")
    finally:
        os.close(descriptor)
