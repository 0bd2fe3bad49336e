"""What removing an image does: Docker's rules about names, containers, and images built on others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from wherry.errors import Conflict
from wherry.model.image import Image
from wherry.model.reference import Reference, is_digest, parse, short_id
from wherry.storage.image_records import ImageRecords


@dataclass(frozen=True)
class InUse:
    """A container that was made from an image."""

    id: str
    name: str
    running: bool


@dataclass(frozen=True)
class Removed:
    """One line of what a removal did: exactly one of the two is set."""

    untagged: str = ""
    deleted: str = ""


class Removal:
    """Decides what a removal does, by the records, without doing it."""

    def __init__(
        self, records: ImageRecords, in_use: Callable[[str], Sequence[InUse]], force: bool, prune: bool
    ) -> None:
        self._records = records
        self._in_use = in_use
        self._force = force
        self._prune = prune
        self.done: list[Removed] = []
        self.untagged: list[tuple[Image, Reference]] = []
        self.deleted: list[Image] = []

    def remove(self, ref: str, image: Image) -> None:
        """And with it those of other platforms that nothing names any more. Raises Conflict."""
        companions = self._records.companions()
        self._remove(ref, image)
        gone = {name.canonical for _, name in self.untagged}
        left = {target for name, target in self._records.targets.items() if name not in gone}
        for image_id, indexes in companions.items():
            other = self._records.images[image_id]
            if other not in self.deleted and indexes.isdisjoint(left):
                self._delete(other, [], force=False, quiet=True)

    def _remove(self, ref: str, image: Image) -> None:
        names = self._records.references(image.id)
        if image.id.startswith(ref) or image.id.startswith(ref, 7) or is_digest(ref):
            if _is_single(names):
                self._check(image, names, stopped=not self._force, named=False)
                self._untag(image, names)
                names = []
            self._delete(image, names, force=self._force, quiet=False)
            return
        if not self._force and _is_single(names):
            for user in self._in_use(image.id):
                raise Conflict(
                    f'conflict: unable to remove repository reference "{ref}" (must force) - container'
                    f" {user.id[:12]} is using its referenced image {short_id(image.id)}"
                )
        target = parse(ref).with_default_tag().without_tag()
        self._untag(image, [name for name in names if name == target])
        left = [name for name in names if name != target]
        if not target.digest and not any(name.tag and name.name == target.name for name in left):
            digests = [name for name in left if name.name == target.name]
            self._untag(image, digests)  # a digest of a repository goes with the last tag of it
            left = [name for name in left if name.name != target.name]
        if not left:
            self._delete(image, left, force=self._force, quiet=True)

    def _delete(self, image: Image, names: list[Reference], *, force: bool, quiet: bool) -> None:
        """`quiet`: a conflict over an image that is named, used or built upon only means that it stays."""
        try:
            self._check(image, names, stopped=not force, named=not force)
        except Conflict as conflict:
            if quiet and (names or self._children(image) or isinstance(conflict, _UseConflict)):
                return
            raise
        self._untag(image, names)
        self.done.append(Removed(deleted=image.id))
        self.deleted.append(image)
        parent = self._records.images.get(image.parent)
        if self._prune and parent is not None:
            self._delete(parent, self._records.references(parent.id), force=False, quiet=True)

    def _check(self, image: Image, names: list[Reference], *, stopped: bool, named: bool) -> None:
        if self._children(image):
            raise self._conflict(image, "cannot be forced", "image has dependent child images")
        users = self._in_use(image.id)
        for user in users:
            if user.running:
                raise self._conflict(
                    image, "cannot be forced", f"image is being used by running container {user.id[:12]}", used=True
                )
        if named and names:
            raise self._conflict(image, "must be forced", "image is referenced in multiple repositories")
        for user in users:
            if stopped and not user.running:
                raise self._conflict(
                    image, "must be forced", f"image is being used by stopped container {user.id[:12]}", used=True
                )

    def _conflict(self, image: Image, force: str, why: str, *, used: bool = False) -> Conflict:
        kind = _UseConflict if used else Conflict
        return kind(f"conflict: unable to delete {short_id(image.id)} ({force}) - {why}")

    def _children(self, image: Image) -> bool:
        going = {gone.id for gone in self.deleted}
        return any(child not in going for child in self._records.children(image.id))

    def _untag(self, image: Image, names: Iterable[Reference]) -> None:
        for name in names:
            self.untagged.append((image, name))
            self.done.append(Removed(untagged=name.familiar))


class _UseConflict(Conflict):
    """A container uses the image."""


def _is_single(names: list[Reference]) -> bool:
    """One name, or one tag and digests of the same repository."""
    if len(names) <= 1:
        return len(names) == 1
    tags = [name for name in names if not name.digest]
    repositories = {name.name for name in names if name.digest}
    return len(tags) <= 1 and repositories == {(tags or names)[0].name}
