"""The protocol of a build session: one connection between a client and the engine, both ways, for one build.

A frame is a 32-bit length and a 32-bit stream number, big-endian, then that many bytes. Stream 0 carries JSON, an
object a frame; what it says may open other streams, whose numbers the engine chooses. Those carry bytes; a frame with
none ends one direction of one. docs/api.md tells which objects there are.
"""

from __future__ import annotations

import struct

from msgspec import Struct

_HEAD = struct.Struct(">II")
LARGEST = 1 << 20  # bytes in one frame
UPGRADE = "wherry-build"


class Malformed(ValueError):
    """What came is no frame."""


def frame(stream: int, data: bytes) -> bytes:
    """One frame; at most LARGEST bytes."""
    return _HEAD.pack(len(data), stream) + data


def frame_head(stream: int, length: int) -> bytes:
    """What comes before the bytes of one."""
    return _HEAD.pack(length, stream)


class Frames:
    """Puts frames together from pieces as they come."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []  # what the next frame begins with
        self._size = 0  # of that
        self._wanted = _HEAD.size  # so much of it tells more

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames that are complete now. Raises Malformed."""
        self._waiting.append(data)
        self._size += len(data)
        if self._size < self._wanted:
            return []
        whole = memoryview(data if len(self._waiting) == 1 else b"".join(self._waiting))
        found: list[tuple[int, bytes]] = []
        while True:
            self._wanted = _HEAD.size
            if len(whole) >= _HEAD.size:
                length, stream = _HEAD.unpack_from(whole)
                if length > LARGEST:
                    raise Malformed(f"a frame of {length} bytes")
                self._wanted += length
            if len(whole) < self._wanted:
                break
            found.append((stream, bytes(whole[_HEAD.size : self._wanted])))
            whole = whole[self._wanted :]
        self._waiting = [bytes(whole)] if whole else []
        self._size = len(whole)
        return found


class ContextOffer(Struct, omit_defaults=True):
    """A named context: one of a directory of the client's (`local`), an image, or a URL or Git repository; or an image
    in an OCI layout: the number of the client's directory, and a tag or digest ("": the only one).
    """

    local: bool = False
    exclude: list[str] = []
    image: str = ""
    url: str = ""
    layout: int | None = None
    ref: str = ""


class Output(Struct, omit_defaults=True):
    """What shall come out: `image` into the engine, or an archive to the client: `docker`, `oci` or `tar`.

    An image with `push` goes to the registries that its names are of, too. How its layers are compressed is as in
    `wherry.model.layer_formats`, "" for as they are. A `tar` of several platforms has a folder for each, unless it is
    not to be split; names of what is attested beside its files begin with a prefix.
    """

    type: str = "image"
    name: str = ""
    push: bool = False
    push_by_digest: bool = False  # under no tag there
    annotations: list[str] = []  # as those of the order
    compression: str = ""  # gzip, zstd, uncompressed
    compression_level: int | None = None
    force_compression: bool = False
    oci_mediatypes: bool | None = None  # None: as the engine thinks best
    rewrite_timestamp: bool | None = None  # of files of new layers, to SOURCE_DATE_EPOCH
    platform_split: bool | None = None  # None: where there are several platforms
    attestation_prefix: str = ""

    @property
    def packaged(self) -> bool:
        """Whether something is said of how it is packaged."""
        said = self.compression or self.compression_level is not None or self.force_compression
        return bool(said) or self.oci_mediatypes is not None


class CachePlace(Struct, omit_defaults=True):
    """Where results of builds are kept for others: `type` is "registry" (`ref`), "local" or "inline".

    `directory` is the number of the client's directory, in which `tag` or `digest` names a manifest. The rest counts
    when it is written: `mode` "min" (what the image is made of) or "max" (every step), `compression` "gzip" or "zstd".
    """

    type: str = "registry"
    ref: str = ""
    directory: int = 0
    tag: str = "latest"
    digest: str = ""
    mode: str = "min"
    ignore_error: bool = False
    compression: str = "gzip"
    image_manifest: bool = True
    oci_mediatypes: bool = True

    @property
    def shown(self) -> str:
        """As people are told of it."""
        return self.ref if self.type == "registry" else self.type


class UlimitOption(Struct, omit_defaults=True):
    name: str
    soft: int
    hard: int


class BuildOrder(Struct, omit_defaults=True, kw_only=True):
    """What the client asks for; the first object it sends, under the key `build`.

    `context` is what the main context is: "local", "archive" (the client sends a tar when asked), or a URL. `identity`
    names the client's directory from one build to the next.
    """

    dockerfile: bytes = b""
    dockerfile_name: str = "Dockerfile"
    context: str = "local"
    identity: str = ""
    exclude: list[str] = []
    contexts: dict[str, ContextOffer] = {}
    names: list[str] = []
    target: str = ""
    platform: str = ""
    build_args: dict[str, str] = {}
    labels: dict[str, str] = {}
    no_cache: bool = False
    no_cache_filter: list[str] = []
    pull: bool = False
    network: str = ""
    extra_hosts: list[str] = []
    shm_size: int = 0
    ulimits: list[UlimitOption] = []
    cgroup_parent: str = ""
    allow: list[str] = []
    secrets: list[str] = []
    agents: list[str] = []
    known_hosts: str = ""  # as sshd(8) has the file; hosts that are not in it are believed at first sight
    outputs: list[Output] = []
    annotations: list[str] = []  # [TYPE[PLATFORM]:]KEY=VALUE
    attestations: dict[str, dict[str, str]] = {}  # "provenance", "sbom": the options of each
    cache_from: list[CachePlace] = []
    cache_to: list[CachePlace] = []
    registry_auth: str = ""  # as X-Registry-Config
