"""Images as caches by their histories, and what histories call files. The sums are the real classic builder's."""

from __future__ import annotations

import hashlib

import pytest

from wherry.engine.builds.histories import match
from wherry.model.build_graph import HistoryStep, LocalSource, Vertex
from wherry.model.classic_sums import classic_sum, own_sum
from wherry.model.file_list import FileList, Listed
from wherry.model.image import History, Image

CONTENTS = {hashlib.sha256(data).digest(): data for data in (b"one\n", b"g\n", b"x\n", b"y\n")}


def regular(path: str, data: bytes, mode: int = 0o644) -> Listed:
    digest = hashlib.sha256(data).digest()
    return Listed(path.encode(), 0o100000 | mode, 0, 0, 1, len(data), b"", digest)


FILES = FileList(
    [
        Listed(b"d", 0o40755),
        Listed(b"d/l", 0o120777, link=b"x"),
        Listed(b"d/sub", 0o40755),
        regular("d/sub/y", b"y\n"),
        regular("d/x", b"x\n"),
        regular("f", b"one\n"),
        regular("g", b"g\n", 0o755),
    ]
)


@pytest.mark.parametrize(
    "paths, text",
    [
        ([b"f"], "file:16be6b8aee693ffcae5ae5c21a86fae382a1a232d4ea05a5d7a3ca4f3ac779d4"),
        ([b"d/sub"], "dir:726bb2d36354b0628acc52f19fffb7a4186048aebcf852682f0b493b6e91d568"),
        ([b"d"], "dir:349d3e1d20bca3990bfda3840f9271f11ee1960e11da8a276746b9e52b1fa147"),
        ([b"f", b"g"], "multi:6389b0ea3e016e565f665d34d3ce6888a2da89aa4ffa21c04ee67098f084c2fa"),
    ],
)
def test_sums_of_the_classic_builder(paths: list[bytes], text: str) -> None:
    assert classic_sum(FILES, paths, lambda entry: [CONTENTS[entry.digest]]) == text


@pytest.mark.parametrize("link", [b"/x", b"../../f", b"l", b"none", b"/", b".", b"sub/../x", b"a" * 5000])
def test_links_lead_nowhere_else(link: bytes) -> None:
    files = FileList([Listed(b"d", 0o40755), Listed(b"d/l", 0o120777, link=link), regular("d/x", b"x\n")])
    assert classic_sum(files, [b"d"], lambda entry: [CONTENTS[entry.digest]]).startswith("dir:")


def test_own_sums_tell_everything_but_times() -> None:
    assert own_sum(FileList([regular("f", b"one\n")]), [b"f"]) == own_sum(FILES, [b"f"])
    others = [regular("f", b"two\n"), regular("f", b"one\n", 0o755), Listed(b"f", 0o40644)]
    assert len({own_sum(FileList([other]), [b"f"]) for other in others} | {own_sum(FILES, [b"f"])}) == 4


BASE = Image(id="b", diff_ids=["0"], history=[History(created_by="base")])
IMAGE = Image(
    id="i",
    diff_ids=["0", "1", "2"],
    history=[
        History(created_by="base"),
        History(created_by="ENV", empty_layer=True),
        History(created_by="RUN a", created="2001-09-09T01:46:40Z"),
        History(created_by="RUN b"),
    ],
)
A, B = Vertex(LocalSource("a")), Vertex(LocalSource("b"))
STEPS = [HistoryStep("ENV"), HistoryStep("RUN a", A), HistoryStep("RUN b", B)]


def same(step: HistoryStep, created_by: str) -> bool:
    return step.created_by == created_by


def test_steps_are_found_up_to_the_first_that_differs() -> None:
    found = match(STEPS, BASE, IMAGE, same)
    assert (found.steps, found.whole) == (3, True)
    assert found.results[A].diff_ids == ("0", "1") and found.results[A].created_ns == 10**18
    assert found.results[B].diff_ids == ("0", "1", "2")
    found = match([STEPS[0], HistoryStep("RUN c", A), STEPS[2]], BASE, IMAGE, same)
    assert (found.steps, found.results, found.whole) == (1, {}, False)
    assert not match(STEPS[:2], BASE, IMAGE, same).whole


def test_another_base_is_no_beginning() -> None:
    for base in (
        Image(id="o", diff_ids=["9"], history=[History(created_by="base")]),
        Image(id="o", diff_ids=["0"], history=[History(created_by="other")]),
        None,
    ):
        assert match(STEPS, base, IMAGE, same).steps == 0
