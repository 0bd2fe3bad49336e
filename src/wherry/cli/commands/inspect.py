"""`inspect`, of one kind of object or of whatever has the name."""

from __future__ import annotations

import sys

from wherry.cli import paths, program
from wherry.cli.context import describe
from wherry.cli.errors import Failure
from wherry.client.engine import EngineError
from wherry.model import jsontext
from wherry.model.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.cli.context import Context
    from wherry.model.template import Template

    Getter = Callable[[str], tuple[str, bytes]]

# kind: (the verb after the name, the Go type of the answer)
KINDS = {
    "container": ("json", "container.InspectResponse"),
    "image": ("json", "image.InspectResponse"),
    "network": ("", "network.Inspect"),
    "volume": ("", "volume.Volume"),
    "plugin": ("json", ""),
}
_KNOWN = ("config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume")


def _get(context: Context, kind: str, name: str) -> tuple[str, bytes]:
    verb, type_name = KINDS[kind]
    query: dict[str, Any] = {}
    if kind == "container" and context.flags.on("size"):
        query["size"] = True
    if kind == "network" and context.flags.on("verbose"):
        query["verbose"] = True
    if kind == "image" and context.flags.text("platform"):
        from wherry.cli.commands.archives import platform_json

        context.needs("platform", 49)
        query["platform"] = platform_json(context.flags.text("platform"))
    response = context.engine.open("GET", paths.of(kind, name, verb), query)
    return type_name, context.engine.finish(response)


def containers(context: Context) -> int:
    return show_each(context, lambda name: _get(context, "container", name))


def images(context: Context) -> int:
    return show_each(context, lambda name: _get(context, "image", name))


def networks(context: Context) -> int:
    return show_each(context, lambda name: _get(context, "network", name))


def volumes(context: Context) -> int:
    return show_each(context, lambda name: _get(context, "volume", name))


def anything(context: Context) -> int:
    kind = context.flags.text("type")
    if context.flags.changed("type") and kind not in _KNOWN:
        if not kind:
            raise Failure(f"type is empty: must be one of {_choices()}")
        from wherry.model.gotext import quote

        raise Failure(f"unknown type: {quote(kind)}: must be one of {_choices()}")
    if kind and kind not in KINDS:
        raise Failure(f"{program.NAME}: 'inspect --type {kind}' is not there yet")
    return show_each(context, lambda name: _get(context, kind, name) if kind else _search(context, name))


def _choices() -> str:
    return ", ".join(f'"{kind}"' for kind in _KNOWN)


def _search(context: Context, name: str) -> tuple[str, bytes]:
    """The first kind of object that has the name, in docker's order."""
    for kind in KINDS:
        try:
            found = _get(context, kind, name)
        except EngineError as error:
            if error.status == 404 or "invalid reference format" in error.message:
                continue
            raise
        if kind != "container" and context.flags.on("size"):
            print(f"WARNING: --size ignored for {kind}s", file=sys.stderr)
        return found
    raise Failure(f"Error: No such object: {name}")


def show_each(context: Context, get: Getter) -> int:
    """Every argument's JSON, by the template of --format or indented. Raises Failure with what went wrong."""
    form = context.flags.text("format")
    template = _template(form) if form not in ("", "json") else None
    found: list[bytes] = []
    lines: list[str] = []
    problems: list[str] = []
    for name in context.arguments:
        try:
            type_name, raw = get(name)
        except Exception as error:
            text = error.text if isinstance(error, Failure) else describe(error, context.host)
            if text is None:
                raise
            problems.append(text)
            if not isinstance(error, Failure) and context.engine.version == "":
                break
            continue
        if template is None:
            found.append(raw.strip())
            continue
        try:
            lines.append(_rendered(template, type_name, raw))
        except Failure as error:
            problems.append(error.text)
    if template is not None:
        text = "".join([line + "\n" for line in lines]) or ("\n" if problems else "")
        sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
    else:
        text = "[" + ",".join([raw.decode("utf-8", "surrogateescape") for raw in found]) + "]"
        text = text if form == "json" else jsontext.indent(text)
        text = visible(text) if sys.stdout.isatty() else text  # JSON escapes no C1 controls
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")
    if problems:
        raise Failure("\n".join(problems))
    return 0


def _template(form: str) -> Template:
    from wherry.model.template import TemplateError, parse

    try:
        return parse(form)
    except TemplateError as error:
        raise Failure(f"template parsing error: {error}", 64) from None


def _rendered(template: Template, type_name: str, raw: bytes) -> str:
    """By the Go type, where the template fits it, else by the JSON as it came (which knows `.Id`, and newer fields)."""
    from wherry.cli.structs import Struct
    from wherry.model.template import TemplateError

    if type_name:
        try:
            return template.render(Struct(type_name, jsontext.loads(raw)))
        except TemplateError:
            pass
    try:
        return template.render(jsontext.loads_exact(raw), strict=True)
    except TemplateError as error:
        raise Failure(f"template parsing error: {error}") from None
