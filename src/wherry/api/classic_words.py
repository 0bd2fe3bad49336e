"""What the classic builder says where BuildKit, whose rules builds follow here, says it otherwise: errors and history.

Clients of the classic endpoint match on these.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from wherry.errors import InvalidParameter, NotFound, WherryError
from wherry.model.build_graph import Copy, File, HistoryStep, LocalSource, Step, Target
from wherry.model.classic_sums import Contents, classic_sum, own_sum
from wherry.model.dockerfile.checks import Checks, Settings
from wherry.model.dockerfile.instructions import Arg
from wherry.model.dockerfile.source import DockerfileError
from wherry.model.dockerfile.stages import arrange
from wherry.model.dockerfile.syntax import parse as parse_syntax
from wherry.model.file_list import FileList
from wherry.model.reference import parse as parse_reference

_INDEX = re.compile(r"\Ainvalid stage index (\d+)\Z")
_STAGE_NAME = re.compile(r'\Afailed to parse stage name ".*?": (?=invalid)', re.DOTALL)
_TARGET = "target stage "
_SUGGESTION = re.compile(r"\A(target stage .*) \(did you mean .*\?\)\Z", re.DOTALL)
_NOT_FOUND = re.compile(r'"/(.*)": not found', re.DOTALL)
_FROM_FLAG = re.compile(rb"--from=(\S+)", re.IGNORECASE)
_PROXIES = frozenset(("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"))
_RUN = re.compile(r"RUN ((?:\|\d+ )?.*?)(?: # buildkit)?\Z", re.DOTALL)
_ARGUMENTS = re.compile(r"\|(\d+) ")
_NO_OPERATION = "#(nop) "
_COPIED = re.compile(r"(.* #\(nop\) (?:COPY|ADD) (?:--\S+ )*)((?:file|dir|multi):[0-9a-f]{64})( in .*)", re.DOTALL)


# errors


def read(dockerfile: bytes, name: str) -> None:
    """Whether it can be read at all. Raises InvalidParameter."""
    try:
        document = parse_syntax(dockerfile)
    except DockerfileError as error:
        raise InvalidParameter(f"failed to parse {name}: {error}") from None
    arrange(document, Checks())


def begins(error: DockerfileError) -> bool:
    """Whether a file that can be read fails by this while its stages are built, or before."""
    return not str(error).startswith(_TARGET)


def planning_failed(error: DockerfileError) -> InvalidParameter:
    text = _SUGGESTION.sub(r"\1", str(error))  # this builder suggests instructions and flags, not stages
    text = _INDEX.sub(r"invalid from flag value \1: index out of bounds", _STAGE_NAME.sub("", text))
    if text == "source can't be a URL for COPY":
        text = f"COPY failed: {text}"
    return InvalidParameter(text.replace("invalid containerPort", "Invalid containerPort", 1))


def base_failed(error: WherryError, reference: str, dockerfile: bytes) -> WherryError:
    """An image that only files are taken from is named by its flag."""
    for match in _FROM_FLAG.finditer(dockerfile):
        name = match[1].decode(errors="replace")
        try:
            found = parse_reference(name).with_default_tag().canonical
        except InvalidParameter:
            continue
        if found == reference:
            return type(error)(f"invalid from flag value {name}: {error}")
    return error


def copy_failed(error: NotFound, target: Target, vertex: str) -> NotFound:
    """A file that is not in the context, as far as it is that."""
    match = _NOT_FOUND.fullmatch(str(error))
    step = next((step for step in target.steps if step.vertex is not None and step.vertex.digest == vertex), None)
    if match is None or step is None or step.vertex is None or not isinstance(step.vertex.operation, File):
        return error
    keyword = step.text.split(maxsplit=1)[0].upper()
    written = next((word for word in step.text.split() if word.lstrip("./") == match[1]), match[1])
    if written.startswith("../"):
        return NotFound(f"{keyword} failed: forbidden path outside the build context: {written} ()")
    of_context = any(isinstance(other.operation, LocalSource) for other in step.vertex.inputs)
    where = "file not found in build context or excluded by .dockerignore: " if of_context else ""
    return NotFound(f"{keyword} failed: {where}stat {match[1]}: file does not exist")


def unused_arguments(dockerfile: bytes, given: Iterable[str]) -> list[str]:
    """Build arguments that no ARG takes, sorted."""
    stages = arrange(parse_syntax(dockerfile), Checks(Settings()))
    instructions = [*stages.global_args, *(item for stage in stages.stages for item in stage.instructions)]
    taken = {item.key for found in instructions if isinstance(found, Arg) for item in found.definitions}
    return sorted(name for name in given if name not in taken and name.upper() not in _PROXIES)


# history


def with_classic_history(target: Target, files: FileList, labels: Mapping[str, str]) -> Target:
    """The target with the entries that the classic builder would write, one for each step, in its words."""
    if not _own_steps(target) and not labels and target.base is not None:
        return msgspec.structs.replace(target, history=(), config={})  # the image itself
    history = tuple(_entries(target, files, labels))
    own = tuple(Step(text, stage=_last(target)) for text in _label_steps(labels))  # a step each, the last ones
    target = msgspec.structs.replace(target, steps=(*target.steps, *own))
    config = {key: value for key, value in target.config.get("config", {}).items() if key != "ArgsEscaped"}
    return msgspec.structs.replace(target, history=history, config={**target.config, "config": config})


def _entries(target: Target, files: FileList, labels: Mapping[str, str]) -> Iterator[HistoryStep]:
    shell = "/bin/sh -c"
    given = iter(target.history)
    for step in _own_steps(target):
        keyword, _, rest = step.text.partition(" ")
        keyword = keyword.upper()
        if keyword == "ONBUILD":
            yield HistoryStep(f"{shell} {_NO_OPERATION} {keyword} {rest}")
            continue
        entry = next(given, None)
        if entry is None:
            return
        text = _SAID.get(keyword, _as_given)(entry.created_by, rest, files, entry)
        if keyword == "RUN":
            yield HistoryStep(text, entry.vertex)
            continue
        blank = "" if keyword in ("COPY", "ADD", "WORKDIR") else " "
        if keyword == "SHELL":
            shell = " ".join(_words(entry.created_by))
        yield HistoryStep(f"{shell} {_NO_OPERATION}{blank}{text}", entry.vertex)
    for text in _label_steps(labels):
        yield HistoryStep(f"{shell} {_NO_OPERATION} {text}")


def states_of(target: Target, names: Sequence[str], steps: int) -> set[str]:
    """Of the names of the states after each step those that the first entries of the history stand for."""
    own = {id(step) for step in _own_steps(target)[:steps]}
    return {name for step, name in zip(target.steps, names, strict=True) if id(step) in own}


def _label_steps(labels: Mapping[str, str]) -> list[str]:
    return [f"LABEL {name}={value}" for name, value in sorted(labels.items())]


def _last(target: Target) -> int:
    return max((step.stage for step in target.steps), default=0)


def _own_steps(target: Target) -> list[Step]:
    """The steps of the stages that the target's tree comes from, but for their FROM."""
    vertices = {entry.vertex for entry in target.history if entry.vertex is not None}
    stages = {step.stage for step in target.steps if step.vertex in vertices}
    stages.add(_last(target))
    return [step for step in target.steps if step.stage in stages and step.text.split(maxsplit=1)[0].upper() != "FROM"]


