"""`commit`: an image with one more layer."""

from __future__ import annotations

from wherry.engine.images.admission import Admission
from wherry.model.commits import Commit, commit_document
from wherry.model.failpoints import failpoint
from wherry.model.image import Image
from wherry.model.reference import Reference
from wherry.storage.streams import in_thread


class Committing:
    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    async def commit(self, base: Image, key: str, target: Reference | None, step: Commit) -> Image:
        """See Images.commit."""
        async with self._admission.holding():
            added = await in_thread(lambda: self._admission.keep_copy(key))
            failpoint("images.commit.unpacked")
            document = commit_document(base, step, added.diff_id if added else "")
            names = [target] if target is not None else []
            return await self._admission.admit(document, [added] if added else [], names=names, parent=base.id)
