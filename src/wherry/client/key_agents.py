"""An SSH agent for the time of a build, for those who name key files: the system's ssh-agent, with these keys.

It ends with the process that waits beside it, also when ours is killed (ssh-agent(1), with a command).
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

_BESIDE = ["/bin/sh", "-c", "echo $SSH_AGENT_PID; exec cat >/dev/null"]


class KeyRefused(Exception):
    """A key cannot be used, or there is no agent to hold it."""


@contextmanager
def agent_of(keys: Iterable[str]) -> Iterator[str]:
    """The socket of an agent that has these keys, paths of private keys without passphrases. Raises KeyRefused."""
    with tempfile.TemporaryDirectory(prefix="wherry-ssh-") as folder:
        socket = os.path.join(folder, "agent")
        try:
            beside = subprocess.Popen(
                ["ssh-agent", "-a", socket, *_BESIDE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise KeyRefused("keys need ssh-agent: apt-get install openssh-client") from None
        assert beside.stdin is not None and beside.stdout is not None
        try:
            told = beside.stdout.readline().strip()
            if not told.isdigit():
                raise KeyRefused("ssh-agent does not start")
            try:
                for key in keys:
                    _add(key, socket)
                yield socket
            finally:
                with suppress(ProcessLookupError):
                    os.kill(int(told), signal.SIGTERM)
        finally:
            beside.stdin.close()
            beside.stdout.close()
            beside.wait()


def _add(key: str, socket: str) -> None:
    """By standard input: the mode of the file does not matter. Nobody can be asked for a passphrase."""
    try:
        with open(key, "rb") as file:
            data = file.read()
    except OSError as error:
        raise KeyRefused(f"failed to open {key}: {(error.strerror or '').lower()}") from None
    environment = {"PATH": os.environ.get("PATH", os.defpath), "SSH_AUTH_SOCK": socket, "SSH_ASKPASS_REQUIRE": "never"}
    added = subprocess.run(
        ["ssh-add", "-q", "-"], input=data, capture_output=True, env=environment, start_new_session=True
    )
    if added.returncode:
        raise KeyRefused(
            f"failed to parse {key}: it is no private key, or has a passphrase: add it to an agent with ssh-add,"
            " and name no key"
        )
