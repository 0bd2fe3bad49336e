"""Contexts, where Docker's clients keep them: named engines, with what it takes to reach them.

Source: docker-cli's documentation of `docker context` and the files it writes: below the configuration folder
`contexts/meta/DIGEST/meta.json` and `contexts/tls/DIGEST/docker/{ca,cert,key}.pem`, where DIGEST is that of the name.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile

from wherry.cli import credentials, program
from wherry.cli.endpoint import DEFAULT_CONTEXT, Endpoint
from wherry.cli.errors import Failure
from wherry.client.connection import TlsFiles
from wherry.model import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

FILES = ("ca.pem", "cert.pem", "key.pem")
DEFAULT_DESCRIPTION = "Current DOCKER_HOST based configuration"

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.+-]+")


class StoredContext:
    """One context: its metadata document, and the contents of its TLS files by name."""

    def __init__(self, name: str, document: dict[str, Any], tls: Mapping[str, bytes] | None = None) -> None:
        self.name = name
        self.document = document
        self.tls = dict(tls or {})

    @property
    def description(self) -> str:
        return str((self.document.get("Metadata") or {}).get("Description") or "")

    @property
    def docker(self) -> dict[str, Any]:
        """Host and SkipTLSVerify."""
        return dict((self.document.get("Endpoints") or {}).get("docker") or {})

    @property
    def host(self) -> str:
        return str(self.docker.get("Host") or "")

    def endpoint(self) -> Endpoint:
        skip = bool(self.docker.get("SkipTLSVerify"))
        if not self.tls and not skip:
            return Endpoint(self.host)
        places = [os.path.join(tls_folder(self.name), "docker", name) if name in self.tls else "" for name in FILES]
        return Endpoint(self.host, TlsFiles(*places, verify=not skip))


def made(name: str, description: str, docker: dict[str, Any], tls: Mapping[str, bytes]) -> StoredContext:
    metadata = {"Description": description} if description else {}
    return StoredContext(name, {"Name": name, "Metadata": metadata, "Endpoints": {"docker": docker}}, tls)


def check_name(name: str) -> None:
    """Raises Failure for one that cannot be given."""
    if not name:
        raise Failure("context name cannot be empty")
    if name == DEFAULT_CONTEXT:
        raise Failure('"default" is a reserved context name')
    if not _NAME.fullmatch(name):
        raise Failure(
            f'context name "{name}" is invalid, names are validated against regexp "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$"'
        )


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def meta_folder(name: str) -> str:
    return os.path.join(credentials.folder(), "contexts", "meta", _digest(name))


def tls_folder(name: str) -> str:
    return os.path.join(credentials.folder(), "contexts", "tls", _digest(name))


def exists(name: str) -> bool:
    return os.path.exists(os.path.join(meta_folder(name), "meta.json"))


def load(name: str) -> StoredContext:
    """Raises Failure in docker's words."""
    path = os.path.join(meta_folder(name), "meta.json")
    try:
        with open(path, "rb") as file:
            document = jsontext.loads(file.read())
        if not isinstance(document, dict):
            raise ValueError("it is not an object")
    except OSError as error:
        reason = f"open {path}: {os.strerror(error.errno or 0).lower()}"
        raise Failure(
            f"Failed to initialize: unable to resolve {program.NAME} endpoint: "
            f'context "{name}": context not found: {reason}'
        ) from None
    except ValueError as error:
        raise Failure(f'context "{name}": parsing {path}: {error}') from None
    return StoredContext(name, document, _tls_of(name))


def _tls_of(name: str) -> dict[str, bytes]:
    found = {}
    for file_name in FILES:
        try:
            with open(os.path.join(tls_folder(name), "docker", file_name), "rb") as file:
                found[file_name] = file.read()
        except OSError:
            continue
    return found


def names() -> list[str]:
    """All but the default, sorted."""
    folder = os.path.join(credentials.folder(), "contexts", "meta")
    found = []
    try:
        entries = os.listdir(folder)
    except OSError:
        return []
    for entry in entries:
        try:
            with open(os.path.join(folder, entry, "meta.json"), "rb") as file:
                name = str(jsontext.loads(file.read())["Name"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if _digest(name) == entry:
            found.append(name)
    return sorted(found)


def save(context: StoredContext) -> None:
    """Write it, each file at once. Raises Failure."""
    document = jsontext.dumps(context.document, sort=False).encode("utf-8", "surrogateescape")
    try:
        tls = os.path.join(tls_folder(context.name), "docker")
        shutil.rmtree(tls_folder(context.name), ignore_errors=True)
        for file_name, data in context.tls.items():
            os.makedirs(tls, mode=0o700, exist_ok=True)
            _write(os.path.join(tls, file_name), data)
        os.makedirs(meta_folder(context.name), mode=0o755, exist_ok=True)
        _write(os.path.join(meta_folder(context.name), "meta.json"), document)
    except OSError as error:
        raise Failure(f'context "{context.name}": {error.filename}: {os.strerror(error.errno or 0).lower()}') from None


def _write(path: str, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path))  # 0600
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    os.replace(temporary, path)


def remove(name: str) -> None:
    shutil.rmtree(tls_folder(name), ignore_errors=True)
    shutil.rmtree(meta_folder(name), ignore_errors=True)
