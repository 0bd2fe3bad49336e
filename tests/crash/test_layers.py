"""What only a container still needed of a deleted image goes with the container."""

from __future__ import annotations

from tests.crash.conftest import Box
from tests.support.images import Entry, tar


def test_layers_of_a_deleted_image_go_with_its_last_container(box: Box) -> None:
    image = box.engine.import_image(tar([Entry("only-here", b"x")]), "wt-gone", "latest", 'CMD ["x"]')
    container = box.engine.create(Image="wt-gone")
    assert box.engine.http.delete(f"/images/{image}", force=1).status == 200
    box.engine.remove(container)
    box.assert_nothing_left()
