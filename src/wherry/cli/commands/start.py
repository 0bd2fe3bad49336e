"""`start`: containers in the background, or one of them in the foreground."""

from __future__ import annotations

import sys

from wherry.cli.commands.run import parse_keys
from wherry.cli.context import describe
from wherry.cli.errors import Failure
from wherry.cli.paths import container
from wherry.client.engine import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.context import Context


def run(context: Context) -> int:
    flags = context.flags
    foreground = flags.on("attach") or flags.on("interactive")
    if foreground and len(context.arguments) > 1:
        raise Failure("you cannot start and attach multiple containers at once")
    if foreground:
        return _attached(context, context.arguments[0])
    failed = []
    for name in context.arguments:
        try:
            context.engine.post(container(name, "start"))
        except Exception as error:
            text = describe(error, context.host)
            if text is None:
                raise
            print(text, file=sys.stderr)
            failed.append(name)
        else:
            print(name, flush=True)
    if failed:
        raise Failure(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _attached(context: Context, name: str) -> int:
    from wherry.cli.session import Session

    flags = context.flags
    keys = parse_keys(flags.text("detach-keys"))
    found = context.engine.get(container(name, "json"))
    config = found["Config"]
    session = Session(context.engine, found["Id"], tty=config["Tty"], keys=keys)
    session.proxy_signals = not config["Tty"]
    stdin = flags.on("interactive") and config["OpenStdin"]
    session.attach({"stdin": stdin, "stdout": True, "stderr": True})
    session.expect_exit("removed" if found["HostConfig"]["AutoRemove"] else "next-exit")
    try:
        context.engine.post(container(found["Id"], "start"))
    except EngineError:
        session.close()
        raise
    return session.run()
