"""Mounts as values: computed by the storage drivers, executed by `wherry.linux`."""

from __future__ import annotations

from dataclasses import dataclass

from wherry.model.idmaps import IdMap


@dataclass(frozen=True)
class OverlayPlan:
    """One overlayfs mount (kernel Documentation/filesystems/overlayfs.rst).

    `lower` holds absolute paths of directories, the top layer first; never empty. `upper` and `work` are absolute paths
    on one filesystem, or both None for a read-only view. `volatile` lets the kernel skip syncing at unmount: only for
    contents that nobody wants after a crash. `options` are further mount options, verbatim, such as "userxattr".
    With `ids` the lower directories are shown as the map's users own them; the upper one has such owners already.
    A read-only plan with a single lower directory is no overlay (the kernel wants two): bind that directory read-only.
    """

    lower: tuple[str, ...]
    upper: str | None = None
    work: str | None = None
    volatile: bool = False
    options: tuple[str, ...] = ()
    ids: IdMap | None = None


@dataclass(frozen=True)
class BindPlan:
    """One bind mount inside a root filesystem: `source` is the host's path, `destination` the one inside.

    With `ids` its files are shown as belonging to the host's users of that map.
    """

    source: str
    destination: str
    read_only: bool = False
    non_recursive: bool = False
    ids: IdMap | None = None


@dataclass(frozen=True)
class ViewPlan:
    """A root filesystem with binds in it, in this order: outer ones first.

    The root is the `overlay` to mount, or what is `mounted` at a path of the host already. `read_only` is of the root
    alone.
    """

    overlay: OverlayPlan | None = None
    mounted: str = ""
    binds: tuple[BindPlan, ...] = ()
    read_only: bool = False
