"""`ssh://`: the engine of another host, through its own `system dial-stdio` at the far end of ssh.

The program at each end is whichever is there: `ssh` here; there `wherry`, else `docker`. So either's daemon is reached,
and nothing listens on the network but sshd.
"""

from __future__ import annotations

import _socket
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.connection import SshAddress

# One word for the remote shell, whichever shell that is: sh decides.
_REMOTE = (
    "sh -c 'if command -v wherry >/dev/null 2>&1; then exec wherry {host}system dial-stdio;"
    " else exec docker {host}system dial-stdio; fi'"
)


def command(address: SshAddress) -> list[str]:
    """The local command. A path after the host is the socket there."""
    words = ["ssh", "-o", "ConnectTimeout=30", "-T"]
    if address.user:
        words += ["-l", address.user]
    if address.port:
        words += ["-p", str(address.port)]
    host = f"--host=unix://{address.path} " if address.path else ""
    return [*words, "--", address.name, _REMOTE.format(host=host)]


class Carrier:
    """The running ssh."""

    def __init__(self, words: list[str], pid: int) -> None:
        self._words = words
        self._pid = pid

    def explain(self) -> str:
        """Why there is no answer: ssh has ended. What it said itself is on standard error already."""
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return (
            f"command [{' '.join(self._words[:-1])} …] has exited with exit status {code}, make sure the URL is valid,"
            " and that wherry or docker is installed on the remote host"
        )

    def close(self) -> None:
        """Its connection was closed: it ends by itself."""
        try:
            os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:
            pass


def dial(address: SshAddress) -> tuple[_socket.socket, Carrier]:
    """A socket whose other end is the remote engine. Raises OSError where there is no ssh."""
    words = command(address)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
    number = theirs.fileno()
    try:
        pid = os.posix_spawnp(
            words[0],
            words,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, number, 0), (os.POSIX_SPAWN_DUP2, number, 1)],
            setsid=True,  # the terminal's keys are for the client: a killed ssh would cut its streams
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return ours, Carrier(words, pid)
