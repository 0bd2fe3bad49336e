"""Snapshots: layers by chain ID, and writable directories for containers on top of them."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import msgspec

from wherry.errors import Conflict, InvalidParameter, NotFound
from wherry.model.failpoints import failpoint
from wherry.model.image import next_chain_id
from wherry.model.mount_plans import OverlayPlan
from wherry.storage.layers import unpack
from wherry.storage.tar import Source


class Layer(msgspec.Struct, frozen=True):
    """A layer as the driver keeps it. `size` is what its files take, in bytes, as Docker counts it."""

    parent: str  # chain ID of the layer below, "" for none
    diff_id: str
    size: int


class Snapshots(Protocol):
    """Layers and what is made from them. What a layer is on disk is the driver's secret: callers get mount plans.

    Lifecycle. A *layer* is immutable, named by its chain ID, and exists completely or not at all. A *snapshot* is one
    container's writable part, named by a key that the caller chooses (the container's ID), on top of one chain.
    Removing a layer that others stand on is refused; removing twice is harmless.

        base = snapshots.unpack(tar_of_base, "", diff_of_base)
        app = snapshots.unpack(tar_of_app, base, diff_of_app)       # on top of base
        snapshots.prepare("4f2c...", app)                           # at `create`
        mount_overlay(snapshots.mount_plan("4f2c...", volatile=False), target)
        ...                                                          # the container runs, stops, runs again
        unmount(target)
        snapshots.usage("4f2c...")                                   # bytes written
        snapshots.remove("4f2c...")                                  # at `rm`
        snapshots.remove_chain(app); snapshots.remove_chain(base)    # when no image and no snapshot needs them

    All methods block (files are made and removed): call them from threads. They may be called concurrently.
    """

    def unpack(self, stream: Source, parent: str, diff_id: str = "") -> str:
        """Ingest an uncompressed layer tar on top of the chain `parent` ("" for none); returns the new chain ID.

        With `diff_id` the content is verified against it, and nothing is done if the layer is there already; without,
        it is computed. The stream is read to its end (unless the layer is there already).
        Raises NotFound (parent), InvalidParameter (digest, broken or hostile tar), SystemFailure (disk).
        """

    def layer(self, chain_id: str) -> Layer:
        """What is known of a layer. Raises NotFound."""

    def chains(self) -> set[str]:
        """All layers there are."""

    def prepare(self, key: str, chain_id: str) -> None:
        """Make a writable snapshot on a chain ("" for an empty root). Raises NotFound, Conflict (key taken)."""

    def mount_plan(self, key: str, *, volatile: bool) -> OverlayPlan:
        """How to mount a snapshot. Raises NotFound."""

    def view_plan(self, chain_id: str) -> OverlayPlan:
        """How to mount a chain read-only. Raises NotFound."""

    def usage(self, key: str) -> int:
        """Bytes that the snapshot's own files take. Raises NotFound."""

    def remove(self, key: str) -> None:
        """Remove a snapshot that is not mounted; harmless if there is none."""

    def remove_chain(self, chain_id: str) -> None:
        """Remove a layer; harmless if there is none. Raises Conflict while a layer or snapshot stands on it."""

    def keys(self) -> set[str]:
        """All snapshots there are."""

    def chain_of(self, key: str) -> str:
        """The chain a snapshot stands on. Raises NotFound."""

    def sweep(self, *, keys: Iterable[str], chains: Iterable[str]) -> None:
        """At start, before anything else runs: remove half-made things, snapshots not in `keys`, and layers that
        neither `chains`, nor a kept snapshot, nor a kept layer needs."""


