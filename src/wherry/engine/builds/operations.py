"""How each kind of operation makes its tree. Everything made here is undone when a step fails or is cancelled.

Names follow from one random ID a step; what a kill of the daemon leaves under it, a snapshot, a bundle, a cgroup, a
container of the runtime's, the next start sweeps because no record names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from wherry.engine.builds.shop import Job, Shop, uninterrupted
from wherry.engine.builds.steps import Step
from wherry.engine.builds.trees import Client, Files, Result, Settings, Tree
from wherry.engine.images.admission import KeptLayer
from wherry.errors import Forbidden, NotFound, NotSupported, SystemFailure
from wherry.linux import users
from wherry.linux.views import View, open_view
from wherry.model import build_graph as graph
from wherry.model.dockerfile.ignore import IgnoreRules
from wherry.model.failpoints import failpoint
from wherry.model.ids import new_id
from wherry.model.mount_plans import ViewPlan
from wherry.storage import copying
from wherry.storage.image_records import LayerBlob
from wherry.storage.source_trees import RootTree
from wherry.storage.streams import in_thread


@dataclass(frozen=True)
class Outcome:
    """A vertex's tree, and the layers of it that no record names yet."""

    tree: Tree
    layers: tuple[KeptLayer, ...] = ()


class Operations:
    """Makes trees. Holds what all steps share and no state of its own."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    async def execute(self, job: Job) -> Outcome:
        """Raises WherryError; nothing is left behind then."""
        operation = job.vertex.operation
        match operation:
            case graph.Exec():
                return await self._execute_process(job, operation)
            case graph.File():
                return await self._in_snapshot(job, operation)
            case graph.Merge():
                return await self._merge(job)
            case graph.Diff():
                return await self._difference(job)
            case _:
                raise NotSupported(f"{graph.kind(operation)} is not an operation that is executed")

    async def tree_of(self, files: Files, settings: Settings, client: Client) -> Outcome:
        """Files as a tree of their own."""
        copy = graph.File((graph.Copy(1, "/", "/", contents_only=True),))
        vertex = graph.Vertex(copy, (graph.SCRATCH, graph.SCRATCH))
        job = Job(vertex, (Tree(), files), settings, client, _to_nobody)
        return await self.execute(job)

    def digest(self, result: Result, action: graph.Copy) -> str:
        """The identity of what a copy would take. Blocking. Raises NotFound."""
        with self._shop.source(result) as tree:
            return copying.digest(tree, copying.choose(tree, action), keep_of(action))

    # files

    async def _in_snapshot(self, job: Job, operation: graph.File) -> Outcome:
        """Work on a tree through a view of a snapshot that becomes a layer.

        Contents of the store are moved into it when nobody looks at it any more, unless the layer is to be a copy.
        """
        shop, base, key = self._shop, job.base, new_id()
        movable = job.settings.epoch is None and all(
            isinstance(action, graph.Copy) and not action.unpack for action in operation.actions
        )
        later: dict[bytes, copying.Later] | None = {} if movable else None

        def blocking() -> KeptLayer | None:
            shop.snapshots.prepare(key, base.chain_id, container=False)
            failpoint("builds.file.prepared")
            try:
                with open_view(ViewPlan(shop.snapshots.mount_plan(key, volatile=True)), shop.scratch) as view:
                    self._act(job, operation, view, later)
                return shop.keep_filled(key, later) if later else shop.keep(key, job.settings)
            finally:
                shop.snapshots.remove(key)

        return _outcome(base, await uninterrupted(blocking))

    def _act(self, job: Job, operation: graph.File, view: View, later: dict[bytes, copying.Later] | None) -> None:
        for action in operation.actions:
            owner = None if isinstance(action, graph.Remove) or action.owner is None else action.owner
            ids = self._ids(job, owner, view) if owner is not None else None
            match action:
                case graph.Copy():
                    result = job.inputs[action.input]
                    assert result is not None
                    with self._shop.source(result) as tree:
                        copying.copy(view.root, action, tree, ids, keep_of(action), later)
                case graph.MakeDir():
                    copying.make_directory(view.root, action, ids)
                case graph.MakeFile():
                    copying.make_file(view.root, action, ids)
                case graph.Symlink():
                    copying.make_symlink(view.root, action, ids)
                case graph.Remove():
                    copying.remove(view.root, action, RootTree(view.root))
        failpoint("builds.file.done")

    def _ids(self, job: Job, owner: graph.Owner, view: View) -> tuple[int, int]:
        if owner.user.isdigit() and (owner.group.isdigit() or not owner.group):
            return int(owner.user), int(owner.group or owner.user)
        result = job.inputs[owner.ids_in]
        if owner.ids_in == 0:
            return _looked_up(view.root, owner)
        if not isinstance(result, Tree):
            raise NotFound(f"unable to find user {owner.user}: no matching entries in passwd file")
        with self._shop.view(result) as other:
            return _looked_up(other.root, owner)

    # trees of trees

    async def _merge(self, job: Job) -> Outcome:
        trees = [result for result in job.inputs if isinstance(result, Tree)]
        if len(trees) != len(job.inputs):
            raise NotSupported("merging what a client sends is not supported: copy it first")
        base = trees[0] if trees else Tree()
        return await self._stack(base, [diff_id for tree in trees[1:] for diff_id in tree.diff_ids])

    async def _difference(self, job: Job) -> Outcome:
        lower, upper = job.inputs
        if not (isinstance(lower, Tree) and isinstance(upper, Tree)):
            raise NotSupported("the difference of what a client sends is not supported: copy it first")
        shared = len(lower.diff_ids)
        if upper.diff_ids[:shared] != lower.diff_ids:
            raise NotSupported("the difference of trees that do not stand on one another is not supported")
        return await self._stack(Tree(), upper.diff_ids[shared:])

    async def _stack(self, base: Tree, diff_ids: Sequence[str]) -> Outcome:
        """Layers that are there already, put on top of another chain."""
        layers: list[KeptLayer] = []
        chain = base.chain_id
        for diff_id in diff_ids:
            blob = self._shop.records.blobs.get(diff_id)
            if blob is None:
                raise SystemFailure(f"the bytes of layer {diff_id} are not kept: build without cache")
            layer = await in_thread(partial(self._restack, blob, chain, diff_id))
            layers.append(layer)
            chain = layer.chain_id
        return Outcome(Tree(chain, (*base.diff_ids, *diff_ids)), tuple(layers))

    def _restack(self, blob: LayerBlob, chain: str, diff_id: str) -> KeptLayer:
        with self._shop.blobs.open(blob.digest) as file:
            kept = self._shop.admission.keep_layer(file, chain, diff_id)
        return replace(kept, blob=blob)

    # processes

    async def _execute_process(self, job: Job, operation: graph.Exec) -> Outcome:
        if operation.security != "sandbox":
            raise Forbidden("security.insecure is not allowed")
        step = Step(self._shop, job, operation)
        async with step.prepared():
            await step.run()
            kept = await uninterrupted(step.keep)
        failpoint("builds.exec.kept")
        return _outcome(job.base, kept)


async def _to_nobody(stream: int, data: bytes) -> None:
    return


def _looked_up(root: int, owner: graph.Owner) -> tuple[int, int]:
    found = users.resolve(root, f"{owner.user}:{owner.group}" if owner.group else owner.user, None)
    gid = int(owner.user) if owner.user.isdigit() and not owner.group else found.gid
    return found.uid, gid


def _outcome(base: Tree, layer: KeptLayer | None) -> Outcome:
    if layer is None:
        return Outcome(base)
    return Outcome(Tree(layer.chain_id, (*base.diff_ids, layer.diff_id)), (layer,))


def keep_of(action: graph.Copy) -> copying.Keep:
    """What a copy's patterns let through."""
    if not action.include and not action.exclude:
        return copying.everything
    left_out, taken = IgnoreRules(action.exclude), IgnoreRules(action.include)
    return lambda path: not left_out.ignores(path) and (not taken or taken.ignores(path))
