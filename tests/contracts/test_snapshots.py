"""What every snapshot driver promises: the overlay driver and the fake that other tests use."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.support.images import Entry, digest, folder, tar
from tests.support.snapshots import MemorySnapshots
from wherry.errors import Conflict, InvalidParameter, NotFound
from wherry.model.image import next_chain_id
from wherry.storage.snapshots import Layer, OverlaySnapshots, Snapshots

BASE = tar([folder("etc"), Entry("etc/base", b"base\n")])
TOP = tar([Entry("etc/top", b"top of it\n")])
OTHER = tar([Entry("other", b"other\n")])


@pytest.fixture(params=["overlay", "memory"])
def snapshots(request: pytest.FixtureRequest, tmp_path: Path) -> Snapshots:
    return OverlaySnapshots(tmp_path / "snapshots") if request.param == "overlay" else MemorySnapshots()


def unpack(snapshots: Snapshots, layer: bytes, parent: str = "", diff_id: str = "") -> str:
    return snapshots.unpack(io.BytesIO(layer), parent, diff_id)


def test_a_layer_is_named_by_its_chain(snapshots: Snapshots) -> None:
    base = unpack(snapshots, BASE, diff_id=digest(BASE))
    top = unpack(snapshots, TOP, base)
    assert base == digest(BASE)
    assert top == next_chain_id(base, digest(TOP))
    assert snapshots.chains() == {base, top}
    layer = snapshots.layer(top)
    assert (layer.parent, layer.diff_id, layer.size, layer.tar_size) == (base, digest(TOP), 10, len(TOP))


def test_a_layer_that_is_there_is_not_read_again(snapshots: Snapshots) -> None:
    base = unpack(snapshots, BASE)
    assert snapshots.unpack(io.BytesIO(b"never read"), "", digest(BASE)) == base


def test_staged_before_it_is_known_what_is_below(snapshots: Snapshots) -> None:
    with snapshots.stage(io.BytesIO(TOP)) as staged:
        assert staged.diff_id == digest(TOP)
        assert snapshots.chains() == set()
        base = unpack(snapshots, BASE)
        top = snapshots.place(staged, base, digest(TOP))
    assert top == next_chain_id(base, digest(TOP))
    assert snapshots.layer(top) == Layer(base, digest(TOP), 10, len(TOP))


def test_staged_without_hashing_what_is_known(snapshots: Snapshots) -> None:
    with snapshots.stage(io.BytesIO(BASE), hashed=False) as staged:
        assert staged.diff_id == ""
        assert snapshots.place(staged, "", digest(BASE)) == digest(BASE)


def test_what_cannot_be_placed_is_forgotten(snapshots: Snapshots) -> None:
    with snapshots.stage(io.BytesIO(TOP)) as staged:
        with pytest.raises(NotFound):
            snapshots.place(staged, digest(b"missing"))
        with pytest.raises(InvalidParameter, match="digest mismatch"):
            snapshots.place(staged, "", digest(BASE))
    staged.discard()
    assert snapshots.chains() == set()


def test_placing_what_is_there_changes_nothing(snapshots: Snapshots) -> None:
    base = unpack(snapshots, BASE)
    with snapshots.stage(io.BytesIO(BASE)) as staged:
        assert snapshots.place(staged, "") == base
    assert snapshots.layer(base).diff_id == digest(BASE)


def test_a_wrong_digest_leaves_nothing(snapshots: Snapshots) -> None:
    with pytest.raises(InvalidParameter, match="digest mismatch"):
        unpack(snapshots, BASE, diff_id=digest(TOP))
    assert snapshots.chains() == set()


def test_a_truncated_layer_leaves_nothing(snapshots: Snapshots) -> None:
    with pytest.raises(InvalidParameter):
        unpack(snapshots, BASE[:700])
    assert snapshots.chains() == set()


def test_what_does_not_exist(snapshots: Snapshots) -> None:
    missing = digest(b"missing")
    for ask in (
        lambda: unpack(snapshots, TOP, missing),
        lambda: snapshots.layer(missing),
        lambda: snapshots.prepare("key", missing),
        lambda: snapshots.view_plan(missing),
        lambda: snapshots.mount_plan("key", volatile=False),
        lambda: snapshots.usage("key"),
        lambda: snapshots.chain_of("key"),
    ):
        with pytest.raises(NotFound):
            ask()
    snapshots.remove("key")
    snapshots.remove_chain(missing)
    assert (snapshots.keys(), snapshots.chains()) == (set(), set())


def test_a_snapshot_stacks_its_chain_with_the_top_first(snapshots: Snapshots) -> None:
    base = unpack(snapshots, BASE)
    top = unpack(snapshots, TOP, base)
    snapshots.prepare("key", top)
    plan = snapshots.mount_plan("key", volatile=True)
    layers = (*snapshots.view_plan(top).lower[:1], *snapshots.view_plan(base).lower)
    assert plan.lower[-2:] == layers  # above them only the mount points, if the driver keeps them so
    assert plan.upper and plan.work and plan.upper != plan.work and plan.volatile
    view = snapshots.view_plan(top)
    assert (view.lower, view.upper, view.work) == (layers, None, None)
    assert snapshots.chain_of("key") == top
    assert snapshots.usage("key") == 0


def test_an_empty_root(snapshots: Snapshots) -> None:
    snapshots.prepare("key", "")
    assert snapshots.chain_of("key") == ""
    assert snapshots.mount_plan("key", volatile=False).lower


def test_what_nothing_was_written_to_has_no_changes(snapshots: Snapshots) -> None:
    base = unpack(snapshots, BASE)
    snapshots.prepare("key", base)
    assert snapshots.changes("key") == []
    assert b"".join(snapshots.diff("key")) == bytes(1024)


def test_changes_of_nothing(snapshots: Snapshots) -> None:
    with pytest.raises(NotFound):
        snapshots.changes("missing")
    with pytest.raises(NotFound):
        next(snapshots.diff("missing"))


def test_a_key_is_taken_once(snapshots: Snapshots) -> None:
    base = unpack(snapshots, BASE)
    snapshots.prepare("key", base)
    with pytest.raises(Conflict):
        snapshots.prepare("key", base)
    snapshots.remove("key")
    snapshots.prepare("key", base)
    assert snapshots.keys() == {"key"}


def test_a_layer_stays_while_something_stands_on_it(snapshots: Snapshots) -> None:
    base = unpack(snapshots, BASE)
    top = unpack(snapshots, TOP, base)
    snapshots.prepare("key", top)
    for chain_id in (base, top):
        with pytest.raises(Conflict):
            snapshots.remove_chain(chain_id)
    snapshots.remove("key")
    snapshots.remove_chain(top)
    snapshots.remove_chain(base)
    assert snapshots.chains() == set()


def test_collecting_keeps_what_is_needed(snapshots: Snapshots) -> None:
    base = unpack(snapshots, BASE)
    top = unpack(snapshots, TOP, base)
    used = unpack(snapshots, OTHER, base)
    loose = unpack(snapshots, OTHER)
    snapshots.prepare("key", used)
    assert snapshots.collect([top]) == [loose]
    assert snapshots.collect([]) == [top]
    snapshots.remove("key")
    assert snapshots.collect([]) == [used, base]


def test_a_snapshot_that_goes_while_layers_are_collected(snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch) -> None:
    base = unpack(snapshots, BASE)
    snapshots.prepare("stays", base)
    top = unpack(snapshots, TOP, base)
    monkeypatch.setattr(snapshots, "keys", lambda: {"stays", "has just gone"})
    assert snapshots.collect([]) == [top]
    with pytest.raises(Conflict):
        snapshots.remove_chain(base)


def test_sweeping_at_start(snapshots: Snapshots) -> None:
    base = unpack(snapshots, BASE)
    top = unpack(snapshots, TOP, base)
    snapshots.prepare("kept", base)
    snapshots.prepare("forgotten", top)
    snapshots.sweep(keys=None, chains=[])
    assert snapshots.keys() == {"kept", "forgotten"}
    snapshots.sweep(keys=["kept"], chains=[])
    assert (snapshots.keys(), snapshots.chains()) == ({"kept"}, {base})


def test_what_layers_take(snapshots: Snapshots) -> None:
    base = unpack(snapshots, BASE)
    assert snapshots.layer_occupied(base) > 0
    assert snapshots.layers_occupied() == snapshots.layer_occupied(base)
    snapshots.prepare("key", base)
    assert snapshots.occupied("key") == 0
    snapshots.remove("key")
    with pytest.raises(NotFound):
        snapshots.occupied("key")
    snapshots.remove_chain(base)
    assert snapshots.layer_occupied(base) == snapshots.layers_occupied() == 0
