"""A container's files as its engine sees them: root filesystem, volumes and binds, in a mount namespace of their own.

The namespace belongs to no process. A descriptor of it and one of its root keep it, so it ends, with everything mounted
in it, when the view is closed or its owner dies, and nothing of it is ever seen on the host (mount_namespaces(7)).

    with open_view(plan) as view:
        fd = safepath.open_in_root(view.root, "/etc/passwd", os.O_RDONLY)     # crosses into volumes, leaves never
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from wherry.linux import libc, safepath, user_namespaces
from wherry.linux.mounts import mount_overlay
from wherry.model.mount_plans import BindPlan, ViewPlan

T = TypeVar("T")
_OWN_NAMESPACE = "/proc/thread-self/ns/mnt"


class View:
    """An open view. `root` is an O_PATH descriptor of its root directory.

    With `no_devices` the kernel opens no device in it, whatever its files are.
    """

    def __init__(self, root: int, namespace: int, no_devices: bool) -> None:
        self.root = root
        self.no_devices = no_devices
        self._namespace = namespace

    def attach(self, target: Path) -> None:
        """Mount the view's root filesystem, without volumes and binds, at a directory of the caller's namespace.

        It is the same file system: a second overlay on the same directories would not see what this one writes.
        Blocking. Raises OSError.
        """
        tree = self.bare()
        try:
            if self.no_devices:  # that is of the view alone
                libc.mount_setattr(tree, 0, clear=libc.MOUNT_ATTR_NODEV)
            libc.move_mount(tree, str(target))
        finally:
            os.close(tree)

    def bare(self) -> int:
        """The root filesystem alone, without what is mounted in it: an O_PATH descriptor that the caller closes."""
        return _in_thread(self._clone)

    def _clone(self) -> int:
        libc.unshare(libc.CLONE_NEWNS)  # setns(2): the thread must not share its root directory with others
        libc.setns(self._namespace, libc.CLONE_NEWNS)
        return libc.open_tree("/", libc.OPEN_TREE_CLONE)

    def close(self) -> None:
        """Idempotent."""
        for fd in (self.root, self._namespace):
            if fd >= 0:
                os.close(fd)
        self.root = self._namespace = -1

    def __enter__(self) -> View:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_view(plan: ViewPlan, scratch: Path) -> View:
    """Make the plan's view. `scratch` is an existing empty directory; nothing is mounted on it for anyone else.

    Binds get missing mount points, as at a container's start. Blocking. Raises OSError.
    """
    return _in_thread(lambda: _build(plan, scratch))


def _in_thread(work: Callable[[], T]) -> T:
    """Do it in a thread of its own that ends afterwards, since what it does to its namespace cannot be undone."""
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="mount namespace")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def _build(plan: ViewPlan, scratch: Path) -> View:
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount("", "/", None, libc.MS_REC | libc.MS_PRIVATE, None)
    with contextlib.ExitStack() as undo:
        namespace = os.open(_OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        undo.callback(os.close, namespace)
        root = _mount(plan, scratch)
        undo.callback(os.close, root)
        no_devices = _without_devices(root)
        _become_root(scratch)
        undo.pop_all()
    return View(root, namespace, no_devices)


def _without_devices(root: int) -> bool:
    """Make it so; False where the kernel cannot (before Linux 5.12)."""
    try:
        libc.mount_setattr(root, libc.MOUNT_ATTR_NODEV, recursive=True)
    except OSError:
        return False
    return True


def _mount(plan: ViewPlan, scratch: Path) -> int:
    """Mount it all in the namespace at hand; returns a descriptor of the root."""
    if plan.mounted:
        libc.mount(plan.mounted, str(scratch), None, libc.MS_BIND, None)
    else:
        assert plan.overlay is not None
        mount_overlay(plan.overlay, scratch)
        if plan.overlay.ids is not None:  # places of binds that are made now
            user_namespaces.make_files_as_root_of(plan.overlay.ids)
    root = os.open(scratch, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for bind in plan.binds:
            _bind(root, bind)
        if plan.read_only:
            _remount(str(scratch), libc.MS_RDONLY)
        return root
    except BaseException:
        os.close(root)
        raise


def _bind(root: int, bind: BindPlan) -> None:
    """Bind inside the root, whatever symlinks are in the way (proc(5): /proc/self/fd leads to the very file)."""
    if bind.ids is not None:
        source = user_namespaces.shown(bind.source, bind.ids, recursive=not bind.non_recursive)
    else:
        source = os.open(bind.source, os.O_PATH | os.O_CLOEXEC)
    try:
        directory = stat.S_ISDIR(os.fstat(source).st_mode)
        place = _mount_point(root, bind.destination, directory)
        try:
            recursive = 0 if bind.non_recursive else libc.MS_REC
            target = f"/proc/thread-self/fd/{place}"
            libc.mount(f"/proc/thread-self/fd/{source}", target, None, libc.MS_BIND | recursive, None)
        finally:
            os.close(place)
        if bind.read_only:
            mounted = safepath.open_in_root(root, bind.destination, os.O_PATH)
            try:
                _remount(f"/proc/thread-self/fd/{mounted}", libc.MS_RDONLY)
            finally:
                os.close(mounted)
    finally:
        os.close(source)


def _mount_point(root: int, path: str, directory: bool) -> int:
    flags = os.O_PATH | (os.O_DIRECTORY if directory else 0)
    with contextlib.suppress(FileNotFoundError):
        return safepath.open_in_root(root, path, flags)
    if directory:
        return safepath.make_dirs_in_root(root, path)
    parent, _, name = path.rstrip("/").rpartition("/")
    folder = safepath.make_dirs_in_root(root, parent)
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o755, dir_fd=folder))
    finally:
        os.close(folder)
    return safepath.open_in_root(root, path, flags)


def _remount(target: str, flags: int) -> None:
    """Change a bind's own flags; those that it has from the host must stay (mount(2), MS_REMOUNT | MS_BIND)."""
    found = os.statvfs(target).f_flag
    kept = sum(
        flag
        for flag, name in (
            (libc.MS_NOSUID, os.ST_NOSUID),
            (libc.MS_NODEV, os.ST_NODEV),
            (libc.MS_NOEXEC, os.ST_NOEXEC),
        )
        if found & name
    )
    libc.mount("", target, None, libc.MS_REMOUNT | libc.MS_BIND | flags | kept, None)


def _become_root(scratch: Path) -> None:
    """Leave only the view in the namespace, so that it holds nothing else of the host's (pivot_root(2), NOTES)."""
    os.chdir(scratch)
    try:
        libc.pivot_root(".", ".")
    except OSError as error:
        if error.errno == errno.EINVAL:
            return  # a host that runs from its initramfs cannot: there the copy of its mounts stays
        raise
    libc.umount(".", libc.MNT_DETACH)
