"""Instructions that change only what the image says: ENV, LABEL, USER, CMD, EXPOSE and the like."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import Any

from wherry.errors import InvalidParameter
from wherry.model.build_graph import File, MakeDir, Owner, Vertex
from wherry.model.dockerfile import checks, scans
from wherry.model.dockerfile.instructions import (
    Arg,
    ArgDefinition,
    Cmd,
    Entrypoint,
    Env,
    Expose,
    Health,
    Healthcheck,
    Label,
    Maintainer,
    OnBuild,
    Origin,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from wherry.model.dockerfile.running import shell_args
from wherry.model.dockerfile.source import DockerfileError, nearest
from wherry.model.dockerfile.state import Scope, State, display
from wherry.model.durations import format_duration
from wherry.model.gotext import quote
from wherry.model.ports import parse_range
from wherry.model.signals import parse as parse_signal

_PORTS = re.compile(r"[0-9]+(-[0-9]+)?")
NOT_IN_ENVIRONMENT = frozenset({scans.CONTEXT, scans.STAGE})
"""Arguments that are for the builder alone."""


def env(scope: Scope, state: State, instruction: Env) -> None:
    for pair in instruction.pairs:
        _check_legacy(scope, instruction.origin, pair.legacy)
        checks.check_secret_name(scope.checks, "ENV", pair.key, instruction.origin.lines)
        state.set_env(pair.key, pair.value)
    state.commit("ENV " + " ".join(f"{pair.key}={pair.value}" for pair in instruction.pairs))


def label(scope: Scope, state: State, instruction: Label) -> None:
    labels = state.config.setdefault("Labels", {})
    for pair in instruction.pairs:
        _check_legacy(scope, instruction.origin, pair.legacy)
        labels[pair.key] = pair.value
    state.commit("LABEL " + " ".join(f"{pair.key}={pair.value}" for pair in instruction.pairs))


def _check_legacy(scope: Scope, origin: Origin, legacy: bool) -> None:
    if legacy:
        message = f'"{origin.name} key=value" should be used instead of legacy "{origin.name} key value" format'
        scope.checks.report(checks.LEGACY_KEY_VALUE, origin.lines, message)


def arg(scope: Scope, state: State, instruction: Arg) -> None:
    """A value comes from the build's arguments, else the default, else what is known before the first FROM."""
    written = []
    lines = instruction.origin.lines
    for definition in instruction.definitions:
        key = scope.lexer.word(definition.key, state.variables)
        checks.check_secret_name(scope.checks, "ARG", key, lines)
        default = None
        if definition.value is not None:
            expansion = scope.lexer.expand(definition.value, state.variables)
            report_undefined(scope, state, instruction.origin, expansion.unmatched)
            default = expansion.text
        value = scope.options.build_args.get(key, default)
        if value is None:
            value = scope.global_args.get(key)
        if value is not None and key not in NOT_IN_ENVIRONMENT:
            state.set_variable(key, value)
        state.arguments = (*state.arguments, ArgDefinition(key, value))
        written.append(key if default is None else f"{key}={default}")  # not what was given: that may be secret
    state.commit("ARG " + " ".join(written))


def report_undefined(scope: Scope, state: State, origin: Origin, unmatched: set[str]) -> None:
    """Variables that nothing has defined, with one that may have been meant."""
    for name in sorted(unmatched - {definition.key for definition in state.arguments} - NOT_IN_ENVIRONMENT):
        message = f"Usage of undefined variable '${name}'"
        similar = nearest(name, state.variables)
        if similar:
            message += f" (did you mean ${similar}?)"
        scope.checks.report(checks.UNDEFINED_VAR, origin.lines, message)


def cmd(scope: Scope, state: State, instruction: Cmd) -> None:
    _once(scope, state, instruction.origin)
    _check_json(scope, state, instruction.origin, instruction.command.shell)
    args = list(shell_args(state, instruction.command))
    state.config["Cmd"] = args
    state.config["ArgsEscaped"] = True
    state.commit(f"CMD {_quoted(args)}")


def entrypoint(scope: Scope, state: State, instruction: Entrypoint) -> None:
    _once(scope, state, instruction.origin)
    _check_json(scope, state, instruction.origin, instruction.command.shell)
    args = list(shell_args(state, instruction.command))
    state.config["Entrypoint"] = args
    if "CMD" not in state.set_once:
        state.config.pop("Cmd", None)
    state.commit(f"ENTRYPOINT {_quoted(args)}")


def _once(scope: Scope, state: State, origin: Origin) -> None:
    """Only the last of its kind counts: an earlier one is probably a mistake."""
    name = origin.name.upper()
    if name in state.set_once:
        message = (
            f"Multiple {origin.name} instructions should not be used in the same stage "
            "because only the last one will be used"
        )
        scope.checks.report(checks.MULTIPLE_INSTRUCTIONS, state.set_once[name], message)
    state.set_once[name] = origin.lines


def _check_json(scope: Scope, state: State, origin: Origin, shell: bool) -> None:
    if shell and not state.config.get("Shell"):
        message = f"JSON arguments recommended for {origin.name} to prevent unintended behavior related to OS signals"
        scope.checks.report(checks.JSON_ARGS, origin.lines, message)


def _quoted(words: list[str]) -> str:
    """A list as Go's `%q` writes it."""
    return f"[{' '.join(map(quote, words))}]"


def healthcheck(scope: Scope, state: State, instruction: Healthcheck) -> None:
    _once(scope, state, instruction.origin)
    health = instruction.health
    fields = {
        "Test": list(health.test),
        "Interval": health.interval,
        "Timeout": health.timeout,
        "StartPeriod": health.start_period,
        "StartInterval": health.start_interval,
        "Retries": health.retries,
    }
    state.config["Healthcheck"] = {name: value for name, value in fields.items() if value}
    state.commit(f"HEALTHCHECK {_health_text(health)}")


