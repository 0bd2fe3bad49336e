"""Each instruction as its own type, from the words that `syntax` found.

Source: Dockerfile reference, one section an instruction. Errors are in BuildKit's words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from wherry.model.dockerfile.flags import Flags
from wherry.model.dockerfile.mounts import check_unexpanded
from wherry.model.dockerfile.source import NOWHERE, DockerfileError, Lines, ParseError, suggesting, trimmed
from wherry.model.dockerfile.syntax import KEYWORDS, Heredoc, Node, Pair, parse_heredoc
from wherry.model.gotext import quote
from wherry.model.timestamps import duration_ns

Expand: TypeAlias = Callable[[str], str]

_MILLISECOND = 1_000_000
_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_ONBUILD = re.compile(r"\A\s*ONBUILD\s*", re.IGNORECASE)


class Origin(Struct, frozen=True):
    """Where an instruction stands: its name as written, its text, the comments before it."""

    name: str = ""
    code: str = ""
    lines: Lines = NOWHERE
    comments: tuple[str, ...] = ()


class From(Struct, frozen=True):
    origin: Origin
    base: str
    alias: str = ""  # in lower case
    platform: str = ""
    as_written: tuple[str, str] = ("", "")  # the word AS and the name, as they stand


class ArgDefinition(Struct, frozen=True):
    """`value` None: without a default."""

    key: str
    value: str | None = None


class Arg(Struct, frozen=True):
    origin: Origin
    definitions: tuple[ArgDefinition, ...]


class Env(Struct, frozen=True):
    origin: Origin
    pairs: tuple[Pair, ...]


class Label(Struct, frozen=True):
    origin: Origin
    pairs: tuple[Pair, ...]


class CommandLine(Struct, frozen=True):
    """`shell`: one text for the shell rather than arguments. Here-documents belong to the shell form."""

    args: tuple[str, ...] = ()
    shell: bool = False
    heredocs: tuple[Heredoc, ...] = ()


class Run(Struct, frozen=True):
    origin: Origin
    command: CommandLine
    mounts: tuple[str, ...] = ()  # unexpanded
    network: str = "default"
    security: str = "sandbox"


class Cmd(Struct, frozen=True):
    origin: Origin
    command: CommandLine


class Entrypoint(Struct, frozen=True):
    origin: Origin
    command: CommandLine


class Document(Struct, frozen=True):
    """A here-document as a source of COPY: a file of this name."""

    name: str
    text: str
    expand: bool


class CopyFiles(Struct, frozen=True):
    """COPY, and ADD if `add`. `keep_git_dir` and `unpack` None: not given."""

    origin: Origin
    add: bool
    sources: tuple[str, ...]
    documents: tuple[Document, ...]
    destination: str
    source_from: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str = ""
    keep_git_dir: bool | None = None
    unpack: bool | None = None


class Health(Struct, frozen=True):
    """Durations in nanoseconds, 0 inherits."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class Healthcheck(Struct, frozen=True):
    origin: Origin
    health: Health


class Expose(Struct, frozen=True):
    origin: Origin
    ports: tuple[str, ...]


class User(Struct, frozen=True):
    origin: Origin
    user: str


class Workdir(Struct, frozen=True):
    origin: Origin
    path: str


class Volume(Struct, frozen=True):
    origin: Origin
    paths: tuple[str, ...]


class StopSignal(Struct, frozen=True):
    origin: Origin
    signal: str


class Shell(Struct, frozen=True):
    origin: Origin
    words: tuple[str, ...]


class OnBuild(Struct, frozen=True):
    origin: Origin
    expression: str


class Maintainer(Struct, frozen=True):
    origin: Origin
    name: str


Instruction: TypeAlias = (
    From
    | Arg
    | Env
    | Label
    | Run
    | Cmd
    | Entrypoint
    | CopyFiles
    | Healthcheck
    | Expose
    | User
    | Workdir
    | Volume
    | StopSignal
    | Shell
    | OnBuild
    | Maintainer
)


def parse(node: Node) -> Instruction:
    """Raises ParseError, with the place."""
    try:
        return read(node)
    except DockerfileError as error:
        raise ParseError(f"dockerfile parse error on line {node.lines.first}: {error}", node.lines) from None


def read(node: Node) -> Instruction:
    """Raises DockerfileError, which says nothing of the place."""
    reader = _READERS.get(node.keyword)
    if reader is None:
        names = KEYWORDS if node.name.islower() else [keyword.upper() for keyword in KEYWORDS]
        raise DockerfileError(suggesting(f"unknown instruction: {node.name}", node.name, names, fold=True))
    return reader(node)


_T = TypeVar("_T", bound=Instruction)


