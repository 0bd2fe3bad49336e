"""What a build made, read from an archive of the image, and how two such differ."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from typing import Any

Tree = dict[str, dict[str, Any]]
"""Every path with what it is."""

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


@dataclass(frozen=True)
class Built:
    """`document` is the image configuration; `tree` every path with what it is; `layers` the same for each layer."""

    document: dict[str, Any]
    layers: list[Tree]

    @property
    def config(self) -> dict[str, Any]:
        """Without what has no meaning: fields that hold nothing."""
        return {name: value for name, value in self.document["config"].items() if value}

    @property
    def top(self) -> dict[str, Any]:
        """The rest of the document, times and layers apart."""
        return {k: v for k, v in self.document.items() if k not in ("config", "history", "rootfs", "created") and v}

    @property
    def history(self) -> list[dict[str, Any]]:
        """As it is written, without times."""
        return [{key: value for key, value in entry.items() if key != "created"} for entry in self.document["history"]]

    @property
    def changing_history(self) -> list[dict[str, Any]]:
        """The same, a step that changed nothing told as one without a layer, whether or not it has an empty one:
        BuildKit makes one, ours does not."""
        changed = iter([bool(layer) for layer in self._changes()])
        return [
            entry if entry.get("empty_layer") or next(changed) else {**entry, "empty_layer": True}
            for entry in self.history
        ]

    @property
    def tree(self) -> Tree:
        """The layers on top of one another."""
        tree: Tree = {}
        for layer in self.layers:
            _lay_on(tree, layer)
        return tree

    @property
    def changes(self) -> list[Tree]:
        """What each layer changes, those left out that change nothing."""
        return [changed for changed in self._changes() if changed]

    def _changes(self) -> list[Tree]:
        """Folders that a layer only lists tell nothing."""
        tree: Tree = {}
        found = []
        for layer in self.layers:
            found.append(
                {path: entry for path, entry in layer.items() if tree.get(path) != entry or entry["kind"] != "folder"}
            )
            _lay_on(tree, layer)
        return found


def _lay_on(tree: Tree, layer: Tree) -> None:
    """Put a layer on a tree."""
    for path in [path for path, entry in layer.items() if entry["kind"] in ("whiteout", "opaque")]:
        for known in [known for known in tree if known.startswith(path + "/")]:
            del tree[known]
        if layer[path]["kind"] == "whiteout":
            tree.pop(path, None)
    for path, entry in layer.items():
        if entry["kind"] not in ("whiteout", "opaque"):
            if entry["kind"] != "folder":
                for known in [known for known in tree if known.startswith(path + "/")]:
                    del tree[known]
            tree[path] = entry


def read_archive(data: bytes) -> Built:
    """Of a `docker save` archive with one image."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        manifest = json.loads(_member(archive, "manifest.json"))[0]
        document = json.loads(_member(archive, manifest["Config"]))
        layers = [_layer(_member(archive, name)) for name in manifest["Layers"]]
    return Built(document, layers)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None, name
    return file.read()


def _layer(data: bytes) -> Tree:
    entries: Tree = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
        for member in archive:
            path = member.name.strip("/").removeprefix("./")
            folder, _, name = path.rpartition("/")
            if name == _OPAQUE:
                entries[folder + "/" + _OPAQUE] = {"kind": "opaque"}
                continue
            if name.startswith(_WHITEOUT):
                entries[f"{folder}/{name.removeprefix(_WHITEOUT)}".lstrip("/")] = {"kind": "whiteout"}
                continue
            if path in ("", "."):
                continue
            entries[path] = _entry(archive, member)
    opaque = {path: {"kind": "opaque"} for path, entry in entries.items() if entry["kind"] == "opaque"}
    for path in opaque:
        del entries[path]
    return {path.removesuffix("/" + _OPAQUE): entry for path, entry in opaque.items()} | entries


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    kinds = {tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "hard link"}
    kind = kinds.get(member.type, "file" if member.isreg() else f"type {member.type!r}")
    entry: dict[str, Any] = {"kind": kind, "owner": (member.uid, member.gid)}
    if kind != "symlink":
        entry["mode"] = oct(member.mode & 0o7777)
    if kind in ("symlink", "hard link"):
        entry["target"] = member.linkname.lstrip("/") if kind == "hard link" else member.linkname
    if kind == "file":
        file = archive.extractfile(member)
        assert file is not None
        entry["content"] = (member.size, hashlib.sha256(file.read()).hexdigest()[:16])
    xattrs = {key: value for key, value in member.pax_headers.items() if key.startswith("SCHILY.xattr.")}
    if xattrs:
        entry["xattrs"] = xattrs
    return entry


def differences(left: object, right: object, at: str = "") -> list[str]:
    """Each place where two values of JSON's kinds differ, as "path: left | right"."""
    if isinstance(left, dict) and isinstance(right, dict):
        found = []
        for key in sorted({*left, *right}, key=str):
            if key not in left:
                found.append(f"{at}/{key}: nothing | {right[key]!r}")
            elif key not in right:
                found.append(f"{at}/{key}: {left[key]!r} | nothing")
            else:
                found += differences(left[key], right[key], f"{at}/{key}")
        return found
    if isinstance(left, list) and isinstance(right, list):
        found = [f"{at}: {len(left)} entries | {len(right)} entries"] if len(left) != len(right) else []
        for index, (one, other) in enumerate(zip(left, right, strict=False)):
            found += differences(one, other, f"{at}[{index}]")
        return found
    return [] if left == right else [f"{at}: {left!r} | {right!r}"]


def compare(left: Built, right: Built, *, tree: bool = True, history: bool = True) -> list[str]:
    """Every difference; [] if there is none."""
    found = differences(left.top, right.top, "document")
    found += differences(left.config, right.config, "config")
    if history and tree:
        found += differences(left.changing_history, right.changing_history, "history")
    elif history:
        found += differences(left.history, right.history, "history")
    if tree:
        found += differences(left.tree, right.tree, "tree")
        layers = [[sorted(layer) for layer in built.changes] for built in (left, right)]
        found += differences(layers[0], layers[1], "layers")
    return found
