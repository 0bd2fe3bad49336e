"""From words to a command: which command of the table they name, and what is wrong with them in docker's words."""

from __future__ import annotations

from wherry.cli import program
from wherry.cli.errors import Failure
from wherry.cli.flags import FlagError, Flags, HelpAsked, parse
from wherry.cli.table import COMMANDS, GLOBAL_FLAGS, GROUPS, LATER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.table import Command

USAGE_CODE = 125

# Where flags end at the first argument, because what follows is a command for the container.
_UNMIXED = ("container run", "container create", "container exec", "container top")


def spellings(path: str) -> list[str]:
    """The paths that "container ls|list|ps" stands for."""
    group, _, last = path.rpartition(" ")
    return [f"{group} {word}".strip() for word in last.split("|")]


def find(path: str) -> tuple[Command, str] | None:
    """The command and the path its usage line shows (an alias in a group shows the group's own spelling)."""
    for command in COMMANDS:
        for pattern in command[0]:
            names = spellings(pattern)
            if path in names:
                return command, names[0]
    return None


class Invocation:
    """A command that can run: which one, as what, with which flags and arguments."""

    def __init__(self, command: Command, path: str, flags: Flags, arguments: list[str], root: Flags) -> None:
        self.command = command
        self.path = path
        self.flags = flags
        self.arguments = arguments
        self.root = root


def usage_of(usage: str, path: str) -> str:
    """The rest of a usage line; some commands have a second one."""
    return usage.replace("{name}", program.NAME).replace("{path}", path)


def usage_error(message: str, usage: str, path: str, code: int, word: str = "Run") -> Failure:
    full = f"{program.NAME} {path}".strip()
    usage = f"Usage:  {full} {usage_of(usage, path)}".rstrip()
    return Failure(f"{message}\n\n{usage}\n\n{word} '{full} --help' for more information", code)


def resolve(words: list[str]) -> Invocation:
    """What `words` ask for. Raises Failure (also, with code 0 and the text on standard output, never: help is Help)."""
    root, rest = _global(words)
    if root.on("version"):
        raise Help(f"{program.TITLE} version {program.VERSION}\n")
    if rest[:1] == ["help"]:
        rest = [*rest[1:], "--help"]
    if not rest:
        raise Help(_help_text(""))
    path, rest = rest[0], rest[1:]
    if path in GROUPS:
        return _grouped(path, rest, root)
    if path == "--help":
        raise Help(_help_text(""))
    return _command(path, rest, root)


class Help(Exception):
    """`text` is to be printed on standard output, `note` on standard error."""

    def __init__(self, text: str, note: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.note = note


def _help_text(path: str) -> str:
    from wherry.cli import help as help_

    return help_.text(path)


_SHORT_HELP = "Flag shorthand -h has been deprecated, use --help"


def _global(words: list[str]) -> tuple[Flags, list[str]]:
    try:
        return parse(GLOBAL_FLAGS, words, mixed=False)
    except HelpAsked as asked:
        raise Help(_help_text(""), _SHORT_HELP if asked.shorthand else "") from None
    except FlagError as error:
        raise usage_error(str(error), "[OPTIONS] COMMAND [ARG...]", "", USAGE_CODE) from None


def _grouped(group: str, rest: list[str], root: Flags) -> Invocation:
    if not rest or rest[0] in ("--help", "-h"):
        raise Help(_help_text(group), _SHORT_HELP if rest[:1] == ["-h"] else "")
    if rest[0][:1] == "-" and rest[0] != "--":
        raise usage_error(f"unknown flag: {rest[0]}", "COMMAND", group, USAGE_CODE)
    path = f"{group} {rest[0]}"
    if find(path) or path in LATER:
        return _command(path, rest[1:], root)
    message = f"{program.NAME}: unknown command: {program.NAME} {path}{_perhaps(group, rest[0])}"
    raise usage_error(message, "", group, 1)


def _perhaps(group: str, word: str) -> str:
    """What of a group ("" for the top) the word may have been meant to be."""
    from wherry.cli.suggesting import did_you_mean

    paths = [name for command in COMMANDS for pattern in command[0] for name in spellings(pattern)]
    inside = [name.rpartition(" ")[2] for name in paths if name.rpartition(" ")[0] == group]
    return did_you_mean(word, [*inside, *([] if group else GROUPS)])


def _command(path: str, rest: list[str], root: Flags) -> Invocation:
    found = find(path)
    if found is None:
        if path in LATER:
            raise Failure(f"{program.NAME}: '{program.NAME} {path}' is not there yet")
        unknown = f"{program.NAME}: unknown command: {program.NAME} {path}{_perhaps('', path)}"
        raise Failure(f"{unknown}\n\nRun '{program.NAME} --help' for more information")
    command, path = found
    paths, usage, _, (least, most), _, flags = command
    warnings: list[str] = []
    try:
        values, arguments = parse(flags, rest, mixed=spellings(paths[0])[0] not in _UNMIXED, warnings=warnings)
    except HelpAsked as asked:
        raise Help(_help_text(path), _SHORT_HELP if asked.shorthand else "") from None
    except FlagError as error:
        raise usage_error(str(error), usage, path, USAGE_CODE) from None
    finally:
        for warning in warnings:
            _warn(warning)
    problem = arity_problem(len(arguments), least, most)
    if problem:
        message = f"{program.NAME}: '{program.NAME} {path}' {problem}"
        raise usage_error(
            message, usage, path, 1, "See" if problem.startswith("requires at least") and most < 0 else "Run"
        )
    return Invocation(command, path, values, arguments, root)


def _warn(text: str) -> None:
    import sys

    sys.stderr.write(text + "\n")


def arity_problem(count: int, least: int, most: int) -> str:
    """What is wrong with `count` arguments where `least` to `most` (-1: any number) are due, "" if nothing."""
    if count >= least and (most < 0 or count <= most):
        return ""
    if most == 0:
        return "accepts no arguments"
    if least == most:
        return f"requires {least} argument{'s' * (least != 1)}"
    if most < 0:
        return f"requires at least {least} argument{'s' * (least != 1)}"
    if least == 0:
        return f"requires at most {most} argument{'s' * (most != 1)}"
    return f"requires at least {least} and at most {most} arguments"
