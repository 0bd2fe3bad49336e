"""File operations of builds: choosing what is copied, telling its identity, and doing it inside a root filesystem.

Everything is done below a descriptor of the root: folders are opened by the kernel with it as their `/`
(linux/safepath.py), and the last component of a path is only ever made, replaced or removed relative to its opened
folder. So nothing leaves the root, whatever symlinks the image or the source has.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from wherry.errors import InvalidParameter, NotFound, SystemFailure
from wherry.linux.safepath import make_dirs_in_root, open_in_root
from wherry.model.build_graph import Copy, MakeDir, MakeFile, Remove, Symlink
from wherry.model.wildcards import has_wildcard, name_pattern
from wherry.storage.extracting import extract
from wherry.storage.moving import Moving
from wherry.storage.source_trees import Node, RootTree, SourceTree, resolve
from wherry.storage.streams import Decompressed
from wherry.storage.tar import BadArchive, TarReader
from wherry.storage.trees import copy_content
from wherry.storage.writing import set_xattr

Keep = Callable[[str], bool]
"""Whether a path, relative to what is copied, comes along."""

IDs = tuple[int, int]


class Later(NamedTuple):
    """An empty file that was made in the place of one with a content, and what it shall be."""

    digest: bytes
    node: Node
    made: Made


_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS = 256  # descriptors of files with several names that are kept to link to
_ARCHIVE_HEAD = 512
_HANDS = 2  # threads that make files: most of it is the kernel's work, and goes on in parallel
_HANDFUL = 16  # files that a thread is given at once


@dataclass(frozen=True)
class Item:
    """One match of a source: its real path in the tree, and the name it was found by ("" for the tree itself)."""

    path: bytes
    name: bytes
    node: Node
    written: bytes


def everything(path: str) -> bool:
    return True


# choosing


def choose(tree: SourceTree, action: Copy) -> list[Item]:
    """What a copy's source means in a tree, in order. Raises NotFound if that is nothing, unless it may be."""
    written = action.source
    matched = action.wildcard and has_wildcard(written)
    if matched:
        paths = sorted(_matches(tree, written))
    else:
        paths = [os.fsencode(written)]
    found = []
    missing = written.strip("/")
    for path in paths:
        real = resolve(tree, path, follow=action.follow)
        node = tree.look(real)
        if node is None and matched and tree.look(resolve(tree, path, follow=False)) is not None:
            raise NotFound(f'"/{os.fsdecode(real)}": not found')  # a symlink to nothing is not passed over
        if node is not None:
            plain = b"/".join(part for part in path.split(b"/") if part not in (b"", b"."))
            found.append(Item(real, plain.rpartition(b"/")[2] if plain != b".." else b"", node, path))
        elif not matched:  # where a symlink leads to nothing, that is what is missing
            missing = real.decode(errors="backslashreplace")
    if not found and not (matched and action.allow_empty):
        raise NotFound(f'"/{missing}": not found')
    return found


def _matches(tree: SourceTree, written: str) -> Iterator[bytes]:
    parts = [part for part in written.split("/") if part not in ("", ".")]
    pending: list[tuple[list[bytes], int]] = [([], 0)]
    while pending:
        done, depth = pending.pop()
        if depth == len(parts):
            yield b"/".join(done)
            continue
        part = parts[depth]
        folder = resolve(tree, b"/".join(done), follow=True)
        node = tree.look(folder)
        if node is None or not node.directory:
            continue
        if not has_wildcard(part):
            pending.append(([*done, os.fsencode(part)], depth + 1))
            continue
        pattern = name_pattern(part)
        names = [name for name in tree.names(folder) if pattern.fullmatch(os.fsdecode(name))]
        pending.extend(([*done, name], depth + 1) for name in names)


def walk(tree: SourceTree, item: Item, keep: Keep) -> Iterator[tuple[bytes, bytes, Node]]:
    """A chosen item and all in it that `keep` lets through: path in the item ("" first), path in the tree, node.

    A folder comes before what is in it; one that is not kept still comes if something in it is.
    """
    if not item.node.directory:
        if keep(os.fsdecode(item.name)):
            yield b"", item.path, item.node
        return
    yield b"", item.path, item.node
    waiting: list[tuple[bytes, bytes, Node]] = []  # folders that come if something in them does
    stack: list[tuple[bytes, bytes, Iterator[bytes]]] = [(b"", item.path, iter(tree.names(item.path)))]
    while stack:
        inner, path, names = stack[-1]
        name = next(names, None)
        if name is None:
            stack.pop()
            if waiting and waiting[-1][0] == inner:
                waiting.pop()
            continue
        inner = inner + b"/" + name if inner else name
        path = path + b"/" + name if path else name
        node = tree.look(path)
        if node is None or stat.S_ISSOCK(node.mode):
            continue
        kept = keep is everything or keep(os.fsdecode(inner))
        if kept:
            yield from waiting
            waiting.clear()
            yield inner, path, node
        if node.directory:
            if not kept:
                waiting.append((inner, path, node))
            stack.append((inner, path, iter(tree.names(path))))


