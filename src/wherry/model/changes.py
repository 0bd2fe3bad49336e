"""`--change` of import and commit: Dockerfile instructions applied to a configuration.

What an instruction does is said in `wherry.model.dockerfile.settings`, as for builds; here is only which ones may be
given, and where the classic builder, which Docker has for this, does otherwise.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator

import msgspec

from wherry.errors import InvalidParameter
from wherry.model.build_graph import SCRATCH
from wherry.model.config import Config
from wherry.model.dockerfile import settings
from wherry.model.dockerfile.checks import Checks
from wherry.model.dockerfile.expansion import Lexer
from wherry.model.dockerfile.instructions import Cmd, Entrypoint, From, Instruction, Origin, Workdir, expanded, read
from wherry.model.dockerfile.options import PlanOptions
from wherry.model.dockerfile.source import NOWHERE
from wherry.model.dockerfile.stages import Stage
from wherry.model.dockerfile.state import Scope, State
from wherry.model.dockerfile.syntax import parse
from wherry.model.platforms import Platform

_ALLOWED = frozenset("cmd entrypoint env expose healthcheck label onbuild stopsignal user volume workdir".split())
_ANY = Platform("linux", "")


def apply_changes(config: Config, changes: Iterable[str]) -> Config:
    """The configuration after the instructions, in order. Raises InvalidParameter."""
    scope = Scope(PlanOptions(_ANY), Lexer(), {}, Checks(), SCRATCH)
    for change in changes:
        for instruction in _instructions(change):
            config = _applied(scope, config, instruction)
    return config


def _applied(scope: Scope, config: Config, instruction: Instruction) -> Config:
    state = _state(config)

    def expand(text: str) -> str:
        return scope.lexer.word(text, state.variables)

    words = expanded(instruction, expand, expand)
    settings.APPLIED[type(words)](scope, state, words)
    if isinstance(words, Cmd | Entrypoint):
        _as_classic(state, words, config.args_escaped)
    if isinstance(words, Workdir):
        state.config["WorkingDir"] = posixpath.normpath(state.cwd)  # which BuildKit alone leaves as it is written
    return msgspec.convert(state.config, Config)


def _instructions(change: str) -> Iterator[Instruction]:
    for node in parse(change.encode("utf-8", "surrogateescape")).nodes:
        if node.keyword not in _ALLOWED:
            raise InvalidParameter(f"{node.name.upper()} is not a valid change command")
        yield read(node)


def _state(config: Config) -> State:
    fields = {name: value for name, value in msgspec.to_builtins(config).items() if value is not None}
    state = State(Stage(From(Origin(), "")), "", _ANY, document={"config": fields})
    for entry in fields.get("Env", ()):
        name, _, value = entry.partition("=")
        state.set_variable(name, value)
    state.set_once["CMD"] = NOWHERE  # an entrypoint leaves the command
    return state


def _as_classic(state: State, instruction: Cmd | Entrypoint, args_escaped: bool) -> None:
    """No mark of the form, no empty script for the shell, no entrypoint of nothing."""
    name = "Cmd" if isinstance(instruction, Cmd) else "Entrypoint"
    if instruction.command.shell and not instruction.command.args:
        state.config[name] = state.config[name][:-1]
    if name == "Entrypoint" and not state.config[name]:
        del state.config[name]
    state.config["ArgsEscaped"] = args_escaped
