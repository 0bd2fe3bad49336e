"""`--change` of import (and commit): Dockerfile instructions applied to a configuration.

The grammar is the Dockerfile's (Dockerfile reference, "Parser directives" aside); the messages are Docker's.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from wherry.errors import InvalidParameter
from wherry.model.config import Config, Healthcheck
from wherry.model.signals import parse as parse_signal
from wherry.model.timestamps import duration_ns

_SHELL = ["/bin/sh", "-c"]


def apply_changes(config: Config, changes: Iterable[str]) -> Config:
    """The configuration after the instructions, in order. Raises InvalidParameter."""
    for change in changes:
        for instruction, rest in _instructions(change):
            apply = _INSTRUCTIONS.get(instruction)
            if apply is None:
                raise InvalidParameter(f"{instruction} is not a valid change command")
            config = apply(config, rest)
    return config


def _instructions(text: str) -> list[tuple[str, str]]:
    """Instruction and rest of each line; comments dropped, lines that end in a backslash joined."""
    found = []
    lines = iter(text.splitlines())
    for raw in lines:
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        while line.endswith("\\"):
            line = line[:-1] + next(lines, "").strip()
        instruction, _, rest = re.sub(r"\s", " ", line, count=1).partition(" ")
        found.append((instruction.upper(), rest.strip()))
    if not found:
        raise InvalidParameter("file with no instructions")
    return found


def _cmd(config: Config, rest: str) -> Config:
    return replace(config, cmd=_command(rest))


def _entrypoint(config: Config, rest: str) -> Config:
    return replace(config, entrypoint=_command(rest) or None)


def _command(rest: str) -> list[str]:
    """A JSON list is the arguments themselves; all else is for the shell."""
    listed = _json_list(rest)
    if listed is not None:
        return listed
    return [*_SHELL, rest] if rest else list(_SHELL)


def _json_list(rest: str) -> list[str] | None:
    if not rest.startswith("["):
        return None
    try:
        value = json.loads(rest)
    except ValueError:
        return None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def _env(config: Config, rest: str) -> Config:
    given = _environment(config)
    result = list(config.env or [])
    for name, value in _pairs("ENV", rest):
        name, value = expand(name, given), expand(value, given)
        if not name:
            raise InvalidParameter("ENV names can not be blank")
        result = [entry for entry in result if entry.partition("=")[0] != name or "=" not in entry]
        result.append(f"{name}={value}")
    # Docker keeps the place of a variable that is set again
    order = {entry.partition("=")[0]: index for index, entry in enumerate(config.env or [])}
    result.sort(key=lambda entry: order.get(entry.partition("=")[0], len(order)))
    return replace(config, env=result)


def _label(config: Config, rest: str) -> Config:
    given = _environment(config)
    labels = dict(config.labels or {})
    for name, value in _pairs("LABEL", rest):
        name = expand(name, given)
        if not name:
            raise InvalidParameter("LABEL names can not be blank")
        labels[name] = expand(value, given)
    return replace(config, labels=labels)


def _expose(config: Config, rest: str) -> Config:
    given = _environment(config)
    ports = dict(config.exposed_ports or {})
    words = [expand(word, given) for word in rest.split()]
    if not words:
        raise InvalidParameter("EXPOSE requires at least one argument")
    for word in sorted(words):
        for port in _ports(word):
            ports[port] = {}
    return replace(config, exposed_ports=ports)


def _ports(word: str) -> list[str]:
    ports, slash, protocol = word.partition("/")
    protocol = protocol.lower() if slash and protocol else "tcp"
    ports = ports.rpartition(":")[2]  # a host part means nothing to an image
    if not ports:
        raise InvalidParameter(f"No port specified: {word}<empty>")
    if protocol not in ("tcp", "udp", "sctp"):
        raise InvalidParameter(f"Invalid proto: {protocol}")
    match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", ports, re.ASCII)
    if match is None:
        raise InvalidParameter(f"Invalid containerPort: {ports}")
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first or last > 65535:
        raise InvalidParameter(f"Invalid containerPort: {ports}")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _user(config: Config, rest: str) -> Config:
    if not rest:
        raise InvalidParameter("USER requires exactly one argument")
    return replace(config, user=expand(rest, _environment(config)))


def _workdir(config: Config, rest: str) -> Config:
    if not rest:
        raise InvalidParameter("WORKDIR requires exactly one argument")
    path = expand(rest, _environment(config))
    return replace(config, working_dir=posixpath.normpath(posixpath.join("/", config.working_dir, path)))


def _volume(config: Config, rest: str) -> Config:
    listed = _json_list(rest)
    words = listed if listed is not None else rest.split()
    if not words:
        raise InvalidParameter("VOLUME requires at least one argument")
    given = _environment(config)
    volumes = dict(config.volumes or {})
    for word in words:
        path = expand(word, given).strip()
        if not path:
            raise InvalidParameter("VOLUME specified can not be an empty string")
        volumes[path] = {}
    return replace(config, volumes=volumes)


def _stopsignal(config: Config, rest: str) -> Config:
    if not rest:
        raise InvalidParameter("STOPSIGNAL requires exactly one argument")
    name = expand(rest, _environment(config))
    parse_signal(name)
    return replace(config, stop_signal=name)


def _onbuild(config: Config, rest: str) -> Config:
    if not rest:
        raise InvalidParameter("ONBUILD requires at least one argument")
    trigger = rest.split()[0].upper()
    if trigger == "ONBUILD":
        raise InvalidParameter("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise InvalidParameter(f"{trigger} isn't allowed as an ONBUILD trigger")
    return replace(config, on_build=[*(config.on_build or []), rest])


_HEALTH_FLAGS = ("interval", "timeout", "start-period", "start-interval")
_MILLISECOND = 1_000_000


def _healthcheck(config: Config, rest: str) -> Config:
    flags: dict[str, str] = {}
    while match := re.match(r"--([a-z-]+)(?:=(\S*))?\s*", rest):
        if match[1] not in (*_HEALTH_FLAGS, "retries"):
            raise InvalidParameter(f"unknown flag: --{match[1]}")
        flags[match[1]] = match[2] or ""
        rest = rest[match.end() :]
    if not rest:
        raise InvalidParameter("HEALTHCHECK requires at least one argument")
    kind, _, command = rest.partition(" ")
    command = command.strip()
    if kind.upper() == "NONE":
        if command:
            raise InvalidParameter("HEALTHCHECK NONE takes no arguments")
        return replace(config, healthcheck=Healthcheck(test=["NONE"]))
    if kind.upper() != "CMD":
        raise InvalidParameter(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)')
    if not command:
        raise InvalidParameter("Missing command after HEALTHCHECK CMD")
    listed = _json_list(command)
    test = ["CMD", *listed] if listed is not None else ["CMD-SHELL", command]
    times = [_health_time(flag, flags.get(flag, "")) for flag in _HEALTH_FLAGS]
    retries = flags.get("retries", "")
    if retries and not re.fullmatch(r"-?\d+", retries, re.ASCII):
        raise InvalidParameter(f'strconv.ParseInt: parsing "{retries}": invalid syntax')
    if retries and int(retries) < 0:
        raise InvalidParameter(f"--retries cannot be negative ({retries})")
    check = Healthcheck(
        test=test,
        interval=times[0],
        timeout=times[1],
        start_period=times[2],
        start_interval=times[3],
        retries=int(retries or 0),
    )
    return replace(config, healthcheck=check)


def _health_time(flag: str, text: str) -> int:
    if not text:
        return 0
    value = duration_ns(text)
    if value is None:
        if re.fullmatch(r"[+-]?[\d.]+", text):
            raise InvalidParameter(f'time: missing unit in duration "{text}"')
        raise InvalidParameter(f'time: invalid duration "{text}"')
    if value and value < _MILLISECOND:
        raise InvalidParameter(f'Interval "{flag}" cannot be less than 1ms')
    return value


_INSTRUCTIONS: dict[str, Callable[[Config, str], Config]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


def _pairs(instruction: str, rest: str) -> list[tuple[str, str]]:
    """`name=value ...` with quotes and escapes left in, or the old form `name the rest`."""
    words = _words(rest)
    if not words:
        raise InvalidParameter(f"{instruction} requires at least one argument")
    if "=" not in words[0]:
        name, _, value = rest.partition(" ")
        if not value.strip():
            raise InvalidParameter(f"{instruction} must have two arguments")
        return [(name, value.strip())]
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise InvalidParameter(
                f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value',
            )
        pairs.append((name, value))
    return pairs


def _words(text: str) -> list[str]:
    """Split at blanks outside quotes, quotes and escapes kept."""
    words: list[str] = []
    current = ""
    quote = ""
    characters = iter(text)
    for character in characters:
        if character == "\\" and quote != "'":
            current += character + next(characters, "")
        elif quote:
            current += character
            if character == quote:
                quote = ""
        elif character.isspace():
            if current:
                words.append(current)
            current = ""
        else:
            current += character
            if character in "'\"":
                quote = character
    if current:
        words.append(current)
    return words


def _environment(config: Config) -> dict[str, str]:
    return {name: value for name, _, value in (entry.partition("=") for entry in config.env or [])}


def expand(word: str, given: dict[str, str]) -> str:
    """Quotes removed, escapes resolved, `$name`, `${name}`, `${name:-default}`, `${name:+instead}` replaced.

    Raises InvalidParameter.
    """
    text, rest = _expand(word, given, stop="")
    assert not rest
    return text


def _expand(word: str, given: dict[str, str], stop: str) -> tuple[str, str]:
    """Up to an unquoted `stop` character; what follows it is returned too."""
    result = ""
    position = 0
    whole = word
    while position < len(word):
        character = word[position]
        if stop and character == stop:
            return result, word[position + 1 :]
        if character == "'":
            end = word.find("'", position + 1)
            if end < 0:
                raise _unmatched(whole, "single-quote")
            result += word[position + 1 : end]
            position = end + 1
        elif character == '"':
            position += 1
            while position < len(word) and word[position] != '"':
                if word[position] == "\\" and word[position + 1 : position + 2] in ('"', "$", "\\"):
                    result += word[position + 1]
                    position += 2
                elif word[position] == "$":
                    value, word = _variable(word[position + 1 :], given, whole)
                    result += value
                    position = 0
                else:
                    result += word[position]
                    position += 1
            if position >= len(word):
                raise _unmatched(whole, "double-quote")
            position += 1
        elif character == "\\":
            result += word[position + 1 : position + 2]
            position += 2
        elif character == "$":
            value, word = _variable(word[position + 1 :], given, whole)
            result += value
            position = 0
        else:
            result += character
            position += 1
    if stop:
        raise InvalidParameter(f"failed to process \"{whole}\": syntax error: missing '}}'")
    return result, ""


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#!?$-]")


def _variable(text: str, given: dict[str, str], whole: str) -> tuple[str, str]:
    """The value of what follows a `$`, and what follows that."""
    if not text.startswith("{"):
        match = _NAME.match(text)
        return (given.get(match[0], ""), text[match.end() :]) if match else ("$", text)
    match = _NAME.match(text, 1)
    if match is None:
        raise InvalidParameter(f'failed to process "{whole}": syntax error: bad substitution')
    value = given.get(match[0], "")
    rest = text[match.end() :]
    if rest.startswith("}"):
        return value, rest[1:]
    colon = rest.startswith(":")
    operator, rest = rest[colon : colon + 1], rest[colon + 1 :]
    if not operator:
        raise InvalidParameter(f"failed to process \"{whole}\": syntax error: missing '}}'")
    word, rest = _expand(rest, given, stop="}")
    missing = not value if colon else match[0] not in given
    if operator == "-":
        return (word if missing else value), rest
    if operator == "+":
        return ("" if missing else word), rest
    if operator == "?":
        if missing:
            raise InvalidParameter(f'failed to process "{whole}": {match[0]}: {word or "not allowed to be unset"}')
        return value, rest
    raise InvalidParameter(f'failed to process "{whole}": unsupported modifier ({operator}) in substitution')


def _unmatched(word: str, kind: str) -> InvalidParameter:
    return InvalidParameter(
        f'failed to process "{_escaped(word)}": unexpected end of statement while looking for matching {kind}'
    )


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace('"', '\\"')