def digest(tree: SourceTree, items: Sequence[Item], keep: Keep = everything) -> str:
    """The identity of what would be copied: names, kinds, modes, owners, link targets and contents, but no times."""
    hashed = hashlib.sha256()
    for item in items:
        hashed.update(b"%d:%s" % (len(item.name), item.name))
        for inner, path, node in walk(tree, item, keep):
            content = tree.content(path, node) if stat.S_ISREG(node.mode) else node.link
            device = node.device if stat.S_ISCHR(node.mode) or stat.S_ISBLK(node.mode) else 0
            head = b"%d:%s%o %d %d %d %d:" % (len(inner), inner, node.mode, node.uid, node.gid, device, len(content))
            hashed.update(head + content)
            for key, value in tree.xattrs(path, node).items():
                hashed.update(b"%d:%s%d:%s" % (len(key), key, len(value), value))
    return "sha256:" + hashed.hexdigest()


# modes

_SYMBOLIC = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_OPERATION = re.compile(r"([-+=])([rwxXstugo]*)")
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o1007, "a": 0o7777}


def new_mode(asked: str, mode: int) -> int:
    """The permission bits that chmod(1) would give a file of this `mode`. Raises InvalidParameter."""
    if not asked:
        return stat.S_IMODE(mode)
    if asked.isdigit():
        try:
            number = int(asked, 8)
        except ValueError:
            number = -1
        if not 0 <= number <= 0o7777:
            raise InvalidParameter(f"invalid mode: {asked}")
        return number
    bits = stat.S_IMODE(mode)
    for clause in asked.split(","):
        match = _SYMBOLIC.fullmatch(clause)
        if match is None:
            raise InvalidParameter(f"invalid mode: {asked}")
        who = 0
        for letter in match[1] or "a":
            who |= _WHO[letter]
        for operator, letters in _OPERATION.findall(match[2]):
            value = _permissions(letters, bits, stat.S_ISDIR(mode)) & who
            if operator == "+":
                bits |= value
            elif operator == "-":
                bits &= ~value
            else:
                bits = bits & ~(who & 0o777) | value
    return bits


def _permissions(letters: str, bits: int, directory: bool) -> int:
    value = 0
    for letter in letters:
        match letter:
            case "r":
                value |= 0o444
            case "w":
                value |= 0o222
            case "x":
                value |= 0o111
            case "X":
                value |= 0o111 if directory or bits & 0o111 else 0
            case "s":
                value |= 0o6000
            case "t":
                value |= 0o1000
            case _:
                value |= (bits >> {"u": 6, "g": 3, "o": 0}[letter] & 7) * 0o111
    return value


# doing


@dataclass
class Made:
    """What one copy makes looks like."""

    owner: IDs | None
    mode: str
    time_ns: int | None
    later: dict[bytes, Later] | None = None  # by path: files to which contents are moved afterwards
    links: dict[tuple[int, int], int] = field(default_factory=dict)  # by inode of the source: what was made of it

    def close(self) -> None:
        for fd in self.links.values():
            os.close(fd)
        self.links.clear()


def copy(
    root: int,
    action: Copy,
    tree: SourceTree,
    owner: IDs | None,
    keep: Keep = everything,
    later: dict[bytes, Later] | None = None,
) -> None:
    """Do a copy in the root filesystem that a descriptor names. Blocking.

    `owner` is the action's, looked up. With `later` a file whose content is in a store is made empty and put there, for
    `fill`. Raises NotFound, InvalidParameter, SystemFailure.
    """
    items = choose(tree, action)
    made = Made(owner, action.mode, action.time_ns, later)
    try:
        for item in items:
            with _explained(action.destination):
                _copy_item(root, action, tree, item, made, keep)
    finally:
        made.close()


def fill(later: Mapping[bytes, Later], moving: Moving) -> None:
    """Move contents to where copies have made empty files for them. Blocking. Raises NotFound, SystemFailure."""
    for path, (digest, node, made) in later.items():
        with _explained(f"/{os.fsdecode(path)}"):
            _finish_named(*moving.put(digest, node.size, path), node, made)


