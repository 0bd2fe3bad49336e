"""`attach`: become the terminal of a container that runs."""

from __future__ import annotations

from wherry.cli.commands.run import check_terminal, parse_keys
from wherry.cli.errors import Failure
from wherry.cli.paths import container
from wherry.cli.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.context import Context


class Attached(Session):
    def detached(self) -> int:
        raise Failure("read escape sequence")


def run(context: Context) -> int:
    flags = context.flags
    keys = parse_keys(flags.text("detach-keys"))
    found = context.engine.get(container(context.arguments[0], "json"))
    state, config = found["State"], found["Config"]
    if not state["Running"]:
        raise Failure("You cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise Failure("You cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise Failure("You cannot attach to a restarting container, wait until it is running")
    stdin = config["OpenStdin"] and not flags.on("no-stdin")
    check_terminal(stdin, config["Tty"])
    session = Attached(context.engine, found["Id"], tty=config["Tty"], keys=keys)
    session.proxy_signals = flags.on("sig-proxy", True) and not config["Tty"]
    session.repaint = config["Tty"]
    session.expect_exit("not-running")
    session.attach({"stdin": stdin, "stdout": True, "stderr": True})
    return session.run()
