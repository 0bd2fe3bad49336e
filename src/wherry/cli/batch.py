"""One action on several objects: each that succeeds is named, what fails is told at the end."""

from __future__ import annotations

from wherry.cli.context import describe
from wherry.cli.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.cli.context import Context


def each(context: Context, action: Callable[[str], str | None], *, then: str = "") -> int:
    """Call `action` with every argument; print the name, or the text it answers ("" for nothing). Raises Failure with
    all that went wrong, and `then` after it."""
    problems = []
    for name in context.arguments:
        try:
            said = action(name)
        except Exception as error:
            text = error.text if isinstance(error, Failure) else describe(error, context.host)
            if text is None:
                raise
            problems.append(text)
            continue
        said = name if said is None else said
        if said:
            print(said, flush=True)
    if problems:
        raise Failure("\n".join([*problems, then] if then else problems))
    return 0