class OverlaySnapshots:
    """Layers as unpacked directories for overlayfs.

    On disk: `layers/HEX/{fs,layer.json}`, `active/KEY/{upper,work,chain}` where `chain` is a symlink whose target is
    the chain ID, `empty` for images without layers, and `tmp`, where everything is made before it is renamed into
    place and moved to before it is deleted.
    """

    def __init__(self, root: Path) -> None:
        self._layers = root / "layers"
        self._active = root / "active"
        self._temporary = root / "tmp"
        self._empty = root / "empty"
        for directory in (root, self._layers, self._active, self._temporary):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._empty.mkdir(mode=0o755, exist_ok=True)
        self._known: dict[str, Layer] = {}

    def unpack(self, stream: Source, parent: str, diff_id: str = "") -> str:
        lowers = self._directories(parent)
        if diff_id and self._has(next_chain_id(parent, diff_id)):
            return next_chain_id(parent, diff_id)
        making = self._new()
        try:
            target = making / "fs"
            target.mkdir(mode=0o700)
            hashing = _Hashing(stream)
            size = unpack(hashing, str(target), lowers=lowers)
            if diff_id and hashing.digest != diff_id:
                raise InvalidParameter(f"layer digest mismatch: expected {diff_id}, got {hashing.digest}")
            layer = Layer(parent, hashing.digest, size)
            chain_id = next_chain_id(parent, layer.diff_id)
            (making / "layer.json").write_bytes(msgspec.json.encode(layer))
            failpoint("snapshots.unpack.unpacked")
            _rename_new(making, self._layer_path(chain_id))
            failpoint("snapshots.unpack.renamed")
        finally:
            _remove_tree(making)
        return chain_id

    def layer(self, chain_id: str) -> Layer:
        known = self._known.get(chain_id)
        if known is None:
            try:
                known = msgspec.json.decode((self._layer_path(chain_id) / "layer.json").read_bytes(), type=Layer)
            except FileNotFoundError:
                raise NotFound(f"layer {chain_id} does not exist") from None
            self._known[chain_id] = known
        return known

    def chains(self) -> set[str]:
        return {f"sha256:{name}" for name in os.listdir(self._layers)}

    def prepare(self, key: str, chain_id: str) -> None:
        top = self._directories(chain_id)[0] if chain_id else str(self._empty)
        making = self._new()
        try:
            upper = making / "upper"
            upper.mkdir()
            (making / "work").mkdir(mode=0o700)
            like = os.stat(top)
            os.chown(upper, like.st_uid, like.st_gid)
            os.chmod(upper, stat.S_IMODE(like.st_mode))
            os.symlink(chain_id or "none", making / "chain")
            failpoint("snapshots.prepare.made")
            if not _rename_new(making, self._active_path(key)):
                raise Conflict(f"snapshot {key} already exists")
            failpoint("snapshots.prepare.renamed")
        finally:
            _remove_tree(making)

    def mount_plan(self, key: str, *, volatile: bool) -> OverlayPlan:
        lower = self._directories(self.chain_of(key)) or (str(self._empty),)
        path = self._active_path(key)
        return OverlayPlan(lower, str(path / "upper"), str(path / "work"), volatile)

    def view_plan(self, chain_id: str) -> OverlayPlan:
        return OverlayPlan(self._directories(chain_id) or (str(self._empty),))

    def usage(self, key: str) -> int:
        self.chain_of(key)
        return tree_size(str(self._active_path(key) / "upper"))

    def remove(self, key: str) -> None:
        self._discard(self._active_path(key))

    def remove_chain(self, chain_id: str) -> None:
        if any(self.layer(other).parent == chain_id for other in self.chains()):
            raise Conflict(f"layer {chain_id} has layers on top of it")
        if any(self.chain_of(key) == chain_id for key in self.keys()):
            raise Conflict(f"layer {chain_id} is in use by a container")
        self._discard_chain(chain_id)

    def keys(self) -> set[str]:
        return set(os.listdir(self._active))

    def chain_of(self, key: str) -> str:
        try:
            chain = os.readlink(self._active_path(key) / "chain")
        except FileNotFoundError:
            raise NotFound(f"snapshot {key} does not exist") from None
        return "" if chain == "none" else chain

    def sweep(self, *, keys: Iterable[str], chains: Iterable[str]) -> None:
        for name in os.listdir(self._temporary):
            _remove_tree(self._temporary / name)
        for key in self.keys() - set(keys):
            self.remove(key)
        kept: set[str] = set()
        for chain_id in [*chains, *(self.chain_of(key) for key in self.keys())]:
            kept.update(self._lineage(chain_id))
        for chain_id in self.chains() - kept:
            self._discard_chain(chain_id)

    def _has(self, chain_id: str) -> bool:
        return self._layer_path(chain_id).exists()

    def _lineage(self, chain_id: str) -> list[str]:
        """The chain and all below it, top first. Stops where a layer is missing."""
        found = []
        while chain_id and self._has(chain_id):
            found.append(chain_id)
            chain_id = self.layer(chain_id).parent
        return found

    def _directories(self, chain_id: str) -> tuple[str, ...]:
        """The directories of a chain, top first. Raises NotFound."""
        found = []
        while chain_id:
            layer = self.layer(chain_id)
            found.append(f"{self._layer_path(chain_id)}/fs")
            chain_id = layer.parent
        return tuple(found)

    def _layer_path(self, chain_id: str) -> Path:
        return self._layers / chain_id.removeprefix("sha256:")

    def _active_path(self, key: str) -> Path:
        if not key or "/" in key or key.startswith("."):
            raise InvalidParameter(f"invalid snapshot key: {key!r}")
        return self._active / key

    def _new(self) -> Path:
        making = self._temporary / secrets.token_hex(8)
        making.mkdir(mode=0o700)
        return making

    def _discard_chain(self, chain_id: str) -> None:
        self._known.pop(chain_id, None)
        self._discard(self._layer_path(chain_id))

    def _discard(self, path: Path) -> None:
        leaving = self._temporary / secrets.token_hex(8)
        try:
            os.rename(path, leaving)
        except FileNotFoundError:
            return
        failpoint("snapshots.remove.renamed")
        _remove_tree(leaving)


class _Hashing:
    """A source that knows the digest of what was read from it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        piece = self._source.read(size)
        self._hash.update(piece)
        return piece

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


def tree_size(root: str) -> int:
    """Bytes of the files in a tree, as Docker counts: apparent sizes, links to one inode once, directories nothing."""
    total = 0
    seen: set[tuple[int, int]] = set()
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    continue
                found = entry.stat(follow_symlinks=False)
                if found.st_nlink > 1:
                    if (found.st_dev, found.st_ino) in seen:
                        continue
                    seen.add((found.st_dev, found.st_ino))
                total += found.st_size
    return total


def _rename_new(source: Path, target: Path) -> bool:
    """Rename a directory into place unless something is there already."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _remove_tree(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