def _health_text(health: Health) -> str:
    """As BuildKit writes it into the history: Go's `%q` of the structure, in which a count is a character."""
    times = (health.interval, health.timeout, health.start_period, health.start_interval)
    durations = " ".join(quote(format_duration(time)) for time in times)
    retries = quote(chr(health.retries if health.retries <= 0x10FFFF else 0xFFFD), "'")
    return f"&{{{_quoted(list(health.test))} {durations} {retries}}}"


def expose(scope: Scope, state: State, instruction: Expose) -> None:
    words: list[str] = []
    for written in instruction.ports:
        expansion = scope.lexer.expand(written, state.variables)
        report_undefined(scope, state, instruction.origin, expansion.unmatched)
        words += expansion.words
    ports: dict[str, dict[str, str]] = {}
    for word in words:
        for port in _ports(scope, instruction.origin, word):
            ports[port] = {}
    if ports:
        state.config.setdefault("ExposedPorts", {}).update(ports)
    state.commit(f"EXPOSE map[{' '.join(f'{port}:{{}}' for port in sorted(ports))}]")


def _ports(scope: Scope, origin: Origin, word: str) -> list[str]:
    """`[[ip:]host:]port[-port][/protocol]`; what is before the last colon is checked and has no effect."""
    host, colon, rest = word.rpartition(":")
    text, _, protocol = rest.partition("/")
    if not text:
        raise DockerfileError(f"No port specified: {word}<empty>")
    if colon:
        message = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
        scope.checks.report(checks.EXPOSE_INVALID_FORMAT, origin.lines, message)
        _range(host.rpartition(":")[2], "hostPort")
    if protocol != protocol.lower():
        message = f"Defined protocol '{rest}' in EXPOSE instruction should be lowercase"
        scope.checks.report(checks.EXPOSE_PROTO_CASING, origin.lines, message)
    protocol = protocol.lower() or "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        raise DockerfileError(f"Invalid proto: {protocol}")
    first, last = _range(text, "containerPort")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _range(text: str, what: str) -> tuple[int, int]:
    if not text and what == "hostPort":
        return 0, 0
    try:
        if not _PORTS.fullmatch(text):
            raise InvalidParameter(text)
        return parse_range(text)
    except (InvalidParameter, ValueError):
        raise DockerfileError(f"Invalid {what}: {text}") from None


def user(scope: Scope, state: State, instruction: User) -> None:
    state.config["User"] = instruction.user
    state.commit(f"USER {instruction.user}")


def workdir(scope: Scope, state: State, instruction: Workdir) -> None:
    if not state.workdir_set and not instruction.path.startswith("/"):
        message = f"Relative workdir {quote(instruction.path)} can have unexpected results if the base image changes"
        scope.checks.report(checks.WORKDIR_RELATIVE, instruction.origin.lines, message)
    state.workdir_set = True
    path = normalized_workdir(state.cwd, instruction.path)
    state.config["WorkingDir"] = path
    vertex = None
    name = state.titled(display(scope, state, instruction.origin.code))
    if path.strip("/"):
        user_name, _, group = state.user.partition(":")
        epoch = scope.options.epoch
        action = MakeDir(
            posixpath.normpath(path),
            0o755,
            parents=True,
            owner=Owner(user_name, group) if user_name else None,
            time_ns=None if epoch is None else epoch * 1_000_000_000,
        )
        vertex = Vertex(File((action,)), (state.vertex,), name=name)
    state.commit(f"WORKDIR {path}", vertex)


def normalized_workdir(current: str, path: str) -> str:
    """An absolute path as it is written; one relative to the current one joined to it and clean."""
    if path.startswith("/"):
        return path
    return "/" + posixpath.normpath(posixpath.join("/", current, path)).lstrip("/")


def volume(scope: Scope, state: State, instruction: Volume) -> None:
    volumes = state.config.setdefault("Volumes", {})
    for path in instruction.paths:
        if not path:
            raise DockerfileError("VOLUME specified can not be an empty string")
        volumes[path] = {}
    state.commit(f"VOLUME [{' '.join(instruction.paths)}]")


def stop_signal(scope: Scope, state: State, instruction: StopSignal) -> None:
    try:
        parse_signal(instruction.signal)
    except InvalidParameter as error:
        raise DockerfileError(str(error)) from None
    state.config["StopSignal"] = instruction.signal
    state.commit(f"STOPSIGNAL {instruction.signal}")


def shell(scope: Scope, state: State, instruction: Shell) -> None:
    state.config["Shell"] = list(instruction.words)
    state.commit(f"SHELL [{' '.join(instruction.words)}]")


def maintainer(scope: Scope, state: State, instruction: Maintainer) -> None:
    state.document["author"] = instruction.name
    state.commit(f"MAINTAINER {instruction.name}")


def on_build(scope: Scope, state: State, instruction: OnBuild) -> None:
    """Kept for images made from this one; the history does not tell it."""
    state.config.setdefault("OnBuild", []).append(instruction.expression)


APPLIED: dict[type, Callable[[Scope, State, Any], None]] = {
    Arg: arg,
    Cmd: cmd,
    Entrypoint: entrypoint,
    Env: env,
    Expose: expose,
    Healthcheck: healthcheck,
    Label: label,
    Maintainer: maintainer,
    OnBuild: on_build,
    Shell: shell,
    StopSignal: stop_signal,
    User: user,
    Volume: volume,
    Workdir: workdir,
}
"""Type of instruction -> what carries it out."""
