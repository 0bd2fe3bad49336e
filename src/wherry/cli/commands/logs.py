"""`logs`: what a container wrote."""

from __future__ import annotations

from wherry.cli.errors import Failure
from wherry.cli.paths import container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.context import Context
    from wherry.cli.flags import Flags


def _moment(flags: Flags, name: str) -> str | None:
    from wherry.model.gotime import moment

    text = flags.text(name)
    if not text:
        return None
    try:
        return moment(text)
    except ValueError as error:
        from wherry.model.gotext import quote

        raise Failure(f"invalid value for {quote(name)}: {error}") from None


def run(context: Context) -> int:
    from wherry.cli.pump import write
    from wherry.client.frames import STDERR, SYSTEM, Demultiplexer

    flags = context.flags
    found = context.engine.get(container(context.arguments[0], "json"))
    query = {
        "stdout": True,
        "stderr": True,
        "since": _moment(flags, "since"),
        "until": _moment(flags, "until"),
        "timestamps": flags.on("timestamps") or None,
        "follow": flags.on("follow") or None,
        "tail": flags.text("tail", "all"),
        "details": flags.on("details") or None,
    }
    response = context.engine.open("GET", container(found["Id"], "logs"), query)
    if found["Config"]["Tty"]:
        for data in response.pieces():
            write(1, data)
        return 0
    frames = Demultiplexer()
    for data in response.pieces():
        for stream, piece in frames.feed(data):
            if stream == SYSTEM:
                raise Failure(f"error from daemon in stream: {piece.decode('utf-8', 'replace')}")
            write(2 if stream == STDERR else 1, piece)
    return 0
