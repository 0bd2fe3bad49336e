"""Our daemon as a process with roots of its own, that tests may kill and start again."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.http import Client
from wherry.engine.networks import clean_host

SOURCE = Path(__file__).resolve().parents[2] / "src"


class DaemonFailed(Exception):
    """The daemon ended instead of listening; the message is what it said."""


class Wherryd:
    """One data root and exec root with a network for the bridge, and at most one daemon process on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.run = folder / "run"
        self.socket = self.run / "wherry.sock"
        self.log = folder / "wherryd.log"
        self._claim, self.gateway = _claim_gateway()
        self.process: subprocess.Popen[bytes] | None = None
        self.run.mkdir(parents=True, exist_ok=True)

    def command(self, *arguments: str) -> list[str]:
        return [
            sys.executable,
            "-m",
            "wherry.daemon",
            "--data-root",
            str(self.data),
            "--exec-root",
            str(self.run),
            "--pidfile",
            str(self.folder / "wherryd.pid"),
            "-H",
            f"unix://{self.socket}",
            "--bip",
            f"{self.gateway}/24",
            *arguments,
        ]

    def start(self, *arguments: str, failpoint: str = "", wait: bool = True, **environment: str) -> None:
        """Start the daemon and wait until it answers. Raises DaemonFailed if it ends instead."""
        assert self.process is None or self.process.poll() is not None, "still running"
        self.run.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "PYTHONPATH": str(SOURCE), **environment}
        if failpoint:
            env["WHERRY_FAILPOINT"] = failpoint
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(*arguments), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env
            )
        if wait:
            self.await_ready()

    def await_ready(self, seconds: float = 120.0) -> None:
        assert self.process
        deadline = time.monotonic() + seconds
        while True:
            if self.process.poll() is not None:
                raise DaemonFailed(f"exit code {self.process.returncode}\n{self.tail()}")
            try:
                if Client(self.socket, version="").get("/_ping").status == 200:
                    return
            except (OSError, ValueError):
                pass
            if time.monotonic() > deadline:
                raise DaemonFailed(f"not ready after {seconds} s\n{self.tail()}")
            time.sleep(0.02)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def kill(self) -> None:
        """`kill -9`."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def died(self, seconds: float = 20.0) -> bool:
        """Wait for the daemon's own end; whether it was by SIGKILL, as at a failpoint."""
        assert self.process
        return self.process.wait(seconds) == -signal.SIGKILL

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def dispose(self) -> None:
        """Stop it and take everything of its off the host; containers must be gone."""
        self.stop()
        if bridge := self.bridge:
            clean_host([bridge])
        shutil.rmtree(self.folder)
        self._claim.close()

    @property
    def bridge(self) -> str:
        """The interface that has the daemon's bridge address, "" if none."""
        return _addresses().get(self.gateway, "")


def _addresses() -> dict[str, str]:
    """The interface of each address of this host."""
    shown = subprocess.run(["ip", "-json", "address"], check=True, capture_output=True)
    return {
        address["local"]: link["ifname"]
        for link in json.loads(shown.stdout)
        for address in link.get("addr_info", ())
        if "local" in address
    }


def _claim_gateway() -> tuple[socket.socket, str]:
    """An address for a bridge that nobody has, held by a socket against other runs of the tests on this host."""
    taken = _addresses()
    for number in random.sample(range(256), 256):
        gateway = f"172.31.{number}.1"
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0wherry-tests/{gateway}")
        except OSError:
            claim.close()
            continue
        if gateway not in taken:
            return claim, gateway
        claim.close()
    raise AssertionError("no network is left in 172.31.0.0/16")


def temporary_folder() -> Path:
    """Short, since the path of a Unix socket has at most 107 bytes (unix(7))."""
    return Path(tempfile.mkdtemp(prefix="wt-", dir="/tmp"))
