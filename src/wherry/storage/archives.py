"""Image archives: reading docker archives and OCI layouts, writing what is both (as Docker since 25).

OCI image-spec image-layout.md; for the docker archive, the code of those who write it is the specification:
`manifest.json` lists configurations, names and layers, whose members may be links to one another in older ones.
"""

from __future__ import annotations

import posixpath
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import msgspec

from wherry.errors import InvalidParameter
from wherry.model.image import ArchiveItem, Image, digest_of
from wherry.model.manifests import (
    INDEXES,
    MEDIA_CONFIG,
    MEDIA_LAYER,
    MEDIA_MANIFEST,
    NESTING_MAX,
    Descriptor,
    Index,
    Manifest,
    platform_of,
)
from wherry.model.platforms import Platform
from wherry.model.reference import Reference, parse
from wherry.storage import tar
from wherry.storage.blobs import Blobs, Ingest
from wherry.storage.streams import Decompressed, compression_of
from wherry.storage.tar import BadArchive, Source, TarReader

_MEMBERS_MAX = 20_000
_DOCUMENT_MAX = 16 << 20  # bytes of one JSON document
_DOCUMENTS_MAX = 10_000  # read of one archive
_DOCUMENTS_SIZE = 64 << 20  # bytes of them all
_IMAGES_MAX = 1_000  # in one archive
_LINKS_MAX = 8
_DIRECTORY = (
    "not an image archive: manifest.json is the manifest of one image, as in a directory of the transport dir: of"
    " skopeo, Podman and Buildah; convert it first: skopeo copy dir:FOLDER docker-archive:FILE.tar:NAME:TAG"
)

T = TypeVar("T")


@dataclass(frozen=True)
class ArchivedImage:
    """One image of an archive. `layers` are uncommitted blobs, bottom first; `names` may be empty."""

    document: bytes
    layers: list[Ingest]
    names: list[Reference]
    parent: str = ""


def _ignore(name: str, ingest: Ingest) -> None:
    """Nobody wants to know."""


def looks_like_layer(head: bytes) -> bool:
    """Whether a member that begins so may be a layer: a tar header or compressed."""
    return tar.is_header(head) or bool(compression_of(head))


class Received:
    """The members of an archive as they arrived: unnamed blobs, discarded at the end unless committed."""

    def __init__(self) -> None:
        self._files: dict[str, Ingest] = {}
        self._links: dict[str, str] = {}
        self._documents = self._read = 0  # documents, bytes of them

    def __enter__(self) -> Received:
        return self

    def __exit__(self, *exception: object) -> None:
        for ingest in self._files.values():
            ingest.discard()

    def receive(self, source: Source, blobs: Blobs, begun: Callable[[str, Ingest], None] = _ignore) -> None:
        """Take in a whole archive, compressed or not. Raises InvalidParameter.

        `begun` is told of each member that looks like a layer, by its first bytes, while it still arrives.
        """
        reader = TarReader(Decompressed(source))
        for count, entry in enumerate(reader, start=1):
            if count > _MEMBERS_MAX:
                raise BadArchive(f"more than {_MEMBERS_MAX} members: not an image archive")
            name = _normal(entry.name)
            if entry.kind in (tar.SYMLINK, tar.LINK):
                base = posixpath.dirname(name) if entry.kind == tar.SYMLINK else ""
                self._links[name] = _normal(posixpath.join(base, _text(entry.link)).encode(errors="surrogateescape"))
            elif entry.kind == tar.REGULAR:
                if entry.extents is not None:
                    raise BadArchive(f"{name}: a sparse file in an image archive")
                previous = self._files.pop(name, None)
                if previous is not None:
                    previous.discard()
                self._links.pop(name, None)
                self._files[name] = ingest = blobs.ingest()
                head = b""
                for piece in reader.chunks():
                    ingest.write(piece)
                    if len(head) < tar.BLOCK:
                        head += piece[: tar.BLOCK]
                        if len(head) >= tar.BLOCK and looks_like_layer(head):
                            begun(name, ingest)
                ingest.finish()

    def file(self, name: str) -> Ingest | None:
        name = _normal(name.encode(errors="surrogateescape"))
        for _ in range(_LINKS_MAX):
            if name in self._files:
                return self._files[name]
            if name not in self._links:
                return None
            name = self._links[name]
        return None

    def required(self, name: str) -> Ingest:
        """Raises InvalidParameter."""
        found = self.file(name)
        if found is None:
            raise InvalidParameter(f"invalid archive: {name} is missing")
        return found

    def document(self, name: str) -> bytes:
        """Raises InvalidParameter."""
        found = self.required(name)
        if found.size > _DOCUMENT_MAX:
            raise InvalidParameter(f"invalid archive: {name} has {found.size} bytes, at most {_DOCUMENT_MAX} are read")
        self._documents += 1
        self._read += found.size
        if self._documents > _DOCUMENTS_MAX or self._read > _DOCUMENTS_SIZE:
            raise InvalidParameter(
                f"invalid archive: more than {_DOCUMENTS_MAX} JSON documents or {_DOCUMENTS_SIZE} bytes of them"
            )
        return found.path.read_bytes()

    def images(self, host: Platform) -> list[ArchivedImage]:
        """What the archive offers; of a multi-platform image, the part for the host. Raises InvalidParameter."""
        if self.file("manifest.json") is not None:
            document = self.document("manifest.json")
            if document.lstrip().startswith(b"{"):
                raise InvalidParameter(_DIRECTORY)
            items = _decode(document, list[ArchiveItem], "manifest.json")
            return _bounded(self._docker_image(item) for item in items)
        if self.file("index.json") is not None:
            index = _decode(self.document("index.json"), Index, "index.json")
            return _bounded(self._index_images(index, host))
        raise InvalidParameter("not an image archive: it has neither manifest.json nor index.json")

    def _docker_image(self, item: ArchiveItem) -> ArchivedImage:
        names = [parse(name) for name in item.repo_tags or []]
        if any(not name.tag for name in names):
            raise InvalidParameter(f"invalid tag {(item.repo_tags or [''])[0]!r}")
        layers = [self.required(name) for name in item.layers or []]
        return ArchivedImage(self.document(item.config), layers, names, item.parent)

    def _index_images(self, index: Index, host: Platform, name: str = "", depth: int = 0) -> Iterator[ArchivedImage]:
        if depth > NESTING_MAX:
            raise InvalidParameter(f"invalid archive: indexes nested more than {NESTING_MAX} deep")
        for descriptor in _for_host(index.images, host):
            annotations = descriptor.annotations or {}
            own = _image_name(annotations) or name
            document = self._blob(descriptor)
            if descriptor.media_type in INDEXES:
                yield from self._index_images(_decode(document, Index, descriptor.digest), host, own, depth + 1)
                continue
            manifest = _decode(document, Manifest, descriptor.digest)
            layers = [self._verified(layer) for layer in manifest.layers]
            yield ArchivedImage(self._blob(manifest.config), layers, [parse(own).with_default_tag()] if own else [])

    def _verified(self, descriptor: Descriptor) -> Ingest:
        ingest = self.required(f"blobs/{descriptor.digest.replace(':', '/', 1)}")
        if ingest.digest != descriptor.digest:
            raise InvalidParameter(f"blob digest mismatch: expected {descriptor.digest}, got {ingest.digest}")
        return ingest

    def _blob(self, descriptor: Descriptor) -> bytes:
        self._verified(descriptor)
        return self.document(f"blobs/{descriptor.digest.replace(':', '/', 1)}")


