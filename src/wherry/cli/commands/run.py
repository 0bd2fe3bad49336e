"""`create` and `run`: make a container; for `run`, start it and be its terminal until it ends."""

from __future__ import annotations

import os
import sys

from wherry.cli import program, terminal
from wherry.cli.context import describe
from wherry.cli.creation import BadOption, body
from wherry.cli.errors import Failure
from wherry.cli.imagenames import check, familiar, split
from wherry.client.engine import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.context import Context

CODE = 125


def _fail(context: Context, message: str) -> Failure:
    """Docker's shape for what goes wrong before the container runs."""
    hint = f"Run '{program.NAME} {context.path} --help' for more information"
    return Failure(f"{program.NAME}: {message}\n\n{hint}", CODE)


def create(context: Context) -> int:
    try:
        asked = _body(context)
    except BadOption as error:
        raise _fail(context, str(error)) from None
    try:
        made = _make(context, asked)
    except BadOption as error:
        raise Failure(str(error)) from None
    print(made["Id"])
    return 0


def _refuse_foreign(context: Context) -> None:
    """Raise Failure for what only another operating system's engine does, and for signed images."""
    for flag in ("cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"):
        if context.flags.changed(flag):
            raise Failure(
                f'"--{flag}" is only supported on a {program.TITLE} daemon running on windows, but the '
                f"{program.TITLE} daemon is running on linux"
            )
    if not context.flags.on("disable-content-trust", True):
        raise Failure(f"{program.NAME}: content trust is not there yet")


def _body(context: Context) -> dict[str, Any]:
    _refuse_foreign(context)
    pull = context.flags.text("pull", "missing")
    if pull not in ("always", "missing", "never"):
        raise BadOption(f'invalid pull option: \'{pull}\': must be one of "always", "missing" or "never"')
    image, *command = context.arguments
    made = body(context.flags, image, command)
    if context.flags.on("use-api-socket"):
        if not context.host.startswith("unix://"):
            raise BadOption("flag --use-api-socket can't be used with a remote daemon")
        socket = {"Type": "bind", "Source": context.host[7:], "Target": "/var/run/docker.sock", "BindOptions": {}}
        made["HostConfig"]["Mounts"] = [*(made["HostConfig"].get("Mounts") or ()), socket]
    return made


def _make(context: Context, made: dict[str, Any]) -> dict[str, Any]:
    """Create the container, fetching its image where --pull says so. Raises BadOption for a wrong option."""
    flags = context.flags
    try:
        check(made["Image"])
    except Failure as error:
        raise BadOption(error.text) from None
    pull = flags.text("pull", "missing")
    cidfile = flags.text("cidfile")
    if cidfile and os.path.exists(cidfile):
        raise BadOption(f"container ID file found, make sure the other container isn't running or delete {cidfile}")
    platform = flags.text("platform")
    if platform and not context.engine.at_least(41):
        platform = ""
    if context.engine.at_least(42):
        made["HostConfig"].pop("KernelMemory", None)  # gone from the API
    query = {"name": flags.text("name") or None, "platform": platform or None}
    if pull == "always":
        _pull(context, made["Image"], platform)
    try:
        answer = context.engine.post("/containers/create", query, made)
    except EngineError as error:
        if error.status != 404 or pull != "missing":
            raise
        print(f"Unable to find image '{familiar(made['Image'])}' locally", file=sys.stderr)
        _pull(context, made["Image"], platform)
        answer = context.engine.post("/containers/create", query, made)
    for warning in answer.get("Warnings") or ():
        print(f"WARNING: {warning}", file=sys.stderr)
    if cidfile:
        with open(cidfile, "w") as file:
            file.write(answer["Id"])
    return dict(answer)


def _pull(context: Context, image: str, platform: str) -> None:
    """Raises BadOption for what goes wrong after it began."""
    from wherry.cli.credentials import header
    from wherry.cli.progress import show

    name, tag = split(image)
    query = {"fromImage": name, "tag": tag, "platform": platform or None}
    response = context.engine.open("POST", "/images/create", query, headers=header(image))
    try:
        show(response, sys.stderr, quiet=context.flags.on("quiet"))
    except Failure as failure:
        raise BadOption(failure.text) from None
    context.engine.finish(response)


def run(context: Context) -> int:
    flags = context.flags
    detach = flags.on("detach")
    try:
        made = _body(context)
        if detach:
            if flags.items("attach"):
                raise Failure("conflicting options: cannot specify both --attach and --detach")
            made.update(AttachStdin=False, AttachStdout=False, AttachStderr=False, StdinOnce=False)
        else:
            check_terminal(made["AttachStdin"], made["Tty"])
            if made["Tty"]:
                made["HostConfig"]["ConsoleSize"] = list(terminal.size())
        keys = parse_keys(flags.text("detach-keys"))
        made_of = _make(context, made)
        return _start(context, made_of["Id"], made, keys, detach)
    except BadOption as error:
        raise _fail(context, str(error)) from None
    except Failure:
        raise
    except Exception as error:
        text = describe(error, context.host)
        if text is None:
            raise
        raise _fail(context, text) from None


def parse_keys(text: str) -> bytes:
    """The bytes of --detach-keys. Raises Failure."""
    from wherry.cli import detach

    try:
        return detach.parse(text)
    except ValueError as error:
        raise Failure(str(error)) from None


def check_terminal(stdin: bool, tty: bool) -> None:
    """Raise Failure where a terminal is asked for and standard input is none."""
    if stdin and tty and not os.isatty(0):
        raise Failure("the input device is not a TTY")


def _start(context: Context, identifier: str, made: dict[str, Any], keys: bytes, detach: bool) -> int:
    engine = context.engine
    if detach:
        try:
            engine.post(f"/containers/{identifier}/start")
        except EngineError as error:
            raise _start_failed(context, error) from None
        print(identifier)
        return 0
    from wherry.cli.session import Session

    session = Session(engine, identifier, tty=made["Tty"], keys=keys)
    session.proxy_signals = context.flags.on("sig-proxy", True) and not made["Tty"]
    wanted = {"stdin": made["AttachStdin"], "stdout": made["AttachStdout"], "stderr": made["AttachStderr"]}
    session.attach(wanted)
    session.expect_exit("removed" if made["HostConfig"]["AutoRemove"] else "next-exit")
    try:
        engine.post(f"/containers/{identifier}/start")
    except EngineError as error:
        session.close()
        raise _start_failed(context, error) from None
    return session.run()


def _start_failed(context: Context, error: EngineError) -> Failure:
    """The exit code says why: 127 for a command that is not there, 126 for one that cannot be run."""
    message = error.message
    code = CODE
    if any(
        words in message for words in ("executable file not found", "no such file or directory", "system cannot find")
    ):
        code = 127
    elif any(words in message for words in ("permission denied", "is a directory", "not a directory")):
        code = 126
    hint = f"Run '{program.NAME} {context.path} --help' for more information"
    return Failure(f"{program.NAME}: Error response from daemon: {message}\n\n{hint}", code)
