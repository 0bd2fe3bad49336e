"""The texts of --help, laid out as cobra and pflag do: for the terminal's width, 80 where there is none."""

from __future__ import annotations

import os

from wherry.cli import program
from wherry.cli.commandline import find, spellings, usage_of
from wherry.cli.table import COMMANDS, COMMON, GLOBAL_FLAGS, GROUPS, Flag


def text(path: str) -> str:
    """The help of a command, of a group, or of the program (path "")."""
    if not path:
        return _program()
    if path in GROUPS:
        return _group(path)
    return _command(path)


def _named(line: str) -> str:
    return line.replace("{name}", program.NAME).replace("{title}", program.TITLE)


def _columns() -> int:
    try:
        return (os.get_terminal_size(0).columns or 80) - 1
    except OSError:
        return 79


def _command(path: str) -> str:
    found = find(path)
    assert found is not None
    paths, usage, summary, _, _, flags = found[0]
    out = [
        f"Usage:  {program.NAME} {path} {usage_of(usage, path)}".rstrip(),
        "",
        _named(summary.partition("\n")[2] or summary),
    ]
    aliases = [f"{program.NAME} {name}" for pattern in paths for name in spellings(pattern)]
    if len(aliases) > 1:
        out += ["", "Aliases:", "  " + ", ".join(aliases)]
    if flags:
        if any(letter == "h" for _, letter, _, _ in flags):
            flags = (*flags, ("help", "", "bool", "Print usage"))
        out += ["", "Options:", *flag_lines(tuple(sorted(flags)), _columns())]
    return "\n".join(out) + "\n"


def _group(group: str) -> str:
    listed = []
    for paths, _, summary, *_ in COMMANDS:
        for pattern in paths:
            first = spellings(pattern)[0]
            if first.startswith(group + " "):
                listed.append((first[len(group) + 1 :], summary))
    out = [f"Usage:  {program.NAME} {group} COMMAND", "", _named(GROUPS[group]), "", "Commands:", *_listing(listed)]
    return "\n".join(out) + f"\n\nRun '{program.NAME} {group} COMMAND --help' for more information on a command.\n"


def _listing(listed: list[tuple[str, str]]) -> list[str]:
    return [f"  {name:<11} {_named(summary.splitlines()[0])}" for name, summary in sorted(listed)]


def _program() -> str:
    top = {}
    for paths, _, summary, *_ in COMMANDS:
        for pattern in paths:
            if " " not in pattern:
                top[pattern] = summary
    common = [name for name in COMMON if name in top]
    out = [f"Usage:  {program.NAME} [OPTIONS] COMMAND", "", "A self-sufficient runtime for containers", ""]
    out += ["Common Commands:", *[f"  {name:<11} {_named(top[name])}" for name in common], ""]
    out += ["Management Commands:", *_listing(list(GROUPS.items())), ""]
    out += ["Commands:", *_listing([(n, s) for n, s in top.items() if n not in common]), ""]
    out += ["Global Options:", *flag_lines(GLOBAL_FLAGS, _columns()), ""]
    out += [f"Run '{program.NAME} COMMAND --help' for more information on a command.", ""]
    return "\n".join(out)


def flag_lines(flags: tuple[Flag, ...], columns: int) -> list[str]:
    """One entry a flag, the usages in one column and wrapped to `columns`."""
    flags = tuple(flag for flag in flags if flag[3])
    heads = []
    for name, letter, kind, _ in flags:
        head = f"  -{letter}, --{name}" if letter else f"      --{name}"
        heads.append(head if kind == "bool" else f"{head} {kind.split('/')[0]}")
    width = max(len(head) for head in heads) + 3
    lines = []
    for head, (_, _, _, usage) in zip(heads, flags, strict=True):
        lines += (head.ljust(width) + wrap(_named(usage), width, columns)).split("\n")
    return lines


def _cut(limit: int, slop: int, rest: str) -> tuple[str, str]:
    if limit + slop > len(rest):
        return rest, ""
    space = max(rest.rfind(char, 0, limit) for char in " \t\n")
    if space <= 0:
        return rest, ""
    newline = rest.rfind("\n", 0, limit)
    at = newline if 0 < newline < space else space
    return rest[:at], rest[at + 1 :]


def wrap(usage: str, indent: int, columns: int) -> str:
    """pflag's wrapping: at spaces, five columns kept so that no short word is left alone, newlines kept."""
    width = columns - indent
    first = ""
    if width < 24:
        indent = 16
        width = columns - indent
        first = "\n" + " " * indent
    if width < 24:
        return usage.replace("\n", first)
    slop = 5
    lead = "\n" + " " * indent
    line, rest = _cut(width - slop, slop, usage)
    out = [first, line.replace("\n", lead)]
    while rest:
        line, rest = _cut(width - slop, slop, rest)
        out.append(lead + line.replace("\n", lead))
    return "".join(out)
