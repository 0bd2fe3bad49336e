"""`context create|export|import|inspect|ls|rm|show|update|use`."""

from __future__ import annotations

import os
import sys

from wherry.cli import contexts, program
from wherry.cli.contexts import DEFAULT_DESCRIPTION, FILES, StoredContext
from wherry.cli.credentials import Store
from wherry.cli.endpoint import DEFAULT_CONTEXT, context_name, given_host
from wherry.cli.errors import Failure
from wherry.client.connection import AddressError, parse_host
from wherry.model import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.context import Context

_KEYS = ("from", "host", "ca", "cert", "key", "skip-tls-verify")


def _find(context: Context, name: str) -> StoredContext:
    """By name; the default is what flags and environment say. Raises Failure."""
    if name != DEFAULT_CONTEXT:
        try:
            return contexts.load(name)
        except Failure as failure:
            raise Failure(failure.text.partition(" endpoint: ")[2] or failure.text) from None
    host = given_host(context.root) or program.DEFAULT_HOST
    return contexts.made(DEFAULT_CONTEXT, "", {"Host": host, "SkipTLSVerify": False}, {})


def create(context: Context) -> int:
    (name,) = context.arguments
    contexts.check_name(name)
    if contexts.exists(name):
        raise Failure(f'context "{name}" already exists')
    flags = context.flags
    source = flags.text("from")
    if not source and not flags.changed("docker"):
        source = context_name(context.root)
    if source:
        made = _find(context, source)
        description = flags.text("description") or made.description
        if source == DEFAULT_CONTEXT:
            description = description or DEFAULT_DESCRIPTION
        docker, tls = made.docker, made.tls
        if flags.changed("docker"):
            raise Failure("cannot use --docker flag when --from is set")
    else:
        description = flags.text("description")
        docker, tls = _endpoint(context, flags.pairs("docker"))
    contexts.save(contexts.made(name, description, docker, tls))
    print(name, flush=True)
    print(f'Successfully created context "{name}"', file=sys.stderr)
    return 0


def update(context: Context) -> int:
    (name,) = context.arguments
    contexts.check_name(name)
    found = _find(context, name)
    if context.flags.changed("description"):
        found.document["Metadata"] = {
            **(found.document.get("Metadata") or {}),
            "Description": context.flags.text("description"),
        }
    if context.flags.changed("docker"):
        docker, found.tls = _endpoint(context, context.flags.pairs("docker"))
        found.document["Endpoints"] = {**(found.document.get("Endpoints") or {}), "docker": docker}
    contexts.save(found)
    print(name, flush=True)
    print(f'Successfully updated context "{name}"', file=sys.stderr)
    return 0


