"""`build`: an image from a Dockerfile; so far what the Dockerfile says, by `--check` and `--plan`."""

from __future__ import annotations

from wherry.cli import buildplans, program
from wherry.cli.buildfiles import plan_options, read_given
from wherry.cli.errors import Failure
from wherry.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.context import Context


def run(context: Context) -> int:
    flags = context.flags
    form = flags.text("plan-format", "text")
    if form not in buildplans.PLAN_FORMS:
        raise Failure(f"invalid argument {form!r} for --plan-format: it is one of {', '.join(buildplans.PLAN_FORMS)}")
    if not flags.on("check") and not flags.on("plan"):
        raise Failure(f"{program.NAME}: 'build' without --check or --plan is not there yet")
    given = read_given(flags, context.arguments[0])
    try:
        options = plan_options(flags, given, buildplans.host_platform())
    except InvalidParameter as error:
        raise Failure(f"ERROR: {error}") from None
    if flags.on("check"):
        return buildplans.check(context.engine, given.dockerfile, given.name, options)
    return buildplans.show(context.engine, given.dockerfile, given.name, options, form)
