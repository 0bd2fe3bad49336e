"""What a build is: a graph of vertices, each an operation on the file trees that its inputs made.

    base = Vertex(ImageSource("docker.io/library/busybox:latest", Platform("linux", "amd64")))
    files = Vertex(LocalSource("context"))
    copied = Vertex(File((Copy(input=1, source="src", destination="/app/"),)), (base, files), name="COPY src /app/")
    built = Vertex(Exec(("/bin/sh", "-c", "make -C /app"),), (copied,), name="RUN make -C /app")

A vertex makes one file tree. What an operation does to a tree begins with the tree of input 0. Operations know nothing
of the language that asked for them, nor of images: what a tree is packed into is said by the `Target`.

A vertex is what it does and what it does it to: `digest` hashes exactly that, in canonical JSON. Its name, and whether
an earlier result may serve, are not part of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct, field

from wherry.model.platforms import Platform


class _Value(Struct, frozen=True, omit_defaults=True):
    """A value; what is left at its default has no part in the digest, so that fields can be added."""


# where trees come from


class Scratch(_Value, frozen=True, tag="scratch"):
    """Nothing at all."""


class ImageSource(_Value, frozen=True, tag="image"):
    """The root filesystem of an image. `pull`: "missing", "always" or "never"."""

    reference: str
    platform: Platform | None = None
    pull: str = "missing"


class LocalSource(_Value, frozen=True, tag="local"):
    """Files that the client sends. Patterns are those of ignore files; a file comes if it matches `include` (no
    patterns: all do) and not `exclude`. `name` says which of the directories that the client offers.
    """

    name: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class HttpSource(_Value, frozen=True, tag="http"):
    """One file at the root, fetched. `checksum` as "sha256:..."; a `filename` of "" is taken from the answer or URL."""

    url: str
    checksum: str = ""
    filename: str = ""
    mode: int = 0o600
    uid: int = 0
    gid: int = 0


class GitSource(_Value, frozen=True, tag="git"):
    """A tree of a repository. `ref` of "" is the remote's default; `checksum` is the commit it must be."""

    remote: str
    ref: str = ""
    subdir: str = ""
    keep_git: bool = False
    checksum: str = ""
    ssh: str = ""  # ID of the agent to reach the remote with


# running something


class Bind(_Value, frozen=True, tag="bind"):
    """The tree of an input at a place, or one path of it. What is written to it is forgotten."""

    target: str
    input: int
    source: str = ""
    readonly: bool = True


class Cache(_Value, frozen=True, tag="cache"):
    """A directory that outlives the build, by its ID. `sharing`: "shared", "private" or "locked".

    A new one begins as the path `source` of an input, or empty with this owner and mode.
    """

    target: str
    id: str
    sharing: str = "shared"
    input: int = -1
    source: str = ""
    readonly: bool = False
    uid: int = 0
    gid: int = 0
    mode: int = 0o755


class Tmpfs(_Value, frozen=True, tag="tmpfs"):
    """`size` in bytes, 0 is the kernel's default."""

    target: str
    size: int = 0


class Secret(_Value, frozen=True, tag="secret"):
    """A secret of the client's as a file at `target` ("" for none), as the variable `env` ("" for none), or both."""

    id: str
    target: str = ""
    env: str = ""
    required: bool = False
    uid: int = 0
    gid: int = 0
    mode: int = 0o400


class Ssh(_Value, frozen=True, tag="ssh"):
    """The client's SSH agent behind a socket at `target`, which SSH_AUTH_SOCK names."""

    id: str
    target: str
    required: bool = False
    uid: int = 0
    gid: int = 0
    mode: int = 0o600


Mount: TypeAlias = Bind | Cache | Tmpfs | Secret | Ssh


class Ulimit(_Value, frozen=True):
    name: str
    soft: int
    hard: int