def expanded(instruction: _T, expand: Expand, expand_unquoted: Expand) -> _T:
    """The instruction with variables replaced where the reference says that they are.

    `expand_unquoted` is for texts in which quotes mean nothing: here-documents. Raises DockerfileError.
    """
    match instruction:
        case Env() | Label():
            pairs = tuple(Pair(expand(pair.key), expand(pair.value), pair.legacy) for pair in instruction.pairs)
            return replace(instruction, pairs=pairs)
        case CopyFiles():
            return replace(
                instruction,
                chown=expand(instruction.chown),
                chmod=expand(instruction.chmod),
                checksum=expand(instruction.checksum),
                exclude=tuple(map(expand, instruction.exclude)),
                sources=tuple(map(expand, instruction.sources)),
                destination=expand(instruction.destination),
                documents=tuple(
                    replace(document, text=expand_unquoted(document.text)) if document.expand else document
                    for document in instruction.documents
                ),
            )
        case User():
            return replace(instruction, user=expand(instruction.user))
        case Workdir():
            return replace(instruction, path=expand(instruction.path))
        case Volume():
            return replace(instruction, paths=tuple(map(expand, instruction.paths)))
        case StopSignal():
            return replace(instruction, signal=expand(instruction.signal))
    return instruction


def _origin(node: Node) -> Origin:
    return Origin(node.name, trimmed(node.original), node.lines, node.comments)


def _some(node: Node, words: Sequence[object]) -> None:
    if not words:
        raise DockerfileError(f"{node.name.upper()} requires at least one argument")


def _one(node: Node) -> str:
    if len(node.arguments.words) != 1:
        raise DockerfileError(f"{node.name.upper()} requires exactly one argument")
    return node.arguments.words[0]


def _from(node: Node) -> From:
    words = node.arguments.words
    alias, as_word, written = "", "", ""
    if len(words) == 3 and words[1].lower() == "as":
        as_word, written = words[1:]
        alias = written.lower()
        if not _STAGE_NAME.fullmatch(alias):
            raise DockerfileError(
                f"invalid name for build stage: {quote(written)}, name can't start with a number or contain symbols"
            )
    elif len(words) != 1:
        raise DockerfileError("FROM requires either one or three arguments")
    flags = Flags(node.flags, platform="text")
    return From(_origin(node), words[0], alias, flags.text("platform"), (as_word, written))


def _arg(node: Node) -> Arg:
    words = node.arguments.words
    _some(node, words)
    Flags(node.flags)
    definitions = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and not key:
            raise DockerfileError("ARG names can not be blank")
        definitions.append(ArgDefinition(key, value if equals else None))
    return Arg(_origin(node), tuple(definitions))


def _pairs(node: Node) -> tuple[Pair, ...]:
    Flags(node.flags)
    pairs = node.arguments.pairs
    _some(node, pairs)
    if not all(pair.key for pair in pairs):
        raise DockerfileError(f"{node.name.upper()} names can not be blank")
    return pairs


def _command_line(node: Node) -> CommandLine:
    return CommandLine(node.arguments.words, not node.arguments.json, node.heredocs)


def _run(node: Node) -> Run:
    flags = Flags(node.flags, mount="texts", network="text", security="text", device="texts")
    mounts = flags.texts("mount")
    for mount in mounts:
        check_unexpanded(mount)
    network = flags.text("network") or "default"
    if network not in ("default", "none", "host"):
        raise DockerfileError(f"invalid network mode {quote(network)}")
    security = flags.text("security") or "sandbox"
    if security not in ("sandbox", "insecure"):
        raise DockerfileError(f"security {quote(security)} is not valid")
    if flags.texts("device"):
        raise DockerfileError("RUN --device is not supported: no CDI devices are given to builds")
    return Run(_origin(node), _command_line(node), mounts, network, security)


def _copy(node: Node) -> CopyFiles:
    keyword = node.name.upper()
    add = keyword == "ADD"
    words = node.arguments.words
    if len(words) < 2:
        raise DockerfileError(
            f"{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
        )
    if add:
        flags = Flags(
            node.flags, chown="text", chmod="text", link="bool", exclude="texts",
            keep_git_dir="bool", checksum="text", unpack="bool",
        )  # fmt: skip
    else:
        flags = Flags(
            node.flags, chown="text", chmod="text", link="bool", exclude="texts", from_="text", parents="bool"
        )
    if parse_heredoc(words[-1]) is not None:
        raise DockerfileError(f"{keyword} cannot accept a heredoc as a destination")
    contents = {heredoc.name: heredoc for heredoc in node.heredocs}
    sources: list[str] = []
    documents: list[Document] = []
    for word in words[:-1]:
        heredoc = None if node.arguments.json else parse_heredoc(word)
        if heredoc is None:
            sources.append(word)
        else:
            read = contents.get(heredoc.name, heredoc)
            documents.append(Document(heredoc.name, replace(read, chomp=heredoc.chomp).text, heredoc.expand))
    return CopyFiles(
        _origin(node),
        add,
        tuple(sources),
        tuple(documents),
        words[-1],
        source_from=flags.text("from"),
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=flags.true("link"),
        parents=flags.true("parents"),
        exclude=flags.texts("exclude"),
        checksum=flags.text("checksum"),
        keep_git_dir=flags.choice("keep-git-dir"),
        unpack=flags.choice("unpack"),
    )


