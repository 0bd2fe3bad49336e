"""Image archives: reading docker archives and OCI layouts, writing what is both (as Docker since 25).

OCI image-spec image-layout.md; for the docker archive, the code of those who write it is the specification:
`manifest.json` lists configurations, names and layers, whose members may be links to one another in older ones.
"""

from __future__ import annotations

import posixpath
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from wherry.errors import InvalidParameter
from wherry.model.image import ArchiveItem, Image, digest_of
from wherry.model.manifests import (
    MEDIA_CONFIG,
    MEDIA_LAYER,
    MEDIA_MANIFEST,
    Descriptor,
    Index,
    Manifest,
)
from wherry.model.platforms import Platform
from wherry.model.reference import Reference, parse
from wherry.storage import tar
from wherry.storage.archived_manifests import ArchivedManifest, decode, manifests
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


@dataclass(frozen=True)
class ArchivedImage:
    """One image of an archive. `layers` are uncommitted blobs, bottom first; `names` may be empty.

    `documents` are those of the manifest that the archive has for it, if any.
    """

    document: bytes
    layers: list[Ingest]
    names: list[Reference]
    parent: str = ""
    manifest: ArchivedManifest | None = None
    documents: list[Ingest] = field(default_factory=list)


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
            items = decode(document, list[ArchiveItem], "manifest.json")
            known = list(self._manifests_beside(host))
            return _bounded(self._docker_image(item, known) for item in items)
        if self.file("index.json") is not None:
            index = decode(self.document("index.json"), Index, "index.json")
            return _bounded(self._layout_image(found) for found in manifests(self, index, host))
        raise InvalidParameter("not an image archive: it has neither manifest.json nor index.json")

    def _docker_image(self, item: ArchiveItem, known: Iterable[ArchivedManifest]) -> ArchivedImage:
        names = [parse(name) for name in item.repo_tags or []]
        if any(not name.tag for name in names):
            raise InvalidParameter(f"invalid tag {(item.repo_tags or [''])[0]!r}")
        layers = [self.required(name) for name in item.layers or []]
        document = self.document(item.config)
        called = {name.canonical for name in names} or {""}
        own = next(
            (
                found
                for found in known
                if found.name in called and found.is_image(digest_of(document), [layer.digest for layer in layers])
            ),
            None,
        )
        return ArchivedImage(document, layers, names, item.parent, own, self._beside(own))

    def _manifests_beside(self, host: Platform) -> Iterator[ArchivedManifest]:
        """Those that a docker archive has too; they are nothing to rely on."""
        if self.file("index.json") is not None:
            with suppress(InvalidParameter):
                index = decode(self.document("index.json"), Index, "index.json")
                yield from islice(manifests(self, index, host), _IMAGES_MAX)

    def _layout_image(self, found: ArchivedManifest) -> ArchivedImage:
        layers = [self._verified(layer) for layer in found.manifest.layers]
        names = [parse(found.name).with_default_tag()] if found.name else []
        return ArchivedImage(self.blob(found.manifest.config), layers, names, "", found, self._beside(found))

    def _beside(self, found: ArchivedManifest | None) -> list[Ingest]:
        return [self.required(_blob_name(digest)) for digest in found.documents()] if found is not None else []

    def _verified(self, descriptor: Descriptor) -> Ingest:
        ingest = self.required(_blob_name(descriptor.digest))
        if ingest.digest != descriptor.digest:
            raise InvalidParameter(f"blob digest mismatch: expected {descriptor.digest}, got {ingest.digest}")
        return ingest

    def blob(self, descriptor: Descriptor) -> bytes:
        """A document of the layout, verified. Raises InvalidParameter."""
        self._verified(descriptor)
        return self.document(_blob_name(descriptor.digest))

    def has(self, digest: str) -> bool:
        """Whether the layout has a blob that is what its name says."""
        found = self.file(_blob_name(digest))
        return found is not None and found.digest == digest


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"


def _bounded(images: Iterable[ArchivedImage]) -> list[ArchivedImage]:
    """Raises InvalidParameter for more images than anybody saves."""
    found = list(islice(images, _IMAGES_MAX + 1))
    if len(found) > _IMAGES_MAX:
        raise InvalidParameter(f"invalid archive: more than {_IMAGES_MAX} images")
    return found


def _normal(name: bytes) -> str:
    return posixpath.normpath("/" + _text(name)).lstrip("/")


def _text(name: bytes) -> str:
    return name.decode(errors="surrogateescape")


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
        name = _blob_name(digest)
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