def _copy_item(root: int, action: Copy, tree: SourceTree, item: Item, made: Made, keep: Keep) -> None:
    destination = _destination(root, action.destination)
    if action.unpack and stat.S_ISREG(item.node.mode) and _is_archive(tree, item):
        _unpack(root, tree, item, destination, made)
        return
    if action.parents:
        written = os.fsdecode(item.written)
        _, pivot, behind = written.rpartition("/./")
        path = behind if pivot else written
        plain = "/".join(part for part in path.split("/") if part not in ("", "."))
        target = f"{destination.rstrip('/')}/{plain}"
        _parents_like(root, action, tree, item, destination, plain, made)
    elif item.node.directory and (action.contents_only or not item.name):
        target = destination
    elif destination.endswith("/") or _is_directory(root, destination):
        target = f"{destination.rstrip('/')}/{os.fsdecode(item.name)}"
    else:
        target = destination
    if item.node.directory:
        _copy_directory(root, action, tree, item, target, made, keep)
    elif keep(os.fsdecode(item.name)):
        folder, _, name = target.rstrip("/").rpartition("/")
        parent = _folder(root, folder, action.create_destination, made)
        try:
            at = _real_path(root, folder, made)
            _place(parent, at, os.fsencode(name), tree, item.path, item.node, made, action.replace)
        finally:
            os.close(parent)


def _destination(root: int, written: str) -> str:
    """Where a copy goes: through every symlink in the root, also the last one and those that lead to nothing yet."""
    try:
        real = "/" + os.fsdecode(resolve(RootTree(root), os.fsencode(written), follow=True))
    except NotFound:
        real = "/" + written.strip("/")  # through what is no directory: said when it is opened
    return real.rstrip("/") + "/" if written.endswith(("/", "/.")) else real


def _real_path(root: int, folder: str, made: Made) -> bytes:
    """Where in the root an existing folder is; needed only for what is done later."""
    return b"" if made.later is None else resolve(RootTree(root), os.fsencode(folder), follow=True)


def _parents_like(
    root: int, action: Copy, tree: SourceTree, item: Item, destination: str, plain: str, made: Made
) -> None:
    """The folders of a copy with `parents`, each like the one it is made after."""
    parts = plain.split("/")
    source = os.fsencode(item.written.rpartition(b"/./")[0]) if b"/./" in item.written else b""
    current = destination.rstrip("/")
    os.close(_folder(root, current, action.create_destination, made))
    for part in parts[:-1]:
        source = source + b"/" + os.fsencode(part)
        current = f"{current}/{part}"
        if _is_directory(root, current):
            continue
        node = tree.look(resolve(tree, source, follow=True))
        fd = _folder(root, current, True, made)
        try:
            if node is not None:
                _finish_opened(fd, node, made, {})
        finally:
            os.close(fd)


def _copy_directory(root: int, action: Copy, tree: SourceTree, item: Item, target: str, made: Made, keep: Keep) -> None:
    """A directory that is there already keeps what it is, and one made for contents alone is like any that a copy makes
    on its way; those inside it become what the source's are."""
    created = False
    try:
        top = open_in_root(root, target, _DIRECTORY)
    except FileNotFoundError:
        parent = target.rstrip("/").rpartition("/")[0]
        os.close(_folder(root, parent, action.create_destination, made))
        top = _folder(root, target, True, made)
        created = not action.contents_only
    except NotADirectoryError:
        raise SystemFailure(f"cannot copy to non-directory: {target}") from None
    opened = [_Filling(b"", top, item.path, item.node)]
    real = _real_path(root, target, made)

    def place(folder: _Filling, entries: Sequence[tuple[bytes, bytes, Node]]) -> None:
        at = b"/".join(part for part in (real, folder.inner) if part)
        for name, path, node in entries:
            _place(folder.fd, at, name, tree, path, node, made, action.replace)

    def leave() -> None:
        folder = opened[-1]
        place(folder, folder.waiting)
        for placed in folder.placing:
            placed.result()
        if folder.inner or created:
            _finish_opened(folder.fd, folder.node, made, tree.xattrs(folder.path, folder.node))
        os.close(opened.pop().fd)

    pool = ThreadPoolExecutor(_HANDS, "copy")
    try:
        for inner, path, node in walk(tree, item, keep):
            if not inner:
                continue
            above, _, base = inner.rpartition(b"/")
            while opened[-1].inner != above:
                leave()
            folder = opened[-1]
            if node.directory:
                opened.append(_Filling(inner, _make_directory(folder.fd, base, action.replace), path, node))
            elif node.inode is not None:  # one after the other: the first is what the others are links to
                place(folder, [(base, path, node)])
            else:
                folder.waiting.append((base, path, node))
                if len(folder.waiting) == _HANDFUL:
                    folder.placing.append(pool.submit(place, folder, folder.waiting))
                    folder.waiting = []
        while opened:
            leave()
    finally:
        pool.shutdown(cancel_futures=True)
        for folder in opened:
            os.close(folder.fd)


