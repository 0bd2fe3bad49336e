"""A stage while its instructions are carried out: the tree it has made so far and what its image would say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from wherry.model.build_graph import SCRATCH, HistoryStep, Step, Vertex
from wherry.model.dockerfile.checks import Checks
from wherry.model.dockerfile.expansion import Lexer, shown
from wherry.model.dockerfile.instructions import ArgDefinition, CopyFiles, Instruction, OnBuild, Run, Workdir
from wherry.model.dockerfile.options import PlanOptions
from wherry.model.dockerfile.source import Lines
from wherry.model.dockerfile.stages import Stage
from wherry.model.platforms import Platform

COMMENT = "buildkit.dockerfile.v0"


class Source(Struct):
    """Where a COPY or a mount takes files from: another stage, an image or a named context; or the build context."""

    vertex: Vertex
    is_context: bool = False
    local: str = ""  # the name of the local source, if it is one


_ASKS = ("TARGETPLATFORM", "TARGETOS", "TARGETARCH")


class State(Struct):
    """Of one stage. `variables` are what `$x` means and what RUN's processes get: ENV and ARG alike.

    `arguments` are the ARGs of this stage and those it comes from, in their order, for RUN's entry in the history.
    `anew`: no earlier result may serve. `target` is the platform of what comes out, where steps are named with it.
    `total` counts the steps people see, `counted` those that have been named.
    """

    stage: Stage
    name: str
    platform: Platform
    vertex: Vertex = SCRATCH
    base: Vertex | None = None
    document: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    arguments: tuple[ArgDefinition, ...] = ()
    history: list[HistoryStep] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    anew: bool = False
    total: int = 0
    target: Platform | None = None
    counted: int = 0
    triggered: bool = False
    workdir_set: bool = False
    set_once: dict[str, Lines] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.document["config"]
        return config

    @property
    def cwd(self) -> str:
        return self.config.get("WorkingDir") or "/"

    @property
    def user(self) -> str:
        return self.config.get("User") or ""

    def set_variable(self, name: str, value: str) -> None:
        """A variable set again comes last."""
        self.variables.pop(name, None)
        self.variables[name] = value

    def set_env(self, name: str, value: str) -> None:
        """In the image too, where it keeps its place."""
        self.set_variable(name, value)
        entries: list[str] = self.config.setdefault("Env", [])
        for index, entry in enumerate(entries):
            if entry.partition("=")[0] == name:
                entries[index] = f"{name}={value}"
                return
        entries.append(f"{name}={value}")

    def commit(self, created_by: str, vertex: Vertex | None = None) -> None:
        """An entry of the history; with a vertex, the tree goes on from there."""
        if vertex is not None:
            self.vertex = vertex
        self.history.append(HistoryStep(created_by, vertex, COMMENT))

    def titled(self, text: str) -> str:
        """A step's name with its place: "[build 2/4] RUN make"."""
        if not self.total:
            return text
        self.counted += 1
        width = 1 + int(math.log10(self.total))
        place = f"{self.counted:>{width}}/{self.total}"
        stage = f"{self.name} " if self.name else ""
        return f"[{self._platforms()}{stage}{place}] {'ONBUILD ' if self.triggered else ''}{text}"

    def _platforms(self) -> str:
        """Where the step runs, and what it makes something for if it asks that: "linux/amd64->arm64 "."""
        if self.target is None:
            return ""
        there = ""
        if self.target != self.platform.normal() and any(name in self.variables for name in _ASKS):
            same = self.target.os == self.platform.os
            there = "->" + str(self.target).removeprefix(f"{self.target.os}/" if same else "")
        return f"{self.platform}{there} "


class Scope(Struct):
    """What all stages share while they are carried out.

    `paths` collects which paths of which local source are needed.
    """

    options: PlanOptions
    lexer: Lexer
    global_args: Mapping[str, str]
    checks: Checks
    context: Vertex
    paths: dict[str, set[str]] = field(default_factory=dict)

    def needs(self, source: str, path: str) -> None:
        """`path` of the local source of that name is needed."""
        self.paths.setdefault(source, set()).add(path)


def counted_steps(instructions: Sequence[Instruction]) -> int:
    """How many of them people see as steps."""
    return sum(isinstance(item, Run | CopyFiles | Workdir) for item in instructions if not isinstance(item, OnBuild))


def display(scope: Scope, state: State, code: str, masked: frozenset[str] = frozenset()) -> str:
    """An instruction's text for people: known variables replaced, its name in capitals."""
    variables = {name: value for name, value in state.variables.items() if name not in masked}
    name, blank, rest = shown(scope.lexer, code, variables).partition(" ")
    return name.upper() + blank + rest