def _cmd(node: Node) -> Cmd:
    Flags(node.flags)
    return Cmd(_origin(node), _command_line(node))


def _entrypoint(node: Node) -> Entrypoint:
    Flags(node.flags)
    return Entrypoint(_origin(node), _command_line(node))


def _healthcheck(node: Node) -> Healthcheck:
    words = node.arguments.words
    _some(node, words)
    kind, command = words[0].upper(), words[1:]
    if kind == "NONE":
        if command:
            raise DockerfileError("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(_origin(node), Health(("NONE",)))
    flags = Flags(
        node.flags, interval="text", timeout="text", start_period="text", start_interval="text", retries="text"
    )
    if kind != "CMD":
        raise DockerfileError(f"Unknown type {quote(kind)} in HEALTHCHECK (try CMD)")
    if not command:
        raise DockerfileError("Missing command after HEALTHCHECK CMD")
    health = Health(
        ("CMD", *command) if node.arguments.json else ("CMD-SHELL", *command),
        interval=_interval(flags, "interval"),
        timeout=_interval(flags, "timeout"),
        start_period=_interval(flags, "start-period"),
        start_interval=_interval(flags, "start-interval"),
        retries=_retries(flags.text("retries")),
    )
    return Healthcheck(_origin(node), health)


def _interval(flags: Flags, name: str) -> int:
    text = flags.text(name)
    if not text:
        return 0
    value = duration_ns(text)
    if value is None:
        if re.fullmatch(r"[+-]?[\d.]+", text, re.ASCII):
            raise DockerfileError(f"time: missing unit in duration {quote(text)}")
        raise DockerfileError(f"time: invalid duration {quote(text)}")
    if value and value < _MILLISECOND:
        raise DockerfileError(f"Interval {quote(name)} cannot be less than 1ms")
    return value


def _retries(text: str) -> int:
    if not text:
        return 0
    if not _INTEGER.fullmatch(text):
        raise DockerfileError(f"strconv.ParseInt: parsing {quote(text)}: invalid syntax")
    if len(text) > 12 or not -(1 << 31) <= int(text) < 1 << 31:
        raise DockerfileError(f"strconv.ParseInt: parsing {quote(text)}: value out of range")
    if int(text) < 0:
        raise DockerfileError(f"--retries cannot be negative ({int(text)})")
    return int(text)


def _expose(node: Node) -> Expose:
    _some(node, node.arguments.words)
    Flags(node.flags)
    return Expose(_origin(node), tuple(sorted(node.arguments.words)))


def _user(node: Node) -> User:
    user = _one(node)
    Flags(node.flags)
    return User(_origin(node), user)


def _workdir(node: Node) -> Workdir:
    path = _one(node)
    Flags(node.flags)
    return Workdir(_origin(node), path)


def _volume(node: Node) -> Volume:
    _some(node, node.arguments.words)
    Flags(node.flags)
    paths = tuple(trimmed(path) for path in node.arguments.words)
    if not all(paths):
        raise DockerfileError("VOLUME specified can not be an empty string")
    return Volume(_origin(node), paths)


def _stop_signal(node: Node) -> StopSignal:
    signal = _one(node)
    Flags(node.flags)
    return StopSignal(_origin(node), signal)


def _shell(node: Node) -> Shell:
    Flags(node.flags)
    if not node.arguments.words:
        raise DockerfileError("SHELL requires at least one argument")
    if not node.arguments.json:
        raise DockerfileError("SHELL requires the arguments to be in JSON form")
    return Shell(_origin(node), node.arguments.words)


def _on_build(node: Node) -> OnBuild:
    _some(node, node.arguments.words)
    Flags(node.flags)
    trigger = node.arguments.words[0].strip().upper()
    if trigger == "ONBUILD":
        raise DockerfileError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise DockerfileError(f"{trigger} isn't allowed as an ONBUILD trigger")
    expression = _ONBUILD.sub("", node.original)
    for heredoc in node.heredocs:
        expression += f"\n{heredoc.content}{heredoc.name}"
    return OnBuild(_origin(node), expression)


def _maintainer(node: Node) -> Maintainer:
    name = _one(node)
    Flags(node.flags)
    return Maintainer(_origin(node), name)


_READERS: dict[str, Callable[[Node], Instruction]] = {
    "add": _copy,
    "arg": _arg,
    "cmd": _cmd,
    "copy": _copy,
    "entrypoint": _entrypoint,
    "env": lambda node: Env(_origin(node), _pairs(node)),
    "expose": _expose,
    "from": _from,
    "healthcheck": _healthcheck,
    "label": lambda node: Label(_origin(node), _pairs(node)),
    "maintainer": _maintainer,
    "onbuild": _on_build,
    "run": _run,
    "shell": _shell,
    "stopsignal": _stop_signal,
    "user": _user,
    "volume": _volume,
    "workdir": _workdir,
}