@dataclass
class _Filling:
    """A folder that is being filled: what is to be placed in it, and what others place meanwhile."""

    inner: bytes
    fd: int
    path: bytes
    node: Node
    waiting: list[tuple[bytes, bytes, Node]] = field(default_factory=list)
    placing: list[Future[None]] = field(default_factory=list)


def _folder(root: int, path: str, create: bool, made: Made) -> int:
    """A directory inside the root, made with those above it where that is asked; an O_PATH descriptor."""
    if not create:
        return open_in_root(root, path or "/", _DIRECTORY)
    uid, gid = made.owner or (0, 0)
    return make_dirs_in_root(root, path, uid=uid, gid=gid, time_ns=made.time_ns)


def _make_directory(parent: int, name: bytes, replace: bool) -> int:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            if not replace:
                raise SystemFailure(f"cannot copy to non-directory: {os.fsdecode(name)}") from None
            os.unlink(name, dir_fd=parent)
            os.mkdir(name, 0o700, dir_fd=parent)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _place(
    parent: int, at: bytes, name: bytes, tree: SourceTree, path: bytes, node: Node, made: Made, replace: bool
) -> None:
    """Anything but a directory, instead of what is there. `at` is where the parent is in the root."""
    make = _make
    if made.later is not None:
        inner = at + b"/" + name if at else name
        made.later.pop(inner, None)
        if node.digest and node.size:
            made.later[inner] = Later(node.digest, node, made)
            make = _make_empty
    try:
        make(parent, name, tree, path, node, made)
    except FileExistsError:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(name, dir_fd=parent)
        elif replace:
            shutil.rmtree(os.fsdecode(name), dir_fd=parent)
        else:
            raise SystemFailure(f"cannot replace to directory {os.fsdecode(name)} with file") from None
        make(parent, name, tree, path, node, made)


def _make_empty(parent: int, name: bytes, tree: SourceTree, path: bytes, node: Node, made: Made) -> None:
    os.mknod(name, stat.S_IFREG | 0o600, dir_fd=parent)


def _make(parent: int, name: bytes, tree: SourceTree, path: bytes, node: Node, made: Made) -> None:
    if node.inode is not None and node.inode in made.links:
        os.link(f"/proc/self/fd/{made.links[node.inode]}", name, dst_dir_fd=parent, follow_symlinks=True)
        return
    if stat.S_ISREG(node.mode):
        _make_file(parent, name, tree, path, node, made)
    elif stat.S_ISLNK(node.mode):
        os.symlink(node.link, name, dir_fd=parent)
        _finish_named(parent, name, node, made)
    else:
        os.mknod(name, stat.S_IFMT(node.mode) | 0o600, node.device, dir_fd=parent)
        _finish_named(parent, name, node, made)
    if node.inode is not None and len(made.links) < _LINKS and not stat.S_ISLNK(node.mode):
        made.links[node.inode] = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _make_file(parent: int, name: bytes, tree: SourceTree, path: bytes, node: Node, made: Made) -> None:
    writing = os.open(name, _CREATE, 0o600, dir_fd=parent)
    try:
        if node.size:
            reading = tree.open(path, node)
            try:
                copy_content(reading, writing, node.size)
            finally:
                os.close(reading)
        _finish_opened(writing, node, made, tree.xattrs(path, node))
    finally:
        os.close(writing)


def _finish_opened(fd: int, node: Node, made: Made, xattrs: dict[bytes, bytes]) -> None:
    """Owner, mode, attributes and time, in the order in which none undoes another."""
    uid, gid = made.owner or (node.uid, node.gid)
    place = f"/proc/self/fd/{fd}"  # of a directory it is an O_PATH one
    if (uid, gid) != (0, 0) or made.owner is not None or node.directory:
        os.chown(place, uid, gid)
    os.chmod(place, new_mode(made.mode, node.mode))
    for key, value in xattrs.items():
        if not key.startswith(b"security.selinux"):
            set_xattr(os.fsencode(place), key, value, follow_symlinks=True)
    time = node.mtime_ns if made.time_ns is None else made.time_ns
    os.utime(place, ns=(time, time))


