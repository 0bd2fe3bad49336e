"""What could come next on a command line, from the same table as parsing and help.

The shells' scripts ask by `wherry __complete WORD...`, the last word being the one that is being typed: one candidate a
line, a tab and a description after it, and at the end `:files` where the shell's own file names are wanted too.
"""

from __future__ import annotations

from wherry.cli import program
from wherry.cli.commandline import find, spellings
from wherry.cli.table import COMMANDS, GLOBAL_FLAGS, GROUPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.cli.table import Flag

    Names = Callable[[str, str], list[str]]  # (kind, engine's address) -> names

_ENDS_FLAGS = ("container run", "container create", "container exec")
_BY_WORD = {
    "CONTAINER": "container",
    "IMAGE": "image",
    "SOURCE_IMAGE": "image",
    "NETWORK": "network",
    "VOLUME": "volume",
}
_BY_FLAG = {"network": "network", "volumes-from": "container", "runtime": ""}


class Completion:
    """Candidates with their descriptions; `files` tells whether file names fit as well."""

    def __init__(self, candidates: list[tuple[str, str]] | None = None, *, files: bool = False) -> None:
        self.candidates = candidates or []
        self.files = files

    def text(self) -> str:
        lines = [f"{word}\t{told}" if told else word for word, told in self.candidates]
        return "".join(f"{line}\n" for line in [*lines, *([":files"] if self.files else [])])


def complete(words: list[str], names: Names) -> Completion:
    """Candidates for the last of `words`; `names` asks the engine for names of a kind."""
    typed = words[-1] if words else ""
    words, values, pending = _split(words[:-1], GLOBAL_FLAGS, mixed=False)
    host = values.get("host", "")
    if pending:
        return Completion(files=True)
    if not words:
        return _matching(typed, _flags(GLOBAL_FLAGS) if typed[:1] == "-" else _top())
    path, words = words[0], words[1:]
    if path in GROUPS:
        if not words:
            return _matching(typed, _group(path))
        path, words = f"{path} {words[0]}", words[1:]
    found = find(path)
    if found is None:
        return Completion()
    (paths, usage, _, (_, most), _, flags), _ = found
    mixed = spellings(paths[0])[0] not in _ENDS_FLAGS
    arguments, _, pending = _split(words, flags, mixed=mixed)
    name, equals, value = typed.partition("=")
    if equals and name[:2] == "--":
        inner = _value(name[2:], value, host, names)
        return Completion([(f"{name}={word}", told) for word, told in inner.candidates], files=inner.files)
    if pending:
        return _value(pending, typed, host, names)
    if typed[:1] == "-" and (mixed or not arguments) and "--" not in words:
        return _matching(typed, _flags(flags))
    if 0 <= most <= len(arguments):
        return Completion()
    kind = _kind(usage, len(arguments))
    if not kind:
        return Completion(files=True)
    given = set(arguments)
    return _matching(typed, [(word, "") for word in names(kind, host) if word not in given])


def _split(words: list[str], flags: tuple[Flag, ...], *, mixed: bool) -> tuple[list[str], dict[str, str], str]:
    """Arguments, values of flags, and the name of the flag whose value comes next."""
    by_name = {name: kind for name, _, kind, _ in flags}
    by_letter = {letter: name for name, letter, _, _ in flags if letter}
    arguments: list[str] = []
    values: dict[str, str] = {}
    pending = ""
    for position, word in enumerate(words):
        if pending:
            values[pending], pending = word, ""
        elif word == "--":
            return arguments + words[position + 1 :], values, ""
        elif word[:1] != "-" or word == "-":
            if not mixed:
                return words[position:], values, ""
            arguments.append(word)
        else:
            name, equals, value = word[2:].partition("=") if word[:2] == "--" else (by_letter.get(word[-1], ""), "", "")
            if equals:
                values[name] = value
            elif by_name.get(name, "bool") != "bool":
                pending = name
    return arguments, values, pending


def _value(flag: str, typed: str, host: str, names: Names) -> Completion:
    kind = _BY_FLAG.get(flag)
    return _matching(typed, [(word, "") for word in names(kind, host)]) if kind else Completion(files=True)


def _kind(usage: str, position: int) -> str:
    """Of what kind the argument at a position is, by the words of the usage line; "" if it has no name here."""
    words = [word.strip("[].") for word in usage.split() if word != "[OPTIONS]"]
    if not words:
        return ""
    word = words[min(position, len(words) - 1)]
    return next(
        (_BY_WORD[part] for part in word.replace("[", "|").replace(":", "|").split("|") if part in _BY_WORD), ""
    )


def _matching(typed: str, candidates: list[tuple[str, str]]) -> Completion:
    return Completion([pair for pair in candidates if pair[0].startswith(typed)])


def _flags(flags: tuple[Flag, ...]) -> list[tuple[str, str]]:
    shown = [flag for flag in flags if flag[3]]
    long = [(f"--{name}", _told(usage)) for name, _, _, usage in shown]
    short = [(f"-{letter}", _told(usage)) for _, letter, _, usage in shown if letter]
    return [*sorted([*long, ("--help", "Print usage")]), *sorted(short)]


def _told(text: str) -> str:
    """The first line of a text of the table."""
    return text.splitlines()[0].replace("{name}", program.NAME).replace("{title}", program.TITLE)


def _top() -> list[tuple[str, str]]:
    plain = [(pattern, _told(summary)) for paths, _, summary, *_ in COMMANDS for pattern in paths if " " not in pattern]
    return sorted([*plain, *((name, _told(told)) for name, told in GROUPS.items()), ("help", "Help about any command")])


def _group(group: str) -> list[tuple[str, str]]:
    return sorted(
        (spellings(pattern)[0].removeprefix(f"{group} "), _told(summary))
        for paths, _, summary, *_ in COMMANDS
        for pattern in paths
        if pattern.startswith(f"{group} ")
    )


def names_of(kind: str, host: str) -> list[str]:
    """Names of the engine's objects of a kind; none where it cannot be asked."""
    from wherry.cli.endpoint import resolve
    from wherry.cli.flags import Flags
    from wherry.cli.table import GLOBAL_FLAGS
    from wherry.client.engine import Engine

    try:
        root = Flags(GLOBAL_FLAGS)
        if host:
            root.set("host", host)
        endpoint = resolve(root)
        engine = Engine(endpoint.host, endpoint.tls)
        if kind == "container":
            found = engine.get("/containers/json", {"all": True}) or []
            return sorted(name.removeprefix("/") for item in found for name in item["Names"])
        if kind == "image":
            found = engine.get("/images/json") or []
            return sorted(name for item in found for name in item.get("RepoTags") or ())
        if kind == "network":
            return sorted(item["Name"] for item in engine.get("/networks") or [])
        return sorted(item["Name"] for item in (engine.get("/volumes") or {}).get("Volumes") or [])
    except Exception:  # whatever it is, a completion is no place to tell of it
        return []
