"""`events`: what happens on the engine, as it happens."""

from __future__ import annotations

import sys
import time

from wherry.cli.errors import Failure
from wherry.cli.listing import filters
from wherry.model import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.cli.context import Context


def _line(event: dict[str, Any]) -> str:
    nanoseconds = event.get("timeNano") or event.get("time", 0) * 10**9
    actor = event.get("Actor") or {}
    text = f"{stamp(nanoseconds)} {event['Type']} {event['Action']} {actor.get('ID', '')}"
    attributes = actor.get("Attributes") or {}
    if attributes:
        text += " (" + ", ".join(f"{key}={value}" for key, value in sorted(attributes.items())) + ")"
    return text


def stamp(nanoseconds: int) -> str:
    """A time in nanoseconds in RFC 3339 with all nine digits, local."""
    local = time.localtime(nanoseconds // 10**9)
    offset = local.tm_gmtoff // 60
    zone = f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02}:{abs(offset) % 60:02}" if offset else "Z"
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + f".{nanoseconds % 10**9:09}{zone}"


def _formatter(form: str) -> Callable[[dict[str, Any]], str]:
    if not form:
        return _line
    from wherry.cli.structs import message
    from wherry.model.template import TemplateError, parse

    try:
        template = parse("{{json .}}" if form == "json" else form)
    except TemplateError as error:
        raise Failure(f"Error parsing format: {error}", 64) from None

    def formatted(event: dict[str, Any]) -> str:
        try:
            return template.render(message(event))
        except TemplateError as error:
            raise Failure(str(error)) from None

    return formatted


def run(context: Context) -> int:
    flags = context.flags
    show = _formatter(flags.text("format"))
    query = {name: _moment(flags.text(name)) for name in ("since", "until")}
    response = context.engine.open("GET", "/events", {**query, "filters": filters(flags.pairs("filter"))})
    for line in response.lines():
        if line.strip():
            sys.stdout.write(show(jsontext.loads(line)) + "\n")
            sys.stdout.flush()
    return 0


def _moment(text: str) -> str | None:
    from wherry.model.gotime import moment

    if not text:
        return None
    try:
        return moment(text)
    except ValueError as error:
        raise Failure(str(error)) from None