class Exec(_Value, frozen=True, tag="exec"):
    """A process run in the tree of input 0.

    `network`: "" is the engine's default, else "none" or "host". `security`: "sandbox" or "insecure". `ids_in` is the
    input in whose /etc/passwd a user's name is looked up. Proxy variables are the process's, but no part of what it is.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()  # NAME=value
    cwd: str = "/"
    user: str = ""
    hostname: str = ""
    network: str = ""
    security: str = "sandbox"
    shm_size: int = 0  # bytes; 0 is the engine's default
    ulimits: tuple[Ulimit, ...] = ()
    extra_hosts: tuple[str, ...] = ()  # name:address
    mounts: tuple[Mount, ...] = ()
    platform: Platform | None = None
    proxy_env: tuple[str, ...] = ()


# working on files


class Owner(_Value, frozen=True):
    """Names or numbers; "" leaves the group to the user's. Names are those in /etc/passwd of the input `ids_in`."""

    user: str
    group: str = ""
    ids_in: int = 0


class Copy(_Value, frozen=True, tag="copy"):
    """Paths of an input's tree into the tree at hand.

    `source` may have wildcards if `wildcard`, and then may match nothing only if `allow_empty`. A `destination` that
    ends in a slash, or is a directory, gets the source put into it; of a source that is a directory only the content is
    copied if `contents_only`. `parents` keeps the source's folders, those after "/./" where the source has that.
    `unpack` extracts a file that is an archive. `mode` is octal or symbolic, "" keeps; `owner` None keeps the owner.
    Without `follow` a symlink as source is copied itself. `exclude` are patterns relative to the source.
    `replace` lets a file take a directory's place and the other way round. `time_ns` is the time of all that is made;
    without it files keep theirs.
    """

    input: int
    source: str
    destination: str
    owner: Owner | None = None
    mode: str = ""
    wildcard: bool = False
    allow_empty: bool = False
    contents_only: bool = False
    parents: bool = False
    follow: bool = True
    unpack: bool = False
    create_destination: bool = True
    replace: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    time_ns: int | None = None


class MakeDir(_Value, frozen=True, tag="mkdir"):
    path: str
    mode: int = 0o755
    parents: bool = False
    owner: Owner | None = None
    time_ns: int | None = None


class MakeFile(_Value, frozen=True, tag="mkfile"):
    path: str
    data: bytes
    mode: int = 0o644
    owner: Owner | None = None
    time_ns: int | None = None


class Remove(_Value, frozen=True, tag="rm"):
    path: str
    allow_missing: bool = False
    wildcard: bool = False


class Symlink(_Value, frozen=True, tag="symlink"):
    path: str
    link: str
    owner: Owner | None = None
    time_ns: int | None = None


Action: TypeAlias = Copy | MakeDir | MakeFile | Remove | Symlink


class File(_Value, frozen=True, tag="file"):
    """Actions on the tree of input 0, one after another."""

    actions: tuple[Action, ...]


# trees of trees


class Merge(_Value, frozen=True, tag="merge"):
    """The inputs on top of one another, input 0 at the bottom."""


class Diff(_Value, frozen=True, tag="diff"):
    """What input 1 has that input 0 has not."""


Operation: TypeAlias = Scratch | ImageSource | LocalSource | HttpSource | GitSource | Exec | File | Merge | Diff


