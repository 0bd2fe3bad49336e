"""`create` and `run`: make a container; for `run`, start it and be its terminal until it ends."""

from __future__ import annotations

import os
import sys

from wherry.cli import program
from wherry.cli.context import describe
from wherry.cli.creation import BadOption, body
from wherry.cli.errors import Failure
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
        made = _make(context, _body(context))
    except BadOption as error:
        raise Failure(str(error)) from None
    print(made["Id"])
    return 0


def _body(context: Context) -> dict[str, Any]:
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
    pull = flags.text("pull", "missing")
    if pull not in ("always", "missing", "never"):
        raise BadOption(f'invalid pull option: \'{pull}\': must be one of "always", "missing" or "never"')
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
        if error.status != 404 or pull != "missing" or not _about_image(error.message):
            raise
        print(f"Unable to find image '{_tagged(made['Image'])}' locally", file=sys.stderr)
        _pull(context, made["Image"], platform)
        answer = context.engine.post("/containers/create", query, made)
    for warning in answer.get("Warnings") or ():
        print(f"WARNING: {warning}", file=sys.stderr)
    if cidfile:
        with open(cidfile, "w") as file:
            file.write(answer["Id"])
    return dict(answer)


def _about_image(message: str) -> bool:
    return "No such image" in message


def _tagged(image: str) -> str:
    from wherry.cli.imagenames import familiar

    return familiar(image)


def _pull(context: Context, image: str, platform: str) -> None:
    from wherry.cli.imagenames import split
    from wherry.cli.progress import show

    name, tag = split(image)
    query = {"fromImage": name, "tag": tag, "platform": platform or None}
    response = context.engine.open("POST", "/images/create", query)
    show(response, sys.stderr, quiet=context.flags.on("quiet"))
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
            _check_terminal(made)
        keys = _detach_keys(context)
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


def _detach_keys(context: Context) -> bytes:
    from wherry.cli.detach import KeyError_, parse

    try:
        return parse(context.flags.text("detach-keys"))
    except KeyError_ as error:
        raise BadOption(str(error)) from None


def _check_terminal(made: dict[str, Any]) -> None:
    if made["AttachStdin"] and made["Tty"] and not os.isatty(0):
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
