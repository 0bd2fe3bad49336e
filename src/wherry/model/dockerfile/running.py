"""RUN to a vertex: arguments, here-documents, mounts (Dockerfile reference, "RUN")."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from itertools import count

from msgspec import Struct, field

from wherry.model.build_graph import (
    SCRATCH,
    Bind,
    Cache,
    Exec,
    File,
    MakeFile,
    Mount,
    Secret,
    Ssh,
    Tmpfs,
    Vertex,
)
from wherry.model.dockerfile.instructions import CommandLine, Run
from wherry.model.dockerfile.mounts import RunMount
from wherry.model.dockerfile.source import DockerfileError
from wherry.model.dockerfile.state import Scope, Source, State, display
from wherry.model.dockerfile.syntax import Heredoc, parse_heredoc
from wherry.model.gotext import quote

DEFAULT_SHELL = ("/bin/sh", "-c")
_DOCUMENTS = "/dev/pipes/"
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")


class _Inputs(Struct):
    """The inputs of the vertex as mounts come to need them; 0 is the tree it runs in."""

    vertices: list[Vertex]
    mounts: list[Mount] = field(default_factory=list)

    def index(self, vertex: Vertex) -> int:
        for index, known in enumerate(self.vertices[1:], 1):
            if known.digest == vertex.digest and known.operation == vertex.operation:
                return index
        self.vertices.append(vertex)
        return len(self.vertices) - 1


def shell_args(state: State, command: CommandLine) -> tuple[str, ...]:
    """The arguments, behind the shell if the command is a text."""
    if not command.shell:
        return command.args
    return (*(state.config.get("Shell") or DEFAULT_SHELL), " ".join(command.args))


def run(scope: Scope, state: State, instruction: Run, mounts: Sequence[tuple[RunMount, Source]]) -> None:
    """Raises DockerfileError."""
    if instruction.security == "insecure":
        raise DockerfileError("security.insecure is not allowed: builds are not given more than containers")
    options = scope.options
    inputs = _Inputs([state.vertex])
    code = instruction.origin.code
    command = instruction.command
    if command.heredocs:
        command, title = _with_documents(state, command, inputs)
        code += title
    args = shell_args(state, command)
    agents = count()
    inputs.mounts[:0] = [_mount(scope, state, mount, source, inputs, agents) for mount, source in mounts]
    secret_names = frozenset(mount.env for mount in inputs.mounts if isinstance(mount, Secret) and mount.env)
    vertex = Vertex(
        Exec(
            args,
            env=tuple(f"{name}={value}" for name, value in state.variables.items()),
            cwd=state.cwd,
            user=state.user,
            hostname=options.hostname,
            network=_network(scope, instruction),
            shm_size=options.shm_size,
            ulimits=options.ulimits,
            extra_hosts=options.extra_hosts,
            mounts=tuple(inputs.mounts),
            platform=state.platform if state.platform != options.host else None,
            proxy_env=_proxy_env(options.build_args),
        ),
        inputs.vertices,
        name=state.titled(display(scope, state, code, secret_names)),
        ignore_cache=state.anew,
    )
    state.commit(f"RUN {_with_arguments(state, args)} # buildkit", vertex)


def _network(scope: Scope, instruction: Run) -> str:
    wanted = instruction.network if instruction.network != "default" else scope.options.network
    if wanted == "host" and scope.options.network != "host" and "network.host" not in scope.options.allow:
        raise DockerfileError("network.host is not allowed: give the build --allow network.host")
    return "" if wanted == "default" else wanted


def _with_arguments(state: State, args: Sequence[str]) -> str:
    """Behind what the ARGs are, as the history tells it: `|2 A=1 B=2 /bin/sh -c make`."""
    values = [
        f"{definition.key}={state.variables.get(definition.key, definition.value or '')}"
        for definition in state.arguments
    ]
    named = [f"|{len(values)}", *values] if values else []
    return " ".join([*named, *args])


def _proxy_env(build_args: Mapping[str, str]) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for name, value in sorted(build_args.items()):
        if name.upper() in _PROXIES:
            found[name.upper()] = value
    return tuple(f"{name}={value}" for key, value in found.items() for name in (key, key.lower()))


def _with_documents(state: State, command: CommandLine, inputs: _Inputs) -> tuple[CommandLine, str]:
    """The command that runs here-documents, and what its title says of them.

    A document by itself is the script, or a program if it begins with `#!`; otherwise the shell gets the documents.
    """
    if len(command.args) != 1:
        raise DockerfileError(f"parsing produced an invalid run command: [{' '.join(command.args)}]")
    text, documents = command.args[0], command.heredocs
    if parse_heredoc(text) is None:
        whole = "".join([text, *(f"\n{document.content}{document.name}" for document in documents)])
        return CommandLine((whole,), shell=True), ""
    document = documents[0]
    title = f" ({_summary(document)})"
    if not document.text.startswith("#!"):
        return CommandLine((document.text,), shell=True), title
    made = Vertex(
        File((MakeFile("/" + document.name, document.text.encode("utf-8", "surrogateescape"), 0o755),)),
        (SCRATCH,),
        name="[internal] preparing inline document",
    )
    inputs.mounts.append(Bind(_DOCUMENTS, inputs.index(made), "/"))
    return CommandLine((posixpath.join(_DOCUMENTS, document.name),), shell=True), title


def _summary(document: Heredoc) -> str:
    lines = document.content.strip().replace("\r\n", "\n").split("\n")
    return lines[0] + "..." * (len(lines) > 1)


def _mount(
    scope: Scope, state: State, mount: RunMount, source: Source, inputs: _Inputs, agents: Iterator[int]
) -> Mount:
    if mount.kind == "secret":
        return _secret(state, mount)
    if mount.kind == "ssh":
        number = next(agents)
        return Ssh(
            mount.id or "default",
            posixpath.join("/", state.cwd, mount.target) if mount.target else f"/run/buildkit/ssh_agent.{number}",
            required=mount.required,
            uid=mount.uid or 0,
            gid=mount.gid or 0,
            mode=0o600 if mount.mode is None else mount.mode,
        )
    target = posixpath.normpath(posixpath.join("/", state.cwd, mount.target))
    if target.lstrip("/") == "":
        raise DockerfileError(f"invalid mount target {quote('/')}")
    if mount.kind == "tmpfs":
        return Tmpfs(target, mount.size)
    path = posixpath.normpath(posixpath.join("/", mount.source))
    if source.local:
        scope.needs(source.local, path)
    if mount.kind == "bind":
        return Bind(target, inputs.index(source.vertex), "" if path == "/" else path, readonly=mount.readonly)
    return Cache(
        target,
        mount.id or posixpath.normpath(mount.target),
        sharing=mount.sharing or "shared",
        input=-1 if source.vertex == SCRATCH else inputs.index(source.vertex),
        source="" if path == "/" else path,
        readonly=mount.readonly,
        uid=mount.uid or 0,
        gid=mount.gid or 0,
        mode=0o755 if mount.mode is None else mount.mode,
    )


def _secret(state: State, mount: RunMount) -> Secret:
    name = mount.source or mount.id
    if not name:
        if not mount.target:
            raise DockerfileError("one of source, target required")
        name = posixpath.basename(mount.target)
    target = posixpath.normpath(posixpath.join("/", state.cwd, mount.target)) if mount.target else ""
    if not target and mount.env is None:
        target = "/run/secrets/" + posixpath.basename(name)
    return Secret(
        name,
        target,
        mount.env or "",
        required=mount.required,
        uid=mount.uid or 0,
        gid=mount.gid or 0,
        mode=0o400 if mount.mode is None else mount.mode,
    )