class Vertex:
    """An operation on what other vertices made. Equal if it is the same operation on the same inputs."""

    __slots__ = ("digest", "ignore_cache", "inputs", "name", "operation")

    operation: Operation
    inputs: tuple[Vertex, ...]
    name: str  # what people see
    ignore_cache: bool  # no earlier result serves
    digest: str  # sha256:...

    def __init__(
        self, operation: Operation, inputs: Iterable[Vertex] = (), *, name: str = "", ignore_cache: bool = False
    ) -> None:
        held = tuple(inputs)
        _check(operation, held)
        for attribute, value in (
            ("operation", operation),
            ("inputs", held),
            ("name", name),
            ("ignore_cache", ignore_cache),
            ("digest", _digest(operation, held)),
        ):
            object.__setattr__(self, attribute, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a vertex does not change: {name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vertex) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"<Vertex {self.digest[7:19]} {self.name or kind(self.operation)}>"


class HistoryStep(Struct, frozen=True):
    """One entry of the image's history. `vertex` made a tree in this step; None if only the configuration changed."""

    created_by: str
    vertex: Vertex | None = None
    comment: str = ""
    author: str = ""


class Step(Struct, frozen=True):
    """What a person reads of the build in order: the text of one step, and the vertex that stands for it, if any."""

    text: str
    vertex: Vertex | None = None
    stage: int = 0


class Target(Struct, frozen=True, kw_only=True):
    """What shall come out: a tree, and what an image made of it says.

    `config` is an image configuration (OCI image-spec config.md) without `rootfs`, `history` and `created`; `history`
    is what comes after the history of `base`, the image that the tree began with, None for an empty one.
    """

    vertex: Vertex
    config: dict[str, Any]
    history: tuple[HistoryStep, ...] = ()
    base: Vertex | None = None
    platform: Platform | None = None
    steps: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = field(default=())


def kind(operation: Operation) -> str:
    """The operation's name: image, exec, file and so on."""
    return str(type(operation).__struct_config__.tag)


def uses(operation: Operation) -> set[int]:
    """Which inputs an operation reads."""
    match operation:
        case Exec():
            found = {m.input for m in operation.mounts if isinstance(m, Bind | Cache) and m.input >= 0}
            return found | {0}
        case File():
            found = {0}
            for action in operation.actions:
                if isinstance(action, Copy):
                    found.add(action.input)
                owner = None if isinstance(action, Remove) else action.owner
                if owner is not None:
                    found.add(owner.ids_in)
            return found
        case Diff():
            return {0, 1}
        case _:
            return set()


def ordered(target: Vertex) -> list[Vertex]:
    """Every vertex that the target needs, once, inputs before those that use them."""
    found: dict[Vertex, None] = {}
    pending: list[tuple[Vertex, Iterator[Vertex]]] = [(target, iter(target.inputs))]
    while pending:
        vertex, inputs = pending[-1]
        following = next(inputs, None)
        if following is None:
            found.setdefault(vertex)
            pending.pop()
        elif following not in found:
            pending.append((following, iter(following.inputs)))
    return list(found)


def render(target: Vertex) -> str:
    """The graph as text: a line a vertex, numbered, with the numbers of its inputs, then what its operation says."""
    numbers: dict[Vertex, int] = {}
    lines: list[str] = []
    for vertex in ordered(target):
        numbers[vertex] = len(numbers) + 1
        inputs = ", ".join(str(numbers[other]) for other in vertex.inputs)
        arrow = f" <- {inputs}" if inputs else ""
        lines.append(f"{numbers[vertex]:>3}  {kind(vertex.operation)}{arrow}  {vertex.name}".rstrip())
        lines.extend(f"       {line}" for line in _described(vertex.operation))
    return "\n".join(lines) + "\n"


def _described(operation: Operation) -> Iterator[str]:
    """What differs from the defaults, a line for each mount and action."""
    fields: dict[str, Any] = msgspec.to_builtins(operation)
    fields.pop("type")
    inner = [*fields.pop("mounts", ()), *fields.pop("actions", ())]
    if fields:
        yield _words(fields)
    for item in inner:
        yield f"{item.pop('type')} {_words(item)}".rstrip()


def _words(fields: dict[str, Any]) -> str:
    return " ".join(f"{key}={msgspec.json.encode(value).decode()}" for key, value in fields.items())


def _digest(operation: Operation, inputs: tuple[Vertex, ...]) -> str:
    if isinstance(operation, Exec) and operation.proxy_env:
        operation = msgspec.structs.replace(operation, proxy_env=())
    canonical = msgspec.json.encode([operation, [vertex.digest for vertex in inputs]], order="sorted")
    return "sha256:" + hashlib.sha256(canonical).hexdigest()


def _check(operation: Operation, inputs: tuple[Vertex, ...]) -> None:
    """A graph that cannot be is a mistake of its maker's."""
    if isinstance(operation, Exec | File):
        missing = uses(operation) - set(range(len(inputs)))
        if missing:
            raise ValueError(f"{kind(operation)} uses input {min(missing)} of {len(inputs)}")
    elif isinstance(operation, Diff):
        if len(inputs) != 2:
            raise ValueError(f"diff has two inputs, not {len(inputs)}")
    elif not isinstance(operation, Merge) and inputs:
        raise ValueError(f"{kind(operation)} has no inputs")


SCRATCH = Vertex(Scratch())
