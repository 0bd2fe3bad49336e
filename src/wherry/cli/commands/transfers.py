"""`pull` and `push`."""

from __future__ import annotations

import sys

from wherry.cli import program
from wherry.cli.credentials import header
from wherry.cli.errors import Failure
from wherry.cli.paths import of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.context import Context
    from wherry.model.reference import Reference


def pull(context: Context) -> int:
    from dataclasses import replace

    flags = context.flags
    reference = _parse(context.arguments[0])
    _refuse_trust(context)
    every, quiet = flags.on("all-tags"), flags.on("quiet")
    named = bool(reference.tag or reference.digest)
    if every and named:
        raise Failure("tag can't be used with --all-tags/-a")
    if not every and not named:
        reference = reference.with_default_tag()
        if not quiet:
            print(f"Using default tag: {reference.tag}")
    name = replace(reference, tag="", digest="").familiar
    query = {
        "fromImage": name,
        "tag": reference.digest or reference.tag or None,
        "platform": flags.text("platform") or None,
    }
    _show(context, "/images/create", query, reference, quiet)
    print(reference.canonical)
    return 0


def push(context: Context) -> int:
    from dataclasses import replace

    flags = context.flags
    reference = _parse(context.arguments[0])
    _refuse_trust(context)
    every, quiet = flags.on("all-tags"), flags.on("quiet")
    if every and (reference.tag or reference.digest):
        raise Failure("tag can't be used with --all-tags/-a")
    if not every and not reference.tag and not reference.digest:
        reference = reference.with_default_tag()
        if not quiet:
            print(f"Using default tag: {reference.tag}")
    platform = None
    if text := flags.text("platform"):
        from wherry.cli.commands.archives import platform_json

        context.needs("platform", 46)
        platform = platform_json(text)
    name = replace(reference, tag="").familiar
    _show(context, of("image", name, "push"), {"tag": reference.tag or None, "platform": platform}, reference, quiet)
    if quiet:
        print(reference.canonical)
    return 0


def _parse(text: str) -> Reference:
    from wherry.errors import WherryError
    from wherry.model.reference import parse

    try:
        return parse(text)
    except WherryError as error:
        raise Failure(str(error)) from None


def _refuse_trust(context: Context) -> None:
    if not context.flags.on("disable-content-trust", True):
        raise Failure(f"{program.NAME}: content trust is not there yet")


def _show(context: Context, path: str, query: dict[str, str | None], reference: Reference, quiet: bool) -> None:
    """Ask, and show what happens. The header is sent even if it is empty: the engine wants one for a push."""
    from wherry.cli.progress import show

    headers = header(reference.canonical) or {"X-Registry-Auth": "e30="}
    sys.stdout.flush()
    response = context.engine.open("POST", path, dict(query), headers=headers)
    show(response, sys.stdout, quiet=quiet)
    context.engine.finish(response)