def _for_host(descriptors: Iterable[Descriptor], host: Platform) -> Iterator[Descriptor]:
    """Those of the platform that the host runs best, of those there are, and those that do not say."""
    described = [(descriptor, platform_of(descriptor)) for descriptor in descriptors]
    there = {platform for _, platform in described}
    best = next((platform for platform in host.runs() if platform in there), None)
    return (descriptor for descriptor, platform in described if platform is None or platform == best)


def _bounded(images: Iterable[ArchivedImage]) -> list[ArchivedImage]:
    """Raises InvalidParameter for more images than anybody saves."""
    found = list(islice(images, _IMAGES_MAX + 1))
    if len(found) > _IMAGES_MAX:
        raise InvalidParameter(f"invalid archive: more than {_IMAGES_MAX} images")
    return found


def _image_name(annotations: dict[str, str]) -> str:
    """containerd writes the full name; others a reference, or just a tag, which names nothing."""
    name = annotations.get("io.containerd.image.name", "")
    reference = annotations.get("org.opencontainers.image.ref.name", "")
    return name or (reference if ":" in reference or "/" in reference else "")


def _normal(name: bytes) -> str:
    return posixpath.normpath("/" + _text(name)).lstrip("/")


def _text(name: bytes) -> str:
    return name.decode(errors="surrogateescape")


