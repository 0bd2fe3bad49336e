"""COPY and ADD to a vertex (Dockerfile reference, "COPY", "ADD")."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import urlsplit

from msgspec import Struct, field, structs

from wherry.model.build_graph import (
    SCRATCH,
    Copy,
    File,
    GitSource,
    HttpSource,
    MakeFile,
    Merge,
    Owner,
    Vertex,
)
from wherry.model.dockerfile import checks
from wherry.model.dockerfile.git_urls import GitUrl, by_ssh, is_web, parse_git_url
from wherry.model.dockerfile.ignore import IgnoreRules
from wherry.model.dockerfile.instructions import CopyFiles
from wherry.model.dockerfile.source import DockerfileError
from wherry.model.dockerfile.state import Scope, Source, State, display
from wherry.model.gotext import quote

_OCTAL = re.compile(r"[0-7]{1,11}")
_SYMBOLIC = re.compile(r"[ugoa]*([-+=]([rwxXst]*|[ugo]))+(,[ugoa]*([-+=]([rwxXst]*|[ugo]))+)*")
_CHECKSUM = re.compile(r"(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})")
_WILDCARD = re.compile(r"[*?\[]")
_UNNAMED = "__unnamed__"


class _Copying(Struct):
    """The actions of one instruction, and the inputs that they use."""

    defaults: Copy
    inputs: list[Vertex]
    actions: list[Copy] = field(default_factory=list)

    def add(self, vertex: Vertex, action: Copy) -> None:
        if vertex not in self.inputs[1:]:
            self.inputs.append(vertex)
        self.actions.append(_changed(action, input=self.inputs.index(vertex, 1)))


def _changed(action: Copy, **changes: object) -> Copy:
    return structs.replace(action, **changes)


def copy(scope: Scope, state: State, instruction: CopyFiles, source: Source) -> None:
    """Raises DockerfileError."""
    keyword = "ADD" if instruction.add else "COPY"
    _check_checksum(instruction)
    title = display(scope, state, instruction.origin.code)
    numbered = state.titled(title)
    linked = instruction.link and not instruction.chmod
    below = SCRATCH if linked else state.vertex
    copying = _Copying(_common(scope, state, instruction), [below])
    for path in instruction.sources:
        git = parse_git_url(path)
        if git is not None:
            _add_git(copying, instruction, git, numbered)
        elif is_web(path):
            _add_web(copying, instruction, path, numbered)
        else:
            _add_files(scope, copying, instruction, source, path)
    for document in instruction.documents:
        made = Vertex(
            File((MakeFile("/" + document.name, document.text.encode("utf-8", "surrogateescape"), 0o644),)),
            (SCRATCH,),
            name="[internal] preparing inline document",
        )
        copying.add(made, _changed(copying.defaults, source="/" + document.name))
    vertex = Vertex(File(tuple(copying.actions)), copying.inputs, name=numbered, ignore_cache=state.anew)
    if linked:
        name = numbered.replace(title, "LINK " + title)
        vertex = Vertex(Merge(), (state.vertex, vertex), name=name, ignore_cache=state.anew)
    state.commit(_created_by(keyword, instruction) + " # buildkit", vertex)


def _created_by(keyword: str, instruction: CopyFiles) -> str:
    words = [keyword]
    if instruction.parents:
        words.append("--parents")
    if instruction.chown:
        words.append(f"--chown={instruction.chown}")
    if instruction.chmod:
        words.append(f"--chmod={instruction.chmod}")
    words += instruction.sources
    words += [f"<<{document.name}" for document in instruction.documents]
    return " ".join([*words, instruction.destination])


def _common(scope: Scope, state: State, instruction: CopyFiles) -> Copy:
    return Copy(
        input=0,
        source="",
        destination=_destination(state.cwd, instruction.destination),
        owner=_owner(instruction.chown),
        mode=_mode(instruction.chmod),
        exclude=instruction.exclude,
        time_ns=None if scope.options.epoch is None else scope.options.epoch * 1_000_000_000,
    )


def _destination(cwd: str, written: str) -> str:
    """Absolute and clean; a slash at the end stays, for it says that a directory is meant."""
    if written in ("", "."):
        written = "./"
    path = posixpath.normpath(posixpath.join("/", cwd, written))
    path = "/" + path.lstrip("/")
    return path + "/" if written.endswith(("/", "/.")) and path != "/" else path


def _owner(text: str) -> Owner | None:
    if not text:
        return None
    user, _, group = text.partition(":")
    return Owner(user, group)


def _mode(text: str) -> str:
    if not text:
        return ""
    if _OCTAL.fullmatch(text):
        if int(text, 8) <= 0o7777:
            return text
    elif _SYMBOLIC.fullmatch(text):
        return text
    raise DockerfileError(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")


def _check_checksum(instruction: CopyFiles) -> None:
    if not instruction.checksum:
        return
    if len(instruction.sources) != 1 or instruction.documents:
        raise DockerfileError("checksum can't be specified for multiple sources")
    path = instruction.sources[0]
    if not is_web(path) and parse_git_url(path) is None:
        raise DockerfileError("checksum requires HTTP(S) or Git sources")


def _add_git(copying: _Copying, instruction: CopyFiles, url: GitUrl, name: str) -> None:
    if not instruction.add:
        raise DockerfileError("source can't be a git ref for COPY")
    keep = instruction.keep_git_dir
    if None not in (keep, url.keep_git) and keep != url.keep_git:
        raise DockerfileError("inconsistent keep-git-dir configuration")
    if instruction.checksum and url.checksum and instruction.checksum != url.checksum:
        raise DockerfileError(f"checksum mismatch {quote(instruction.checksum)} != {quote(url.checksum)}")
    operation = GitSource(
        url.remote,
        url.ref,
        url.subdir,
        keep_git=bool(url.keep_git if keep is None else keep),
        checksum=instruction.checksum or url.checksum,
        ssh="default" if by_ssh(url.remote) else "",
    )
    copying.add(Vertex(operation, name=name), _changed(copying.defaults, source="/", contents_only=True))


def _add_web(copying: _Copying, instruction: CopyFiles, url: str, name: str) -> None:
    if not instruction.add:
        raise DockerfileError("source can't be a URL for COPY")
    if instruction.checksum and not _CHECKSUM.fullmatch(instruction.checksum):
        raise DockerfileError("invalid checksum digest format")
    filename = posixpath.basename(urlsplit(url).path.rstrip("/")) or _UNNAMED
    source = Vertex(HttpSource(url, checksum=instruction.checksum, filename=filename), name=name)
    action = _changed(copying.defaults, source="/" + filename, unpack=bool(instruction.unpack))
    copying.add(source, action)


def _add_files(scope: Scope, copying: _Copying, instruction: CopyFiles, source: Source, path: str) -> None:
    if source.is_context:
        _check_ignored(scope, instruction, path)
    if source.local:
        scope.needs(source.local, posixpath.normpath("/" + path))
    copying.add(
        source.vertex,
        _changed(
            copying.defaults,
            follow=True,
            wildcard=True,
            allow_empty=True,
            contents_only=True,
            unpack=instruction.add if instruction.unpack is None else instruction.unpack,
            **(_with_parents(path) if instruction.parents else {"source": _clean(path)}),
        ),
    )


def _with_parents(path: str) -> dict[str, object]:
    """A path of which the folders are kept, those after "/./" if it has that. `**` may be among its wildcards."""
    base, pivot, inner = path.partition("/./")
    if not pivot:
        base, inner = "/", path
    base, inner = _clean(base), _clean(inner).lstrip("/")
    if _WILDCARD.search(inner):
        return {"source": base, "include": (inner,)}
    return {"source": f"{base.rstrip('/')}/./{inner}", "parents": True}


def _clean(path: str) -> str:
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def _check_ignored(scope: Scope, instruction: CopyFiles, path: str) -> None:
    """With exceptions it cannot be said beforehand what is left out."""
    main = scope.options.main
    patterns = getattr(main, "exclude", ())
    if not patterns:
        return
    rules = IgnoreRules(patterns)
    relative = posixpath.normpath("/" + path).lstrip("/")
    everything = not relative and any(pattern in ("*", "**", "**/*") for pattern in rules.patterns)
    if rules.has_exceptions or not (everything or (relative and rules.ignores(relative))):
        return
    verb = "Add" if instruction.add else "Copy"
    message = f"Attempting to {verb} file {quote(relative or '.')} that is excluded by .dockerignore"
    scope.checks.report(checks.COPY_IGNORED_FILE, instruction.origin.lines, message)
