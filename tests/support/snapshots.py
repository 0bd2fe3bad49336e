"""Snapshots without a kernel: what the driver's interface promises, kept in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import BinaryIO, Self

from wherry.errors import Conflict, InvalidParameter, NotFound
from wherry.model.filechanges import Change
from wherry.model.image import next_chain_id
from wherry.model.mount_plans import OverlayPlan
from wherry.storage.snapshots import Layer, Staged
from wherry.storage.tar import REGULAR, Source, TarReader


@dataclass
class MemoryStaged:
    diff_id: str
    size: int
    tar_size: int

    def discard(self) -> None:
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.discard()


class MemorySnapshots:
    """For tests of what uses snapshots. Its plans name directories that do not exist."""

    def __init__(self) -> None:
        self._layers: dict[str, Layer] = {}
        self._active: dict[str, str] = {}

    def stage(self, stream: Source, *, hashed: bool = True) -> MemoryStaged:
        whole = _Whole(stream)
        size = sum(entry.size for entry in TarReader(whole) if entry.kind == REGULAR)
        return MemoryStaged(whole.digest if hashed else "", size, whole.size)

    def place(self, staged: Staged, parent: str, diff_id: str = "") -> str:
        assert isinstance(staged, MemoryStaged)
        self._check(parent)
        if diff_id and staged.diff_id and staged.diff_id != diff_id:
            raise InvalidParameter(f"layer digest mismatch: expected {diff_id}, got {staged.diff_id}")
        layer = Layer(parent, staged.diff_id or diff_id, staged.size, staged.tar_size)
        chain_id = next_chain_id(parent, layer.diff_id)
        self._layers[chain_id] = layer
        return chain_id

    def unpack(self, stream: Source, parent: str, diff_id: str = "", *, verified: bool = False) -> str:
        self._check(parent)
        if diff_id and next_chain_id(parent, diff_id) in self._layers:
            return next_chain_id(parent, diff_id)
        with self.stage(stream, hashed=not verified) as staged:
            return self.place(staged, parent, diff_id)

    def layer(self, chain_id: str) -> Layer:
        self._check(chain_id)
        return self._layers[chain_id]

    def chains(self) -> set[str]:
        return set(self._layers)

    def prepare(self, key: str, chain_id: str) -> None:
        self._check(chain_id)
        if key in self._active:
            raise Conflict(f"snapshot {key} already exists")
        self._active[key] = chain_id

    def mount_plan(self, key: str, *, volatile: bool) -> OverlayPlan:
        lower = self.view_plan(self.chain_of(key)).lower
        return OverlayPlan(lower, f"/nowhere/{key}/upper", f"/nowhere/{key}/work", volatile)

    def view_plan(self, chain_id: str) -> OverlayPlan:
        self._check(chain_id)
        return OverlayPlan(tuple(f"/nowhere/{c}" for c in self._lineage(chain_id)) or ("/nowhere/empty",))

    def usage(self, key: str) -> int:
        self.chain_of(key)
        return 0

    def changes(self, key: str) -> list[Change]:
        self.chain_of(key)
        return []

    def diff(self, key: str) -> Generator[bytes, None, None]:
        self.chain_of(key)
        yield bytes(1024)

    def occupied(self, key: str) -> int:
        return self.usage(key)

    def layer_occupied(self, chain_id: str) -> int:
        return self._layers[chain_id].size if chain_id in self._layers else 0

    def layers_occupied(self) -> int:
        return sum(map(self.layer_occupied, self._layers))

    def remove(self, key: str) -> None:
        self._active.pop(key, None)

    def remove_chain(self, chain_id: str) -> None:
        if any(layer.parent == chain_id for layer in self._layers.values()) or chain_id in self._active.values():
            raise Conflict(f"layer {chain_id} is in use")
        self._layers.pop(chain_id, None)

    def copy(self, key: str, newest_ns: int | None = None) -> str:
        self.chain_of(key)
        return ""

    def settle(self, key: str) -> str:
        return self.copy(key)

    def tar(self, diff_id: str) -> BinaryIO | None:
        return None

    def tar_size(self, diff_id: str) -> int | None:
        return None

    def collect(self, chains: Iterable[str], tars: Iterable[str] = ()) -> list[str]:
        kept = {c for chain_id in [*chains, *self._active.values()] for c in self._lineage(chain_id)}
        gone = sorted(self._layers.keys() - kept, key=lambda c: (-len(self._lineage(c)), c))
        for chain_id in gone:
            del self._layers[chain_id]
        return gone

    def keys(self) -> set[str]:
        return set(self._active)

    def chain_of(self, key: str) -> str:
        if key not in self._active:
            raise NotFound(f"snapshot {key} does not exist")
        return self._active[key]

    def sweep(self, *, keys: Iterable[str] | None, chains: Iterable[str], tars: Iterable[str] = ()) -> None:
        if keys is not None:
            for key in self.keys() - set(keys):
                self.remove(key)
        self.collect(chains, tars)

    def purge(self) -> None:
        return None

    def _check(self, chain_id: str) -> None:
        if chain_id and chain_id not in self._layers:
            raise NotFound(f"layer {chain_id} does not exist")

    def _lineage(self, chain_id: str) -> list[str]:
        found = []
        while chain_id in self._layers:
            found.append(chain_id)
            chain_id = self._layers[chain_id].parent
        return found


class _Whole:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, size: int, /) -> bytes:
        piece = self._source.read(size)
        self._hash.update(piece)
        self.size += len(piece)
        return piece

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()
