"""Snapshots: layers by chain ID, and writable directories for containers on top of them."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
import threading
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, Self, cast

import msgspec

from wherry.errors import Conflict, InvalidParameter, NotFound
from wherry.linux.placement import spread
from wherry.model.failpoints import failpoint
from wherry.model.filechanges import Change
from wherry.model.idmaps import IdMap
from wherry.model.image import next_chain_id
from wherry.model.mount_plans import OverlayPlan
from wherry.storage import overlay
from wherry.storage.digesting import Digesting
from wherry.storage.layers import Unpacked, inherit, unpack
from wherry.storage.mountpoints import make_mount_points, make_places, missing_places
from wherry.storage.packing import END
from wherry.storage.recipes import RecipeWriter, Retelling
from wherry.storage.room import Guarded, Room
from wherry.storage.streams import Pieces
from wherry.storage.tar import Source
from wherry.storage.trees import remove_tree
from wherry.storage.usage import disk_usage

_RECIPE = "recipe"
_CONTENTS = "contents"
_PIECE = 1 << 20
_PLAIN = ("redirect_dir=off", "metacopy=off")  # so that the upper directory alone tells what changed


class Layer(msgspec.Struct, frozen=True):
    """A layer as the driver knows it. Sizes are bytes."""

    parent: str  # chain ID of the layer below, "" for none
    diff_id: str
    size: int  # of its files, as Docker counts it
    tar_size: int  # of the uncompressed tar


class Staged(Protocol):
    """A layer's content that is ingested and has no place yet. Leaving the block forgets what was not placed."""

    @property
    def diff_id(self) -> str:
        """The digest of the tar; "" if it was not hashed."""

    def discard(self) -> None:
        """Forget it, unless it was placed. Idempotent."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...


class Snapshots(Protocol):
    """Layers and what is made from them. What a layer is on disk is the driver's secret: callers get mount plans.

    Lifecycle. A *layer* is immutable, named by its chain ID, and exists completely or not at all. A *snapshot* is one
    container's writable part, named by a key that the caller chooses (the container's ID), on top of one chain.
    Removing a layer that others stand on is refused; removing twice is harmless.

        base = snapshots.unpack(tar_of_base, "", diff_of_base)
        with snapshots.stage(tar_of_app) as staged:                  # while nobody knows yet what is below
            app = snapshots.place(staged, base, diff_of_app)         # ... on top of base; or both in one: `unpack`
        snapshots.prepare("4f2c...", app)                           # at `create`
        mount_overlay(snapshots.mount_plan("4f2c...", volatile=False), target)
        ...                                                          # the container runs, stops, runs again
        unmount(target)
        snapshots.usage("4f2c...")                                   # bytes written
        snapshots.changes("4f2c...")                                 # which files that changed
        more = snapshots.copy("4f2c...")                            # the same as a layer: `commit`
        snapshots.tar(snapshots.layer(more).diff_id)                 # and the layer's bytes
        snapshots.remove("4f2c...")                                  # at `rm`
        snapshots.remove_chain(app); snapshots.remove_chain(base)    # when no image and no snapshot needs them

    All methods block (files are made and removed): call them from threads. They may be called concurrently.
    """

    def stage(self, stream: Source, *, hashed: bool = True) -> Staged:
        """Ingest an uncompressed layer tar without giving it a place. Reads the stream to its end.

        Raises InvalidParameter (broken or hostile tar), SystemFailure (disk); then nothing of it is left.
        """

    def place(self, staged: Staged, parent: str, diff_id: str = "") -> str:
        """Put what was staged on top of the chain `parent` ("" for none); returns the new chain ID.

        With `diff_id` the content is verified against it. If it was not `hashed` when staged, the caller says with
        `diff_id` what it knows it to be. Raises NotFound (parent), InvalidParameter (digest), SystemFailure (disk).
        """

    def unpack(self, stream: Source, parent: str, diff_id: str = "", *, verified: bool = False) -> str:
        """Stage an uncompressed layer tar and place it on top of the chain `parent`; returns the new chain ID.

        With `diff_id` the content is verified against it (unless the caller has `verified` it already), and nothing is
        done if the layer is there; without, it is computed. The stream is read to its end, but for a layer that is
        there.
        Raises NotFound (parent), InvalidParameter (digest, broken or hostile tar), SystemFailure (disk).
        """

    def layer(self, chain_id: str) -> Layer:
        """What is known of a layer. Raises NotFound."""

    def chains(self) -> set[str]:
        """All layers there are."""

    def prepare(
        self,
        key: str,
        chain_id: str,
        places: Sequence[tuple[str, bool]] = (),
        *,
        container: bool = True,
        ids: IdMap | None = None,
    ) -> None:
        """Make a writable snapshot on a chain ("" for an empty root). Raises NotFound, Conflict (key taken).

        With `ids` it is mounted as the map's users own it; `diff` and `changes` tell owners as in the layers below.
        One for a `container` shows the places of the engine's own mounts. `places` are more paths where something is
        mounted later, each with whether that is a directory: those that the chain has not are there in the mounted
        snapshot, and are none of its changes.
        """

    def mount_plan(self, key: str, *, volatile: bool) -> OverlayPlan:
        """How to mount a snapshot. Raises NotFound."""

    def view_plan(self, chain_id: str) -> OverlayPlan:
        """How to mount a chain read-only. Raises NotFound."""

    def usage(self, key: str) -> int:
        """Bytes that the snapshot's own files take. Raises NotFound."""

    def changes(self, key: str) -> list[Change]:
        """What was changed in a snapshot against its chain, sorted by path; a folder with changes in it has changed.

        Mount points of the engine's own are no changes. Works while it is mounted. Raises NotFound, OSError.
        """

    def diff(self, key: str, newest_ns: int | None = None) -> Generator[bytes, None, None]:
        """The same as an uncompressed OCI layer, in pieces: unpacked on the chain it gives what the snapshot shows.

        With `newest_ns` no file is younger than that, so that the layer does not tell when it was made.
        Blocking at each step. Raises NotFound (at the first), OSError.
        """

    def copy(self, key: str, newest_ns: int | None = None) -> str:
        """Make a layer of what `diff` tells, on the snapshot's chain, and leave the snapshot as it is. Returns
        the chain ID, "" if nothing was written. `tar` has the layer's bytes.
        Raises NotFound, SystemFailure (disk), OSError.
        """

    def settle(self, key: str, contents: Mapping[bytes, bytes] | None = None) -> str:
        """The same of a snapshot that is not mounted, without copying anything: it is only good for `remove` then.

        `contents` are digests of files in it, by path, which `contents` tells of then.
        """

    def contents(self) -> Iterable[tuple[str, Mapping[bytes, bytes]]]:
        """The directory of each layer that files of known contents were moved to, and their digests by path."""

    def tar(self, diff_id: str) -> BinaryIO | None:
        """The bytes of a layer that was made here, made again from its files; None for any other.

        Reading raises SystemFailure where they are not what they were, at the latest at the end.
        """

    def tar_size(self, diff_id: str) -> int | None:
        """How many bytes `tar` has."""

    def occupied(self, key: str) -> int:
        """Bytes on disk of the snapshot's own files. Raises NotFound."""

    def layer_occupied(self, chain_id: str) -> int:
        """Bytes on disk of a layer, 0 if there is none."""

    def layers_occupied(self) -> int:
        """Bytes on disk of all layers."""

    def remove(self, key: str) -> None:
        """Remove a snapshot that is not mounted; harmless if there is none. Raises OSError: it is then still there."""

    def remove_chain(self, chain_id: str) -> None:
        """Remove a layer; harmless if there is none. Raises Conflict while a layer or snapshot stands on it."""

    def collect(self, chains: Iterable[str], tars: Iterable[str] = ()) -> list[str]:
        """Remove the layers that neither `chains`, nor a snapshot, nor a kept layer needs; returns them, top first.

        Those that `tar` of a diff ID in `tars` is made from are kept. The others are gone at once, their disk space
        after `purge`.
        """

    def keys(self) -> set[str]:
        """All snapshots there are."""

    def chain_of(self, key: str) -> str:
        """The chain a snapshot stands on. Raises NotFound."""

    def _stood_on(self) -> Iterator[str]:
        """The chains of all snapshots. One may go at any moment: snapshots leave without the lock."""
        for key in self.keys():
            with suppress(NotFound):
                yield self.chain_of(key)

    def sweep(self, *, keys: Iterable[str] | None, chains: Iterable[str], tars: Iterable[str] = ()) -> None:
        """At start, before anything else runs: remove what is half-made, snapshots not in `keys` (None: keep all), and
        what `collect(chains, tars)` would. Their disk space is free after `purge`."""

    def purge(self) -> None:
        """Give back the disk space of what `collect` and `sweep` removed. Slow; may be left out, or cut off by a crash,
        and done later."""