def _as_given(created_by: str, rest: str, files: FileList, entry: HistoryStep) -> str:
    return created_by


def _run(created_by: str, rest: str, files: FileList, entry: HistoryStep) -> str:
    match = _RUN.fullmatch(created_by)
    text = match[1] if match is not None else created_by
    counted = _ARGUMENTS.match(text)
    if counted is None:
        return text
    words = text[counted.end() :].split(" ")
    number = int(counted[1])
    return " ".join([counted[0].strip(), *sorted(words[:number]), *words[number:]])


def _copied(created_by: str, rest: str, files: FileList, entry: HistoryStep) -> str:
    """`COPY dir:HASH in /place`: file, dir or multi by what the sources are."""
    text = created_by.removesuffix(" # buildkit")
    keyword, *words = text.split(" ")
    flags = [word for word in words if word.startswith("--")]
    *sources, destination = words[len(flags) :]
    kind = "multi"
    if entry.vertex is not None and isinstance(entry.vertex.operation, File) and len(sources) == 1:
        copies = [action for action in entry.vertex.operation.actions if isinstance(action, Copy)]
        path = os.fsencode(os.path.normpath("/" + (copies[0].source if copies else "")).lstrip("/"))
        found = files.by_path.get(path)
        kind = "dir" if not path or (found is not None and stat.S_ISDIR(found.mode)) else "file"
    name = entry.vertex.digest.removeprefix("sha256:") if entry.vertex is not None else ""
    paths = of_context(entry, files)
    return " ".join([keyword, *flags, own_sum(files, paths) if paths else f"{kind}:{name}", "in", destination, ""])


def of_context(entry: HistoryStep, files: FileList) -> list[bytes]:
    """The paths of the context that a step copies; none if it does anything that these do not tell."""
    vertex = entry.vertex
    if vertex is None or not isinstance(vertex.operation, File):
        return []
    found = []
    for action in vertex.operation.actions:
        if not isinstance(action, Copy) or action.exclude or any(sign in action.source for sign in "*?[\\"):
            return []
        if not isinstance(vertex.inputs[action.input].operation, LocalSource):
            return []
        path = os.fsencode(os.path.normpath("/" + action.source).lstrip("/"))
        there = files.by_path.get(path)
        if path and (there is None or not (stat.S_ISREG(there.mode) or stat.S_ISDIR(there.mode))):
            return []
        found.append(path)
    return found


def same_step(step: HistoryStep, created_by: str, files: FileList, contents: Contents) -> bool:
    """Whether an image's history tells of this very step: files have the same sum, ours or the classic builder's.

    Blocking: it may read them.
    """
    own, other = _COPIED.fullmatch(step.created_by), _COPIED.fullmatch(created_by)
    if own is None or other is None:
        mounted = step.vertex is not None and len(step.vertex.inputs) > 1  # of which the words do not tell
        return step.created_by == created_by and not mounted
    paths = of_context(step, files)
    if not paths or (own[1], own[3]) != (other[1], other[3]):
        return False
    return own[2] == other[2] or classic_sum(files, paths, contents) == other[2]


def _argument(created_by: str, rest: str, files: FileList, entry: HistoryStep) -> str:
    return f"ARG {rest.strip()}"


def _exposed(created_by: str, rest: str, files: FileList, entry: HistoryStep) -> str:
    return " ".join(["EXPOSE", *sorted(rest.split())])


def _words(created_by: str) -> list[str]:
    return created_by.removeprefix("SHELL [").removesuffix("]").split(" ")


_SAID = {"RUN": _run, "COPY": _copied, "ADD": _copied, "ARG": _argument, "EXPOSE": _exposed}
