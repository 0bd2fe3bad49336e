"""What is in a root filesystem: the packages that its databases tell of."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from wherry.engine.builds.shop import Shop
from wherry.engine.builds.trees import Tree
from wherry.errors import InvalidParameter, NotFound, NotSupported
from wherry.model import packages
from wherry.model.packages import Package
from wherry.storage.packing import Found, open_directory, walk
from wherry.storage.source_trees import RootTree, resolve

_DATABASE_MAX = 64 << 20  # bytes
_DPKG = b"var/lib/dpkg/status"
_DPKG_PARTS = b"var/lib/dpkg/status.d/"  # images without dpkg itself have a file a package
_APK = (b"lib/apk/db/installed", b"usr/lib/apk/db/installed")
_PYTHON = re.compile(rb"(?:.*/)?[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)")
_RPM = re.compile(rb"(?:var/lib|usr/lib/sysimage|usr/share)/rpm/(?:Packages|Packages\.db|rpmdb\.sqlite)")


def packages_of(shop: Shop, tree: Tree) -> list[Package]:
    """Blocking. Raises NotSupported for a database that is not read."""
    with shop.view(tree) as view:
        root = os.open(f"/proc/self/fd/{view.root}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            namespace = packages.distribution(_os_release(RootTree(view.root)))
            return [package for found in walk(root) for package in _packages(found, namespace)]
        finally:
            os.close(root)


def files_in(shop: Shop, tree: Tree, folder: str) -> dict[str, bytes]:
    """The regular files of a folder, by name, in order. Blocking. Raises InvalidParameter for one that is too large."""
    found = {}
    with shop.view(tree) as view:
        root = open_directory(view.root, os.fsencode(folder))
        try:
            for item in walk(root):
                name = os.fsdecode(item.path)
                if not stat.S_ISREG(item.stat.st_mode) or "/" in name:
                    continue
                if item.stat.st_size > _DATABASE_MAX:
                    raise InvalidParameter(f"/{folder}/{name} has {item.stat.st_size} bytes, at most {_DATABASE_MAX}")
                with open(f"/proc/self/fd/{item.fd}", "rb") as file:
                    found[name] = file.read(_DATABASE_MAX)
        finally:
            os.close(root)
    return found


def _packages(found: Found, namespace: str) -> Iterator[Package]:
    path = found.path
    if not stat.S_ISREG(found.stat.st_mode):
        return
    place = os.fsdecode(path).encode(errors="replace").decode()
    if path == _DPKG or (path.startswith(_DPKG_PARTS) and not path.endswith(b".md5sums")):
        yield from packages.debian(_text(found), namespace, place)
    elif path in _APK:
        yield from packages.alpine(_text(found), namespace, place)
    elif _PYTHON.fullmatch(path):
        yield from packages.python(_text(found), place)
    elif _RPM.fullmatch(path) and found.stat.st_size:
        raise NotSupported(
            f"an SBOM of packages in {place} is not supported: databases of dpkg, apk and Python are read, rpm's is not"
        )


def _text(found: Found) -> str:
    with open(f"/proc/self/fd/{found.fd}", "rb") as file:
        return file.read(_DATABASE_MAX).decode(errors="replace")


def _os_release(tree: RootTree) -> str:
    """Often a symlink, which stays inside the tree."""
    for name in (b"etc/os-release", b"usr/lib/os-release"):
        try:
            path = resolve(tree, name, follow=True)
        except NotFound:
            continue
        node = tree.look(path)
        if node is not None and stat.S_ISREG(node.mode):
            with open(tree.open(path, node), "rb") as file:
                return file.read(1 << 16).decode(errors="replace")
    return ""
