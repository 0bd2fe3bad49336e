"""What the scripts say while they work: one line a step, the output of a command only if it fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class Failure(Exception):
    """A step that cannot be done; the message is for the user and says what to do."""


def say(line: str) -> None:
    print(line, flush=True)


def run(command: Sequence[str | Path], **options: object) -> str:
    """Run the command to its end, quietly; returns its standard output. Raises Failure with all it said."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    except FileNotFoundError:
        raise Failure(f"{command[0]}: not found") from None
    if result.returncode != 0:
        words = " ".join(map(str, command))
        raise Failure(f"`{words}` failed with exit code {result.returncode}:\n{result.stdout}{result.stderr}")
    output: str = result.stdout
    return output


def finish(main: object) -> None:
    """Run a script's main function; a Failure becomes one message and exit code 1."""
    assert callable(main)
    try:
        sys.exit(main())
    except Failure as failure:
        print(f"{Path(sys.argv[0]).name}: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
