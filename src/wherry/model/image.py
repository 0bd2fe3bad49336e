"""Images: the configuration document (OCI image-spec config.md) and our record of one."""

from __future__ import annotations

import calendar
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from wherry.errors import InvalidParameter
from wherry.model.config import Config
from wherry.model.manifests import LAYERS_MAX

ImageConfig = Config
"""What an image says about the containers made from it; the same fields as a container's own configuration."""


class History(Struct, omit_defaults=True):
    """How one layer came to be (config.md, `history`)."""

    created: str | None = None
    author: str = ""
    created_by: str = ""
    comment: str = ""
    empty_layer: bool = False


class Image(Struct, kw_only=True):
    """An image as the records keep it. `created` is RFC 3339 as written in the configuration ("" where absent)."""

    id: str  # sha256:... of the configuration document
    config: ImageConfig = field(default_factory=Config)
    chain_id: str = ""  # of the top layer, "" without layers
    diff_ids: list[str] = field(default_factory=list)
    architecture: str = ""
    os: str = "linux"
    os_version: str = ""
    variant: str = ""
    author: str = ""
    comment: str = ""
    created: str = ""
    created_ns: int = 0  # since the epoch; 0 where absent
    docker_version: str = ""
    history: list[History] = field(default_factory=list)
    size: int = 0  # bytes of all unpacked layers
    layer_sizes: list[int] = field(default_factory=list)  # parallel to diff_ids
    parent: str = ""  # ID of the image it was built on, where known
    last_tag_ns: int = 0
    repo_tags: list[str] = field(default_factory=list)  # familiar, sorted; kept with the names, not in the record
    repo_digests: list[str] = field(default_factory=list)


class ArchiveItem(Struct, rename="pascal"):
    """One image in a docker archive's manifest.json."""

    config: str = ""
    repo_tags: list[str] | None = None
    layers: list[str] | None = None
    parent: str = ""


class _RootFS(Struct):
    type: str = "layers"
    diff_ids: list[str] | None = None


class _Document(Struct, kw_only=True):
    architecture: str | None = None
    os: str | None = None
    os_version: str | None = field(default=None, name="os.version")
    variant: str | None = None
    author: str | None = None
    comment: str | None = None
    created: str | None = None
    docker_version: str | None = None
    config: dict[str, Any] | None = None
    rootfs: _RootFS | None = None
    history: list[History] | None = None


_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def chain_ids(diff_ids: Iterable[str]) -> list[str]:
    """The chain ID of every layer, bottom first (config.md, "Layer ChainID")."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(next_chain_id(chain[-1] if chain else "", diff_id))
    return chain


def next_chain_id(parent: str, diff_id: str) -> str:
    """The chain ID of a layer on top of `parent` ("" for the bottom)."""
    return digest_of(f"{parent} {diff_id}".encode()) if parent else diff_id


def parse_image(document: bytes) -> Image:
    """An image from its configuration document. Raises InvalidParameter where the document is none."""
    try:
        parsed = msgspec.json.decode(document, type=_Document)
        config = decode_config(parsed.config or {})
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter(f"invalid image configuration: {error}") from None
    if parsed.rootfs is None:
        raise InvalidParameter("invalid image JSON, no RootFS key")
    diff_ids = parsed.rootfs.diff_ids or []
    if len(diff_ids) > LAYERS_MAX:
        raise InvalidParameter(
            f"max depth exceeded: the image has {len(diff_ids)} layers, at most {LAYERS_MAX} can be mounted"
        )
    for diff_id in diff_ids:
        if not _DIGEST.fullmatch(diff_id):
            raise InvalidParameter(f"invalid image configuration: invalid layer digest {diff_id[:100]!r}")
    chain = chain_ids(diff_ids)
    created = parsed.created or ""
    return Image(
        id=digest_of(document),
        config=config,
        chain_id=chain[-1] if chain else "",
        diff_ids=diff_ids,
        architecture=parsed.architecture or "",
        os=parsed.os or "linux",
        os_version=parsed.os_version or "",
        variant=parsed.variant or "",
        author=parsed.author or "",
        comment=parsed.comment or "",
        created=created,
        created_ns=rfc3339_ns(created),
        docker_version=parsed.docker_version or "",
        history=parsed.history or [],
    )


_CONFIG_FIELDS = {f.encode_name.lower(): f.encode_name for f in msgspec.structs.fields(Config)}


def decode_config(fields: Mapping[str, Any]) -> ImageConfig:
    """A configuration as Go reads it: key case does not matter, null is the default, a string is a list of one.

    Raises msgspec.ValidationError.
    """
    folded: dict[str, Any] = {}
    for key, value in fields.items():
        name = _CONFIG_FIELDS.get(key.lower())
        if name is None or value is None:
            continue
        folded[name] = [value] if name in ("Cmd", "Entrypoint", "Shell") and isinstance(value, str) else value
    return msgspec.convert(folded, Config)


def config_json(config: ImageConfig) -> dict[str, Any]:
    """A configuration as Docker writes it into images and shows it (container.Config with its omitempty fields)."""
    shown: dict[str, Any] = {
        "Hostname": config.hostname,
        "Domainname": config.domainname,
        "User": config.user,
        "AttachStdin": config.attach_stdin,
        "AttachStdout": config.attach_stdout,
        "AttachStderr": config.attach_stderr,
    }
    if config.exposed_ports:
        shown["ExposedPorts"] = config.exposed_ports
    shown |= {
        "Tty": config.tty,
        "OpenStdin": config.open_stdin,
        "StdinOnce": config.stdin_once,
        "Env": config.env,
        "Cmd": config.cmd,
    }
    if config.healthcheck is not None:
        shown["Healthcheck"] = config.healthcheck
    if config.args_escaped:
        shown["ArgsEscaped"] = True
    shown |= {
        "Image": config.image,
        "Volumes": config.volumes,
        "WorkingDir": config.working_dir,
        "Entrypoint": config.entrypoint,
    }
    if config.network_disabled:
        shown["NetworkDisabled"] = True
    if config.mac_address:
        shown["MacAddress"] = config.mac_address
    shown |= {"OnBuild": config.on_build, "Labels": config.labels}
    if config.stop_signal:
        shown["StopSignal"] = config.stop_signal
    if config.stop_timeout is not None:
        shown["StopTimeout"] = config.stop_timeout
    if config.shell:
        shown["Shell"] = config.shell
    return shown


_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)")


def rfc3339_ns(text: str) -> int:
    """Nanoseconds since the epoch; 0 for what is no RFC 3339 time and for Go's zero time (year 1)."""
    match = _RFC3339.fullmatch(text)
    if match is None or match[1] == "0001":
        return 0
    seconds = calendar.timegm(tuple(int(match[i]) for i in range(1, 7)))
    if match[8] not in "Zz":
        hours, minutes = match[8][1:].split(":")
        seconds -= (1 if match[8][0] == "+" else -1) * (int(hours) * 3600 + int(minutes) * 60)
    return seconds * 1_000_000_000 + int((match[7] or "0")[:9].ljust(9, "0"))
