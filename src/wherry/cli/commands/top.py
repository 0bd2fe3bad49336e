"""`top`: the processes of a container."""

from __future__ import annotations

import sys

from wherry.cli.paths import container
from wherry.cli.tabular import align

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.context import Context


def run(context: Context) -> int:
    name, *arguments = context.arguments
    found = context.engine.get(container(name, "top"), {"ps_args": " ".join(arguments) or None})
    rows = [found["Titles"], *(found["Processes"] or ())]
    sys.stdout.write(align("".join(["\t".join(row) + "\n" for row in rows]), minimum=20))
    return 0
