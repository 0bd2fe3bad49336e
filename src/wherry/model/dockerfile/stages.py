"""Instructions put into stages: what comes before the first FROM, and each FROM with what follows it."""

from __future__ import annotations

from msgspec import Struct, field

from wherry.model.dockerfile import checks
from wherry.model.dockerfile.checks import Checks
from wherry.model.dockerfile.instructions import Arg, From, Instruction, Maintainer, parse
from wherry.model.dockerfile.source import DockerfileError
from wherry.model.dockerfile.syntax import Document


class Stage(Struct, frozen=True):
    source: From
    instructions: tuple[Instruction, ...] = ()


class Stages(Struct, frozen=True):
    """`global_args` come before the first FROM."""

    stages: tuple[Stage, ...]
    global_args: tuple[Arg, ...] = ()
    escape: str = "\\"


class _Growing(Struct):
    source: From
    instructions: list[Instruction] = field(default_factory=list)


def arrange(document: Document, found: Checks) -> Stages:
    """Raises DockerfileError; what the text alone shows to be doubtful goes to `found`."""
    for lines in document.empty_continuations:
        found.report(checks.NO_EMPTY_CONTINUATION, lines, "Empty continuation line")
    growing: list[_Growing] = []
    global_args: list[Arg] = []
    for node in document.nodes:
        instruction = parse(node)
        _check(instruction, found)
        if isinstance(instruction, From):
            growing.append(_Growing(instruction))
        elif growing:
            growing[-1].instructions.append(instruction)
        elif isinstance(instruction, Arg):
            global_args.append(instruction)
        else:
            raise DockerfileError("no build stage in current context", node.lines)
    if not growing:
        raise DockerfileError("dockerfile contains no stages to build")
    checks.check_stage_names(found, (stage.source for stage in growing))
    checks.check_casing(found, (item for stage in growing for item in (stage.source, *stage.instructions)))
    stages = tuple(Stage(stage.source, tuple(stage.instructions)) for stage in growing)
    return Stages(stages, tuple(global_args), document.escape)


def _check(instruction: Instruction, found: Checks) -> None:
    lines = instruction.origin.lines
    comment = instruction.origin.comments[-1] if instruction.origin.comments else ""
    match instruction:
        case Maintainer():
            message = "Maintainer instruction is deprecated in favor of using label"
            found.report(checks.MAINTAINER_DEPRECATED, lines, message)
        case From():
            checks.check_stage_line(found, instruction)
            if instruction.alias:
                checks.check_definition(found, "FROM", [instruction.alias], lines, comment)
        case Arg():
            names = [definition.key for definition in instruction.definitions]
            checks.check_definition(found, "ARG", names, lines, comment)
