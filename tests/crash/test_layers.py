"""Layers of a daemon that is ours alone: as many as there may be, and when they go."""

from __future__ import annotations

from tests.crash.conftest import Box
from tests.support.images import Entry, base_tar, docker_archive, folder, tar
from wherry.model.manifests import LAYERS_MAX


def test_layers_of_a_deleted_image_go_with_its_last_container(box: Box) -> None:
    image = box.engine.import_image(tar([Entry("only-here", b"x")]), "wt-gone", "latest", 'CMD ["x"]')
    container = box.engine.create(Image="wt-gone")
    assert box.engine.http.delete(f"/images/{image}", force=1).status == 200
    box.engine.remove(container)
    box.assert_nothing_left()


def test_a_container_of_as_many_layers_as_there_may_be(box: Box) -> None:
    """More than the real engine's 127."""
    layers = [base_tar(), *(tar([folder("n"), Entry(f"n/{n}", b"%d" % n)]) for n in range(LAYERS_MAX - 1))]
    answer = box.engine.load(docker_archive(layers, ["wt-deep:1"], Env=["PATH=/bin"], Cmd=["sh"]))
    assert b"Loaded image: wt-deep:1" in answer.body
    last = LAYERS_MAX - 2
    assert box.engine.output(f"cat /n/0 /n/{last}; ls /n | wc -l", Image="wt-deep:1") == f"0{last}{LAYERS_MAX - 1}\n"
    box.tidy()