def _finish_named(parent: int, name: bytes, node: Node, made: Made) -> None:
    """The same of what cannot be opened without consequences."""
    uid, gid = made.owner or (node.uid, node.gid)
    os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISLNK(node.mode):
        os.chmod(name, new_mode(made.mode, node.mode), dir_fd=parent)
    time = node.mtime_ns if made.time_ns is None else made.time_ns
    os.utime(name, ns=(time, time), dir_fd=parent, follow_symlinks=False)


def _is_directory(root: int, path: str) -> bool:
    try:
        os.close(open_in_root(root, path, _DIRECTORY))
    except OSError:
        return False
    return True


def _is_archive(tree: SourceTree, item: Item) -> bool:
    """A tar, compressed or not."""
    if item.node.size < _ARCHIVE_HEAD // 8:
        return False
    with open(tree.open(item.path, item.node), "rb", buffering=0) as file:
        try:
            return next(iter(TarReader(Decompressed(file))), None) is not None
        except InvalidParameter:
            return False


def _unpack(root: int, tree: SourceTree, item: Item, destination: str, made: Made) -> None:
    os.close(_folder(root, destination, True, made))
    with open(tree.open(item.path, item.node), "rb", buffering=0) as file:
        try:
            extract(Decompressed(file), root, destination)  # whose owners are those in the archive
        except BadArchive as error:
            raise SystemFailure(f"unpacking {os.fsdecode(item.name)}: {error}") from error


def make_directory(root: int, action: MakeDir, owner: IDs | None) -> None:
    """Raises SystemFailure. A directory that is there already stays as it is, with `parents`."""
    with _explained(action.path):
        if _is_directory(root, action.path):
            if action.parents or not action.path.strip("/"):
                return
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        uid, gid = owner or (0, 0)
        if not action.parents:
            os.close(open_in_root(root, action.path.rstrip("/").rpartition("/")[0] or "/", _DIRECTORY))
        os.close(make_dirs_in_root(root, action.path, mode=action.mode, uid=uid, gid=gid, time_ns=action.time_ns))


def make_file(root: int, action: MakeFile, owner: IDs | None) -> None:
    """Raises SystemFailure. What is there is replaced, but for a directory."""
    with _explained(action.path):
        parent, name = _parent(root, action.path)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=parent)
            fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
            with open(fd, "wb") as file:
                file.write(action.data)
                file.flush()
                if owner is not None:
                    os.fchown(fd, *owner)
                os.fchmod(fd, action.mode)
                if action.time_ns is not None:
                    os.utime(fd, ns=(action.time_ns, action.time_ns))
        finally:
            os.close(parent)


def make_symlink(root: int, action: Symlink, owner: IDs | None) -> None:
    """Raises SystemFailure, also if something is there."""
    with _explained(action.path):
        parent, name = _parent(root, action.path)
        try:
            os.symlink(os.fsencode(action.link), name, dir_fd=parent)
            if owner is not None:
                os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
            if action.time_ns is not None:
                os.utime(name, ns=(action.time_ns, action.time_ns), dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(parent)


def remove(root: int, action: Remove, tree: SourceTree) -> None:
    """`tree` is the same root, to find what the path means. Raises SystemFailure, NotFound."""
    if action.wildcard and has_wildcard(action.path):
        paths = sorted(_matches(tree, action.path))
    else:
        paths = [os.fsencode(action.path)]
    found = False
    for path in paths:
        with _explained(os.fsdecode(path)):
            parent, name = _parent(root, os.fsdecode(path))
            try:
                node = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if stat.S_ISDIR(node.st_mode):
                    shutil.rmtree(os.fsdecode(name), dir_fd=parent)
                else:
                    os.unlink(name, dir_fd=parent)
                found = True
            except FileNotFoundError:
                pass
            finally:
                os.close(parent)
    if not found and not action.allow_missing:
        raise NotFound(f'"/{action.path.strip("/")}": not found')


def _parent(root: int, path: str) -> tuple[int, bytes]:
    """The opened folder of a path, and its last component. Raises InvalidParameter for the root itself."""
    folder, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        raise InvalidParameter(f"{path}: the root itself can be neither made nor removed")
    return open_in_root(root, folder or "/", _DIRECTORY), os.fsencode(name)


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SystemFailure(f"{path}: {(error.strerror or str(error)).lower()}") from error
