"""`diff`, `export` and `commit`: what a container has changed, all of its files, and an image made of them."""

from __future__ import annotations

import sys

from wherry.cli.errors import Failure
from wherry.model.gotext import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.context import Context

LETTERS = ("C", "A", "D")


def diff(context: Context) -> int:
    (container,) = context.arguments
    if not container:
        raise Failure("Container name cannot be empty")
    changes = context.engine.get(f"/containers/{escape(container)}/changes") or []
    for change in changes:
        sys.stdout.write(f"{LETTERS[change['Kind']]} {change['Path']}\n")
    return 0


def export(context: Context) -> int:
    from wherry.cli.commands.archives import check_target, keep

    (container,) = context.arguments
    target = context.flags.text("output")
    if not target:
        if sys.stdout.isatty():
            raise Failure("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    else:
        check_target(target, "failed to export container")
    response = context.engine.open("GET", f"/containers/{escape(container)}/export")
    keep(response.pieces(), target)
    return 0


def commit(context: Context) -> int:
    flags = context.flags
    container, *rest = context.arguments
    repository = tag = None
    if rest and rest[0]:
        repository, tag = _target(rest[0])
    query = {
        "container": container,
        "repo": repository,
        "tag": tag,
        "author": flags.text("author") or None,
        "comment": flags.text("message") or None,
        "changes": flags.items("change"),
        "pause": None if flags.on("pause", True) else "0",
    }
    made = context.engine.post("/commit", query)
    sys.stdout.write(f"{made['Id']}\n")
    return 0


def _target(name: str) -> tuple[str, str]:
    from wherry.errors import WherryError
    from wherry.model.reference import parse

    try:
        reference = parse(name)
    except WherryError as error:
        raise Failure(str(error)) from None
    if reference.digest:
        raise Failure("refusing to create a tag with a digest reference")
    return reference.familiar_name, reference.tag or "latest"
