"""`stop`, `restart`, `kill`, `pause`, `unpause`, `rename`, `rm`, `wait`: one request a container."""

from __future__ import annotations

import sys

from wherry.cli.batch import each
from wherry.cli.errors import Failure
from wherry.cli.paths import container
from wherry.client.engine import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.context import Context


def _post(context: Context, verb: str, query: dict[str, Any] | None = None) -> int:
    return each(context, lambda name: context.engine.post(container(name, verb), query))


def _grace(context: Context) -> dict[str, Any]:
    flags = context.flags
    return {
        "t": flags.number("timeout") if flags.changed("timeout") else None,
        "signal": flags.text("signal") or None,
    }


def stop(context: Context) -> int:
    return _post(context, "stop", _grace(context))


def restart(context: Context) -> int:
    return _post(context, "restart", _grace(context))


def kill(context: Context) -> int:
    return _post(context, "kill", {"signal": context.flags.text("signal") or None})


def pause(context: Context) -> int:
    return _post(context, "pause")


def unpause(context: Context) -> int:
    return _post(context, "unpause")


def rename(context: Context) -> int:
    old, new = (name.strip() for name in context.arguments)
    if not old or not new:
        raise Failure("Error: Neither old nor new names may be empty")
    try:
        context.engine.post(container(old, "rename"), {"name": new})
    except EngineError as error:
        print(f"Error response from daemon: {error.message}", file=sys.stderr)
        raise Failure(f"Error: failed to rename container named {old}") from None
    return 0


def remove(context: Context) -> int:
    flags = context.flags
    force = flags.on("force")
    query = {"force": force or None, "v": flags.on("volumes") or None, "link": flags.on("link") or None}

    def one(name: str) -> str | None:
        bare = name.strip("/")
        if not bare:
            raise Failure("container name cannot be empty")
        try:
            context.engine.call("DELETE", container(bare), query)
        except EngineError as error:
            if not (force and error.status == 404):
                raise
            print(f"Error response from daemon: {error.message}", file=sys.stderr)
            return ""
        return None

    return each(context, one)


def wait(context: Context) -> int:
    return each(context, lambda name: str(context.engine.post(container(name, "wait"))["StatusCode"]))
