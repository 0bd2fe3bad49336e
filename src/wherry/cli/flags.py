"""Command lines by the rules of pflag, the library behind docker's: what is a flag, its value, an argument.

`--flag=value`, `--flag value`, `-abc`, `-fvalue`, `-f=value`, `--bool=false`; `--` ends the flags; flags and arguments
mix unless the command says otherwise. The error texts are pflag's and Go strconv's.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.table import Flag

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


class FlagError(Exception):
    """The command line is not one. `str()` is the whole message."""


class HelpAsked(Exception):
    """`--help`, or `-h` where it means help."""

    def __init__(self, shorthand: bool = False) -> None:
        self.shorthand = shorthand


class Flags:
    """The values of a command's flags: what was given, else the default of the kind."""

    def __init__(self, flags: tuple[Flag, ...]) -> None:
        self._kinds = {name: kind for name, _, kind, _ in flags}
        self._values: dict[str, Any] = {}

    def changed(self, name: str) -> bool:
        return name in self._values

    def on(self, name: str, default: bool = False) -> bool:
        return bool(self._values.get(name, default))

    def text(self, name: str, default: str = "") -> str:
        return str(self._values.get(name, default))

    def number(self, name: str, default: int = 0) -> int:
        return int(self._values.get(name, default))

    def items(self, name: str) -> list[Any]:
        return list(self._values.get(name, ()))

    def pairs(self, name: str) -> dict[str, Any]:
        return dict(self._values.get(name, {}))

    def given(self) -> dict[str, Any]:
        return dict(self._values)

    def set(self, name: str, text: str) -> None:
        """Take one value. Raises ValueError with the reason it is not one."""
        kind = self._kinds[name]
        shown = kind.split("/")[0]
        if kind == "bool":
            self._values[name] = parse_bool(text)
        elif shown == "string":
            self._values[name] = text
        elif kind == "int":
            self._values[name] = parse_int(text)
        elif kind == "list":
            self._values.setdefault(name, []).append(text)
        else:
            from wherry.cli import values

            values.accept(kind, shown, self._values, name, text)


def quoted(text: str) -> str:
    """Go's %q for the texts that appear in messages."""
    from wherry.model.gotext import quote

    return quote(text)


def parse_bool(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"strconv.ParseBool: parsing {quoted(text)}: invalid syntax")


def parse_int(text: str, bits: int = 64, *, signed: bool = True) -> int:
    """strconv.ParseInt (or ParseUint) with base 0: decimal, 0x, 0o, 0b, a leading 0 for octal, underscores."""
    function = "ParseInt" if signed else "ParseUint"
    digits = text[1:] if signed and text[:1] in ("+", "-") else text
    try:
        if not digits[:1].isdigit() or not digits.isascii() or digits != digits.strip():
            raise ValueError
        octal = len(digits) > 1 and digits[0] == "0" and digits[1] in "01234567_"
        value = int(digits.replace("_", "", 1) if octal else digits, 8 if octal else 0)
    except ValueError:
        raise ValueError(f"strconv.{function}: parsing {quoted(text)}: invalid syntax") from None
    value = -value if text[:1] == "-" else value
    least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if not least <= value <= most:
        raise ValueError(f"strconv.{function}: parsing {quoted(text)}: value out of range")
    return value


# Former spellings: some are the same flag without a word, some are announced as deprecated.
_RENAMED = {"net": "network", "net-alias": "network-alias", "dns-opt": "dns-option"}
_DEPRECATED = {"time": "timeout"}


def parse(
    flags: tuple[Flag, ...], words: list[str], *, mixed: bool = True, warnings: list[str] | None = None
) -> tuple[Flags, list[str]]:
    """The flags' values and the arguments in `words`. `mixed` lets flags follow arguments.

    Raises FlagError and HelpAsked. Deprecation notes are added to `warnings`.
    """
    found = Flags(flags)
    kinds = {name: (shorthand, kind) for name, shorthand, kind, _ in flags}
    by_letter = {shorthand: name for name, shorthand, _, _ in flags if shorthand}
    arguments: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word[:1] != "-" or word == "-":
            if not mixed:
                return found, [word, *words[position:]]
            arguments.append(word)
        elif word == "--":
            return found, arguments + words[position:]
        elif word[:2] == "--":
            name, equals, value = word[2:].partition("=")
            if not name or name[0] in "-=":
                raise FlagError(f"bad flag syntax: {word}")
            name = name if name in kinds else _renamed(name, kinds, warnings)
            if name not in kinds:
                if name != "help":
                    from wherry.cli.suggesting import did_you_mean

                    raise FlagError(f"unknown flag: --{name}{did_you_mean(name, kinds, '--')}")
                _assign_help(value if equals else "true")
                continue
            if not equals:
                if kinds[name][1] == "bool":
                    value = "true"
                elif kinds[name][1] == "string/optional":
                    value = ""
                elif position < len(words):
                    value = words[position]
                    position += 1
                else:
                    raise FlagError(f"flag needs an argument: {word}")
            _assign(found, name, kinds[name][0], value)
        else:
            position = _cluster(found, kinds, by_letter, word[1:], words, position)
    return found, arguments


def _renamed(name: str, kinds: dict[str, tuple[str, str]], warnings: list[str] | None) -> str:
    if _RENAMED.get(name) in kinds:
        return _RENAMED[name]
    if _DEPRECATED.get(name) in kinds:
        if warnings is not None:
            warnings.append(f"Flag --{name} has been deprecated, use --{_DEPRECATED[name]} instead")
        return _DEPRECATED[name]
    return name


def _assign_help(text: str) -> None:
    try:
        asked = parse_bool(text)
    except ValueError as error:
        raise FlagError(f'invalid argument {quoted(text)} for "--help" flag: {error}') from None
    if asked:
        raise HelpAsked


def _assign(found: Flags, name: str, shorthand: str, text: str) -> None:
    try:
        found.set(name, text)
    except ValueError as error:
        spelled = f"-{shorthand}, --{name}" if shorthand else f"--{name}"
        raise FlagError(f'invalid argument {quoted(text)} for "{spelled}" flag: {error}') from None


def _cluster(
    found: Flags,
    kinds: dict[str, tuple[str, str]],
    by_letter: dict[str, str],
    letters: str,
    words: list[str],
    position: int,
) -> int:
    """One word of shorthands, `-itp 80`; the position of the next word."""
    rest = letters
    while rest:
        letter, rest = rest[0], rest[1:]
        name = by_letter.get(letter, "")
        if not name:
            if letter == "h":
                raise HelpAsked(shorthand=True)
            raise FlagError(f"unknown shorthand flag: {letter!r} in -{letter}{rest}")
        kind = kinds[name][1]
        if len(rest) > 1 and rest[0] == "=":
            value, rest = rest[1:], ""
        elif kind == "bool":
            value = "true"
        elif rest:
            value, rest = rest, ""
        elif position < len(words):
            value = words[position]
            position += 1
        else:
            raise FlagError(f"flag needs an argument: {letter!r} in -{letter}")
        _assign(found, name, letter, value)
    return position