@dataclass
class OverlayStaged:
    """See Staged."""

    path: Path
    unpacked: Unpacked
    diff_id: str
    tar_size: int
    placed: bool = False

    def discard(self) -> None:
        if not self.placed:
            _remove_trees([self.path])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.discard()


class OverlaySnapshots:
    """Layers as unpacked directories for overlayfs.

    On disk: `layers/HEX/{fs,layer.json,recipe,contents,mount-points}` (`recipe` where `fs` was made here, see
    `recipes.py`; `contents` where files were moved into it; `mount-points` once a container stands on it),
    `active/KEY/{upper,work,chain,places,bare}` where `chain` is a symlink whose target is the chain ID, `empty` and
    `empty-mount-points` for images without layers, `staging` and `tmp`, where layers and all else are made before they
    are renamed into place, and `trash`, where everything is moved to before it is deleted.
    """

    def __init__(self, root: Path) -> None:
        self._layers = root / "layers"
        self._active = root / "active"
        self._temporary = root / "tmp"
        self._staging = root / "staging"
        self._trash = root / "trash"
        self._empty = root / "empty"
        self._empty_mount_points = root / "empty-mount-points"
        for directory in (root, self._layers, self._active, self._temporary, self._staging, self._trash):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        spread(self._staging)
        spread(self._temporary)
        self._empty.mkdir(mode=0o755, exist_ok=True)
        self._known: dict[str, Layer] = {}
        self._occupied: dict[str, int] = {}  # bytes on disk of the layers that were asked about
        self._lock = threading.Lock()  # between "it is there" and standing on it, nobody takes a layer away

    def stage(self, stream: Source, *, hashed: bool = True) -> OverlayStaged:
        making = self._new(self._staging)
        try:
            counted = Counted(Guarded(stream, Room(making)), hashed=hashed)
            unpacked = _unpacked(counted, making)
            return OverlayStaged(making, unpacked, counted.digest, counted.size)
        except BaseException:
            _remove_trees([making])
            raise

    def place(self, staged: Staged, parent: str, diff_id: str = "") -> str:
        assert isinstance(staged, OverlayStaged)
        if diff_id and staged.diff_id and staged.diff_id != diff_id:
            raise InvalidParameter(f"layer digest mismatch: expected {diff_id}, got {staged.diff_id}")
        layer = Layer(parent, staged.diff_id or diff_id, staged.unpacked.size, staged.tar_size)
        chain_id = next_chain_id(parent, layer.diff_id)
        inherit(str(staged.path / "fs"), staged.unpacked.implied, self._directories(parent))
        (staged.path / "layer.json").write_bytes(msgspec.json.encode(layer))
        failpoint("snapshots.unpack.unpacked")
        with self._lock:
            if parent and not self._has(parent):
                raise NotFound(f"layer {parent} does not exist")
            staged.placed = self._rename_layer(staged.path, chain_id)
        failpoint("snapshots.unpack.renamed")
        return chain_id

    def unpack(self, stream: Source, parent: str, diff_id: str = "", *, verified: bool = False) -> str:
        self._directories(parent)
        if diff_id and self._has(next_chain_id(parent, diff_id)):
            return next_chain_id(parent, diff_id)
        with self.stage(stream, hashed=not (diff_id and verified)) as staged:
            return self.place(staged, parent, diff_id)

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

    def prepare(
        self,
        key: str,
        chain_id: str,
        places: Sequence[tuple[str, bool]] = (),
        *,
        container: bool = True,
        ids: IdMap | None = None,
    ) -> None:
        top = self._directories(chain_id)[0] if chain_id else str(self._empty)
        if container:
            self._make_mount_points(chain_id)
        making = self._new(self._temporary)
        try:
            upper = making / "upper"
            upper.mkdir()
            (making / "work").mkdir(mode=0o700)
            like = os.stat(top)
            owner = like.st_uid, like.st_gid
            if ids is not None:
                owner = ids.to_host(*owner)
                (making / "ids").write_bytes(msgspec.json.encode(ids))
            os.chown(upper, *owner)
            os.chmod(upper, stat.S_IMODE(like.st_mode))
            os.symlink(chain_id or "none", making / "chain")
            if places:
                self._make_places(making / "places", chain_id, places)
            if not container:
                (making / "bare").touch()
            failpoint("snapshots.prepare.made")
            with self._lock:
                if chain_id and not self._has(chain_id):
                    raise NotFound(f"layer {chain_id} does not exist")
                if not _rename_new(making, self._active_path(key)):
                    raise Conflict(f"snapshot {key} already exists")
            failpoint("snapshots.prepare.renamed")
        finally:
            _remove_trees([making])

    def mount_plan(self, key: str, *, volatile: bool) -> OverlayPlan:
        chain_id = self.chain_of(key)
        lower = self._directories(chain_id) or (str(self._empty),)
        path = self._active_path(key)
        mount_points = self._mount_points_path(chain_id)
        if mount_points.exists() and not (path / "bare").exists():
            lower = (str(mount_points), *lower)
        if (path / "places").exists():
            lower = (str(path / "places"), *lower)
        return OverlayPlan(lower, str(path / "upper"), str(path / "work"), volatile, _PLAIN, self._ids_of(key))

    def _ids_of(self, key: str) -> IdMap | None:
        """The map that owners in the upper directory follow."""
        try:
            return msgspec.json.decode((self._active_path(key) / "ids").read_bytes(), type=IdMap)
        except FileNotFoundError:
            return None

    def view_plan(self, chain_id: str) -> OverlayPlan:
        return OverlayPlan(self._directories(chain_id) or (str(self._empty),))

    def usage(self, key: str) -> int:
        self.chain_of(key)
        return tree_size(str(self._active_path(key) / "upper"))

    def changes(self, key: str) -> list[Change]:
        lower = self.mount_plan(key, volatile=False).lower
        return overlay.changes(str(self._active_path(key) / "upper"), lower, self._ids_of(key))

    def diff(self, key: str, newest_ns: int | None = None) -> Generator[bytes, None, None]:
        self.chain_of(key)
        yield from overlay.diff(str(self._active_path(key) / "upper"), newest_ns, self._ids_of(key))

    def copy(self, key: str, newest_ns: int | None = None) -> str:
        parent = self.chain_of(key)
        making = self._new(self._staging)
        try:
            with self._told(key, making, newest_ns) as told:
                unpacked = _unpacked(Guarded(told, Room(making)), making)
                diff_id = told.finish()
            failpoint("snapshots.copy.written")
            if told.size == len(END):
                return ""
            return self.place(OverlayStaged(making, unpacked, diff_id, told.size), parent)
        finally:
            _remove_trees([making])

    def settle(self, key: str, contents: Mapping[bytes, bytes] | None = None) -> str:
        parent = self.chain_of(key)
        making = self._new(self._temporary)
        try:
            with self._told(key, making, at_rest=True) as told:
                while told.read(_PIECE):
                    pass
                diff_id = told.finish()
            failpoint("snapshots.settle.told")
            if told.size == len(END):
                return ""
            upper = self._active_path(key) / "upper"
            layer = Layer(parent, diff_id, tree_size(str(upper)), told.size)
            self._like_below(upper, parent)
            os.rename(upper, making / "fs")
            (making / "layer.json").write_bytes(msgspec.json.encode(layer))
            if contents:
                (making / _CONTENTS).write_bytes(msgspec.msgpack.encode(contents))
            failpoint("snapshots.settle.moved")
            chain_id = next_chain_id(parent, diff_id)
            with self._lock:
                if parent and not self._has(parent):
                    raise NotFound(f"layer {parent} does not exist")
                self._rename_layer(making, chain_id)
            failpoint("snapshots.settle.renamed")
        finally:
            _remove_trees([making])
        return chain_id

    def contents(self) -> Iterator[tuple[str, Mapping[bytes, bytes]]]:
        for chain_id in self.chains():
            path = self._layer_path(chain_id)
            with suppress(FileNotFoundError, msgspec.DecodeError):  # they are sent again
                known = msgspec.msgpack.decode((path / _CONTENTS).read_bytes(), type=dict[bytes, bytes])
                yield str(path / "fs"), known

    @contextmanager
    def _told(
        self, key: str, making: Path, newest_ns: int | None = None, *, at_rest: bool = False
    ) -> Iterator[Digesting]:
        """What was written, as a tar to be read to its end, and its recipe in the directory `making`."""
        upper = str(self._active_path(key) / "upper")
        recipe = RecipeWriter(making / _RECIPE)
        diff = overlay.diff(upper, newest_ns, self._ids_of(key), recipe, at_rest=at_rest)
        with closing(recipe), closing(diff) as pieces:
            with closing(Digesting(Pieces(pieces))) as told:
                yield told

    def _rename_layer(self, making: Path, chain_id: str) -> bool:
        """Into its place, unless it is there; that one gets what it has not of what else is known. The lock is held."""
        place = self._layer_path(chain_id)
        if _rename_new(making, place):
            return True
        for name in (_RECIPE, _CONTENTS):
            if (making / name).exists() and not (place / name).exists():
                os.rename(making / name, place / name)
                self._occupied.pop(chain_id, None)
        return False

    def tar(self, diff_id: str) -> BinaryIO | None:
        for chain_id in self._retelling({diff_id}):
            path = self._layer_path(chain_id)
            return cast(BinaryIO, Retelling(path / _RECIPE, path / "fs", diff_id))
        return None

    def tar_size(self, diff_id: str) -> int | None:
        return next((self.layer(chain_id).tar_size for chain_id in self._retelling({diff_id})), None)

    def _retelling(self, diff_ids: Collection[str]) -> list[str]:
        """The layers with one of these diff IDs whose tar can be made again."""
        found = []
        for chain_id in self.chains():
            with suppress(NotFound):  # it has just gone
                if self.layer(chain_id).diff_id in diff_ids and (self._layer_path(chain_id) / _RECIPE).exists():
                    found.append(chain_id)
        return found

    def _like_below(self, upper: Path, chain_id: str) -> None:
        """The root directory is in no layer's tar: whatever was done to it, it is what the layers below say."""
        like = os.stat(self._directories(chain_id)[0] if chain_id else str(self._empty))
        os.chown(upper, like.st_uid, like.st_gid)
        os.chmod(upper, stat.S_IMODE(like.st_mode))

    def occupied(self, key: str) -> int:
        self.chain_of(key)
        return disk_usage(self._active_path(key) / "upper", directories=False)

    def layer_occupied(self, chain_id: str) -> int:
        if chain_id not in self._occupied:
            found = disk_usage(self._layer_path(chain_id))
            if not self._has(chain_id):
                return 0
            self._occupied[chain_id] = found
        return self._occupied[chain_id]

    def layers_occupied(self) -> int:
        return sum(self.layer_occupied(chain_id) for chain_id in self.chains())

    def remove(self, key: str) -> None:
        path = self._active_path(key)
        _remove_trees([path / "upper", path / "work"])  # where it is known: what cannot go now is asked for again
        _remove_trees(self._take(path))

    def remove_chain(self, chain_id: str) -> None:
        with self._lock:
            if any(self.layer(other).parent == chain_id for other in self.chains()):
                raise Conflict(f"layer {chain_id} has layers on top of it")
            if chain_id in self._stood_on():
                raise Conflict(f"layer {chain_id} is in use by a container")
            leaving = self._take_chain(chain_id)
        _remove_trees(leaving)

    def collect(self, chains: Iterable[str], tars: Iterable[str] = ()) -> list[str]:
        with self._lock:
            kept: set[str] = set()
            for chain_id in [*chains, *self._stood_on(), *self._retelling(set(tars))]:
                kept.update(self._lineage(chain_id))
            unwanted = sorted(self.chains() - kept, key=lambda chain_id: (-len(self._lineage(chain_id)), chain_id))
            for chain_id in unwanted:
                self._take_chain(chain_id)
        return unwanted

    def keys(self) -> set[str]:
        return set(os.listdir(self._active))

    def chain_of(self, key: str) -> str:
        try:
            chain = os.readlink(self._active_path(key) / "chain")
        except FileNotFoundError:
            raise NotFound(f"snapshot {key} does not exist") from None
        return "" if chain == "none" else chain

    def _stood_on(self) -> Iterator[str]:
        """The chains of all snapshots. One may go at any moment: snapshots leave without the lock."""
        for key in self.keys():
            with suppress(NotFound):
                yield self.chain_of(key)

    def sweep(self, *, keys: Iterable[str] | None, chains: Iterable[str], tars: Iterable[str] = ()) -> None:
        for place in (self._temporary, self._staging):
            for name in os.listdir(place):
                self._take(place / name)
        if keys is not None:
            for key in self.keys() - set(keys):
                self._take(self._active_path(key))
        self.collect(chains, tars)

    def purge(self) -> None:
        _remove_trees([self._trash / name for name in os.listdir(self._trash)])

    def _mount_points_path(self, chain_id: str) -> Path:
        """With the layer, so that it goes when that goes."""
        return self._layer_path(chain_id) / "mount-points" if chain_id else self._empty_mount_points

    def _make_mount_points(self, chain_id: str) -> None:
        place = self._mount_points_path(chain_id)
        if place.exists():
            return
        making = self._new(self._temporary)
        try:
            making.chmod(0o755)
            below = overlay.Merged([os.fsencode(path) for path in self._directories(chain_id)])
            make_mount_points(making, below)
            failpoint("snapshots.prepare.mount-points-made")
            with suppress(FileNotFoundError):  # the layer has just gone, as the caller will find
                _rename_new(making, place)
        finally:
            _remove_trees([making])

    def _make_places(self, target: Path, chain_id: str, places: Sequence[tuple[str, bool]]) -> None:
        below = [str(self._mount_points_path(chain_id)), *self._directories(chain_id)]
        merged = overlay.Merged([os.fsencode(path) for path in below])
        directories, files = missing_places(merged, places)
        if directories or files:
            target.mkdir(mode=0o755)
            make_places(target, merged, directories, files)

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

    def _new(self, place: Path) -> Path:
        making = place / secrets.token_hex(8)
        making.mkdir(mode=0o700)
        return making

    def _take_chain(self, chain_id: str) -> list[Path]:
        self._known.pop(chain_id, None)
        self._occupied.pop(chain_id, None)
        return self._take(self._layer_path(chain_id))

    def _take(self, path: Path) -> list[Path]:
        """Move something out of sight; returns where it now waits for its end, nothing if it was gone."""
        leaving = self._trash / secrets.token_hex(8)
        try:
            os.rename(path, leaving)
        except FileNotFoundError:
            return []
        failpoint("snapshots.remove.renamed")
        return [leaving]


class Counted:
    """A source that knows how much was read from it, and its digest ("" if not `hashed`)."""

    def __init__(self, source: Source, *, hashed: bool = True) -> None:
        self._source = source
        self._hash = hashlib.sha256() if hashed else None
        self.size = 0

    def read(self, size: int, /) -> bytes:
        piece = self._source.read(size)
        self.size += len(piece)
        if self._hash is not None:
            self._hash.update(piece)
        return piece

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest() if self._hash is not None else ""


def _unpacked(source: Source, making: Path) -> Unpacked:
    target = making / "fs"
    target.mkdir(mode=0o700)
    return unpack(source, str(target))


def tree_size(root: str) -> int:
    """Bytes of the files in a tree, as Docker counts: apparent sizes, links to one inode once, directories nothing."""
    total = 0
    seen: set[tuple[int, int]] = set()
    pending = [root]
    while pending:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    continue
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # a container is at work here
                    continue
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


def _remove_trees(paths: Iterable[Path]) -> None:
    for path in paths:
        remove_tree(path)
