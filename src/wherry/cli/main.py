"""The `wherry` command: find the command, run it, turn what went wrong into text and an exit code.

What a command needs is imported when it runs; the whole of `wherry ps` should take little more than starting Python.
"""

from __future__ import annotations

import sys

from wherry.cli.commandline import Help, Invocation, resolve
from wherry.cli.errors import Failure


def main(words: list[str] | None = None) -> int:
    """Run one command line; the exit code."""
    words = sys.argv[1:] if words is None else words
    try:
        if words[:1] == ["__complete"]:
            return _complete(words[1:])
        return _run(resolve(words))
    except Help as help_:
        if help_.note:
            print(help_.note, file=sys.stderr)
        sys.stdout.write(help_.text)
        return 0
    except Failure as failure:
        return _fail(failure.text, failure.code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return _reader_gone()
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _reader_gone()


def _complete(words: list[str]) -> int:
    from wherry.cli.completion import complete, names_of

    sys.stdout.write(complete(words, names_of).text())
    return 0


def _run(invocation: Invocation) -> int:
    from wherry.cli.context import Context, describe

    context = Context(invocation)
    module, _, function = invocation.command[4].partition(":")
    try:
        command = getattr(__import__(f"wherry.cli.commands.{module}", fromlist=["run"]), function or "run")
        return int(command(context))
    except (BrokenPipeError, Failure):
        raise
    except Exception as error:
        text = describe(error, context.host)
        if text is None:
            raise
        return _fail(text, 1)


def _fail(text: str, code: int) -> int:
    sys.stdout.flush()
    if text:
        print(text, file=sys.stderr)
    return code


def _reader_gone() -> int:
    """Whoever read our output went away: leave quietly, as a shell pipeline expects."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 141


if __name__ == "__main__":
    sys.exit(main())