def _decode(document: bytes, kind: type[T], name: str) -> T:
    try:
        return msgspec.json.decode(document, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter(f"invalid archive: {name}: {error}") from None


# --- writing ---


@dataclass(frozen=True)
class SavedLayer:
    """A layer's uncompressed tar."""

    diff_id: str
    size: int


@dataclass(frozen=True)
class SavedImage:
    image: Image
    document: bytes
    layers: list[SavedLayer]
    names: list[Reference]


@dataclass(frozen=True)
class DressedImage:
    """An image with the manifest or index that was made for it, which is written as it is.

    `blobs` are all that it stands for, with their sizes; `layers` those of the image, bottom first, by digest.
    """

    image: Image
    top: Descriptor
    blobs: dict[str, int]
    layers: list[str]
    names: list[Reference]


@dataclass(frozen=True)
class Member:
    """A member of the archive to write: bytes at hand, the layer whose tar to stream, or a blob as it is."""

    name: str
    size: int
    mtime: int = 0  # seconds
    data: bytes = b""
    layer: str = ""  # diff ID
    blob: str = ""  # digest
    directory: bool = False

    def header(self) -> bytes:
        return _header(self)

    @property
    def padding(self) -> bytes:
        return bytes(-self.size % tar.BLOCK)


END = bytes(2 * tar.BLOCK)


@dataclass
class _Plan:
    blobs: dict[str, Member] = field(default_factory=dict)
    items: list[dict[str, object]] = field(default_factory=list)
    descriptors: list[Descriptor] = field(default_factory=list)
    repositories: dict[str, dict[str, str]] = field(default_factory=dict)

    def blob(self, digest: str, size: int, mtime: int, data: bytes = b"", layer: str = "", blob: str = "") -> str:
        name = f"blobs/{digest.replace(':', '/', 1)}"
        self.blobs.setdefault(name, Member(name, size, mtime, data, layer, blob))
        return name


def plan_archive(images: Iterable[SavedImage | DressedImage]) -> list[Member]:
    """The members of an archive that is a docker archive and an OCI layout at once, in Docker's order."""
    plan = _Plan()
    for saved in images:
        if isinstance(saved, DressedImage):
            _plan_dressed(plan, saved)
        else:
            _plan_image(plan, saved)
    newest = max((blob.mtime for blob in plan.blobs.values()), default=0)
    members = []
    if plan.blobs:
        members = [
            Member("blobs/", 0, newest, directory=True),
            Member("blobs/sha256/", 0, newest, directory=True),
            *(plan.blobs[name] for name in sorted(plan.blobs)),
        ]
    index = Index(manifests=plan.descriptors or None)
    members.append(_document("index.json", msgspec.json.encode(index), newest))
    members.append(_document("manifest.json", msgspec.json.encode(plan.items or None) + b"\n"))
    members.append(_document("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'))
    if plan.repositories:
        members.append(_document("repositories", msgspec.json.encode(plan.repositories) + b"\n"))
    return members


def _plan_image(plan: _Plan, saved: SavedImage) -> None:
    created = max(saved.image.created_ns // 1_000_000_000, 0)
    config_name = plan.blob(saved.image.id, len(saved.document), created, data=saved.document)
    layers = [Descriptor(MEDIA_LAYER, layer.diff_id, layer.size) for layer in saved.layers]
    layer_names = [plan.blob(layer.diff_id, layer.size, created, layer=layer.diff_id) for layer in saved.layers]
    manifest = msgspec.json.encode(
        Manifest(config=Descriptor(MEDIA_CONFIG, saved.image.id, len(saved.document)), layers=layers)
    )
    digest = digest_of(manifest)
    plan.blob(digest, len(manifest), 0, data=manifest)
    descriptor = Descriptor(MEDIA_MANIFEST, digest, len(manifest))
    item: dict[str, object] = {
        "Config": config_name,
        "RepoTags": [name.familiar for name in saved.names] or None,
        "Layers": layer_names or None,
    }
    if saved.image.parent:
        item["Parent"] = saved.image.parent
    item["LayerSources"] = {layer.digest: layer for layer in layers}
    plan.items.append(item)
    _describe(plan, descriptor, saved.names, saved.layers[-1].diff_id if saved.layers else "")


def _plan_dressed(plan: _Plan, saved: DressedImage) -> None:
    created = max(saved.image.created_ns // 1_000_000_000, 0)
    for digest, size in saved.blobs.items():
        plan.blob(digest, size, created, blob=digest)
    item: dict[str, object] = {
        "Config": plan.blob(saved.image.id, saved.blobs[saved.image.id], created),
        "RepoTags": [name.familiar for name in saved.names] or None,
        "Layers": [plan.blob(digest, saved.blobs[digest], created) for digest in saved.layers] or None,
    }
    plan.items.append(item)
    _describe(plan, saved.top, saved.names, saved.layers[-1] if saved.layers else "")


def _describe(plan: _Plan, descriptor: Descriptor, names: list[Reference], top: str) -> None:
    """What an index and the oldest form say of an image with these names; `top` is its last layer."""
    if not names:
        plan.descriptors.append(descriptor)
    for name in names:
        annotations = {"io.containerd.image.name": name.canonical, "org.opencontainers.image.ref.name": name.tag}
        annotations = {**(descriptor.annotations or {}), **annotations}
        plan.descriptors.append(msgspec.structs.replace(descriptor, annotations=annotations))
        if top:
            plan.repositories.setdefault(name.familiar_name, {})[name.tag] = top.removeprefix("sha256:")


def _document(name: str, data: bytes, mtime: int = 0) -> Member:
    return Member(name, len(data), mtime, data)


def _header(member: Member) -> bytes:
    """A ustar header (names here are short); sizes that octal cannot hold in base 256 (GNU)."""
    size = b"%011o\0" % member.size if member.size < 8**11 else struct.pack(">BxxxQ", 0x80, member.size)
    parts = (
        member.name.encode().ljust(100, b"\0"),
        b"%07o\0" % (0o755 if member.directory else 0o644),
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        size,
        b"%011o\0" % member.mtime,
        b" " * 8,
        b"5" if member.directory else b"0",
        bytes(100),
        b"ustar\x0000",
        bytes(64),
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        bytes(167),
    )
    block = b"".join(parts)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
