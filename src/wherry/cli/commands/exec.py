"""`exec`: a further process in a container."""

from __future__ import annotations

from wherry.cli import detach, terminal
from wherry.cli.commands.run import check_terminal, parse_keys
from wherry.cli.creation import BadOption, environment
from wherry.cli.errors import Failure
from wherry.cli.paths import container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.context import Context


def run(context: Context) -> int:
    flags = context.flags
    name, *command = context.arguments
    engine = context.engine
    background, tty = flags.on("detach"), flags.on("tty")
    stdin = flags.on("interactive") and not background
    keys = parse_keys(flags.text("detach-keys"))
    try:
        variables = environment(flags.items("env-file"), flags.items("env"))
    except BadOption as error:
        raise Failure(str(error)) from None
    engine.get(container(name, "json"))  # whether it is there counts before whether this terminal is one
    if not background:
        check_terminal(stdin, tty)
    body: dict[str, Any] = {
        "User": flags.text("user"),
        "Privileged": flags.on("privileged"),
        "Tty": tty,
        "AttachStdin": stdin,
        "AttachStderr": not background,
        "AttachStdout": not background,
        "DetachKeys": "",
        "Env": variables or None,
        "WorkingDir": flags.text("workdir"),
        "Cmd": command,
    }
    size = list(terminal.size()) if tty else [0, 0]
    if any(size):
        body["ConsoleSize"] = size
    if keys != detach.DEFAULT:
        from wherry.cli.session import keys_text

        body["DetachKeys"] = keys_text(keys)
    identifier = str(engine.post(container(name, "exec"), json=body)["Id"])
    start: dict[str, Any] = {"Detach": background, "Tty": tty}
    if any(size):
        start["ConsoleSize"] = size
    if background:
        engine.post(f"/exec/{identifier}/start", json=start)
        return 0
    from wherry.cli.session import ExecSession

    session = ExecSession(engine, identifier, tty=tty, keys=keys)
    session.start(start, stdin=stdin)
    return session.run()