def _endpoint(context: Context, given: dict[str, str]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Of `--docker KEY=VALUE,...`. Raises Failure."""
    prefix = "unable to create docker endpoint config: "
    for key in given:
        if key not in _KEYS:
            raise Failure(f"{prefix}unrecognized config key: {key}")
    if source := given.get("from"):
        found = _find(context, source)
        return found.docker, found.tls
    skip = given.get("skip-tls-verify", "false") or "false"
    if skip.lower() not in ("1", "t", "true", "0", "f", "false"):
        raise Failure(f'{prefix}skip-tls-verify: parsing "{skip}": invalid syntax')
    tls = {}
    for key, name in zip(("ca", "cert", "key"), FILES, strict=True):
        if path := given.get(key):
            try:
                with open(os.path.expanduser(path), "rb") as file:
                    tls[name] = file.read()
            except OSError as error:
                raise Failure(f"{prefix}open {path}: {os.strerror(error.errno or 0).lower()}") from None
    host = given.get("host", "")
    try:
        parse_host(host or program.DEFAULT_HOST)
    except AddressError as error:
        raise Failure(f"{prefix}invalid docker endpoint options: {error}") from None
    _check_tls(tls, prefix)
    return {"Host": host or program.DEFAULT_HOST, "SkipTLSVerify": skip.lower() in ("1", "t", "true")}, tls


def _check_tls(tls: dict[str, bytes], prefix: str) -> None:
    for name, data in tls.items():
        if b"-----BEGIN " not in data:
            raise Failure(
                f"{prefix}invalid docker endpoint options: failed to retrieve context tls info: {name} seems invalid"
            )
    if ("cert.pem" in tls) != ("key.pem" in tls):
        raise Failure(f"{prefix}invalid docker endpoint options: a certificate and its key go together (cert=, key=)")


class _Row:
    def __init__(self, name: str, *, current: bool, description: str = "", host: str = "", error: str = "") -> None:
        self.name = name
        self.current = current
        self.description = description
        self.host = host
        self.error = error


HEADERS = {
    "Name": "NAME",
    "Starred": "NAME",
    "Description": "DESCRIPTION",
    "DockerEndpoint": "DOCKER ENDPOINT",
    "Error": "ERROR",
    "Current": "CURRENT",
}


def ls(context: Context) -> int:
    from wherry.cli.humanize import ellipsis
    from wherry.cli.listing import Listing

    fields = {
        "Current": lambda row: row.current,
        "Description": lambda row: row.description,
        "DockerEndpoint": lambda row: row.host,
        "Error": lambda row: ellipsis(row.error, 45),
        "Name": lambda row: row.name,
    }
    starred = {"Starred": lambda row: f"{row.name} *" if row.current else row.name}
    current = context_name(context.root)
    rows = []
    known = contexts.names()
    for name in sorted({*known, DEFAULT_CONTEXT, current}):
        try:
            found = _find(context, name)
        except Failure as failure:
            rows.append(_Row(name, current=name == current, error=failure.text))
            continue
        description = DEFAULT_DESCRIPTION if name == DEFAULT_CONTEXT else found.description
        rows.append(_Row(name, current=name == current, description=description, host=found.host))
    form = context.flags.text("format")
    if context.flags.on("quiet") or form not in ("", "table"):
        Listing("*formatter.ClientContext", HEADERS, fields).show(
            rows, ["Name"], form, quiet="Name" if context.flags.on("quiet") else ""
        )
        return 0
    Listing("*formatter.ClientContext", HEADERS, fields | starred).show(
        rows, ["Starred", "Description", "DockerEndpoint", "Error"]
    )
    _warn_of_environment("", chosen=context.root.text("context"), current=current)
    return 0


def _warn_of_environment(name: str, *, chosen: str, current: str) -> None:
    variable = next((one for one in ("WHERRY_HOST", "DOCKER_HOST") if os.environ.get(one)), "")
    if variable and not chosen and current == DEFAULT_CONTEXT:
        which = f'"{name}"' if name else "a context"
        print(
            f"Warning: {variable} environment variable overrides the active context. To use {which}, either set the "
            f"global --context flag, or unset {variable} environment variable.",
            file=sys.stderr,
        )


def show(context: Context) -> int:
    print(context_name(context.root))
    return 0


def use(context: Context) -> int:
    (name,) = context.arguments
    if name != DEFAULT_CONTEXT:
        _find(context, name)
    Store().choose_context("" if name == DEFAULT_CONTEXT else name)
    print(name, flush=True)
    print(f'Current context is now "{name}"', file=sys.stderr)
    if name != DEFAULT_CONTEXT:
        _warn_of_environment(name, chosen="", current=context_name(context.root))
    return 0


def rm(context: Context) -> int:
    force = context.flags.on("force")
    current = context_name(context.root)
    problems = []
    for name in context.arguments:
        if name == DEFAULT_CONTEXT:
            problems.append('context "default" cannot be removed')
        elif not contexts.exists(name) and not force:
            problems.append(f'context "{name}" does not exist')
        elif name == current and not force:
            problems.append(f'context "{name}" is in use, set -f flag to force remove')
        else:
            if name == Store().context:
                Store().choose_context("")
            contexts.remove(name)
            print(name)
    if problems:
        raise Failure("\n".join(problems))
    return 0


def inspect(context: Context) -> int:
    from wherry.cli.commands.inspect import show_each

    context.arguments = context.arguments or [context_name(context.root)]

    def shown(name: str) -> tuple[str, bytes]:
        found = _find(context, name)
        in_memory = name == DEFAULT_CONTEXT
        document = {
            "Name": name,
            "Metadata": found.document.get("Metadata") or {},
            "Endpoints": found.document.get("Endpoints") or {},
            "TLSMaterial": {"docker": sorted(found.tls)} if found.tls else {},
            "Storage": {
                "MetadataPath": "<IN MEMORY>" if in_memory else contexts.meta_folder(name),
                "TLSPath": "<IN MEMORY>" if in_memory else contexts.tls_folder(name),
            },
        }
        text = jsontext.dumps(document, sort=False).replace("<", "\\u003c").replace(">", "\\u003e")  # as Go does
        return "", text.encode("utf-8", "surrogateescape")

    return show_each(context, shown)


def export(context: Context) -> int:
    from wherry.cli import contextfiles

    name, *given = context.arguments
    found = _find(context, name)
    target = given[0] if given else f"{name}.dockercontext"
    if target == "-":
        if sys.stdout.isatty():
            raise Failure("refusing to export to a terminal, specify a file path")
        sys.stdout.buffer.write(contextfiles.pack(found))
        return 0
    try:
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failure(f"open {target}: {os.strerror(error.errno or 0).lower()}") from None
    with os.fdopen(handle, "wb") as file:
        file.write(contextfiles.pack(found))
    print(f'Written file "{target}"', file=sys.stderr)
    return 0


def import_(context: Context) -> int:
    from wherry.cli import contextfiles

    name, source = context.arguments
    contexts.check_name(name)
    if contexts.exists(name):
        raise Failure(f'context "{name}" already exists')
    if source == "-":
        data = sys.stdin.buffer.read(contextfiles.MAX_SIZE + 1)
    else:
        try:
            with open(source, "rb") as file:
                data = file.read(contextfiles.MAX_SIZE + 1)
        except OSError as error:
            raise Failure(f"open {source}: {os.strerror(error.errno or 0).lower()}") from None
    contexts.save(contextfiles.unpack(name, data))
    print(name, flush=True)
    print(f'Successfully imported context "{name}"', file=sys.stderr)
    return 0
