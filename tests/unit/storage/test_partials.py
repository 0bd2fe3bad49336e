"""Blobs on their way in: taken up again, followed, believed only when they are whole, and swept."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.errors import InvalidParameter
from wherry.storage.blobs import Blobs
from wherry.storage.following import Follower, Interrupted
from wherry.storage.partials import Partials


def named(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Place:
    def __init__(self, root: Path) -> None:
        self.blobs = Blobs(root / "blobs")
        self.partials = Partials(root / "partial", self.blobs)
        self.root = root / "partial"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def read_all(follower: Follower, into: list[bytes]) -> None:
    try:
        while piece := follower.read(7):
            into.append(piece)
    except Interrupted:
        into.append(b"interrupted")
    finally:
        follower.close()


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    start = 0
    for size in sizes:
        yield data[start : start + size]
        start += size
    yield data[start:]


@settings(max_examples=30)
@given(st.binary(max_size=300), st.lists(st.integers(0, 100), max_size=5), st.lists(st.integers(0, 120), max_size=4))
def test_however_it_arrives_and_breaks_off(data: bytes, sizes: list[int], breaks: list[int]) -> None:
    with TemporaryDirectory() as folder:
        place = Place(Path(folder))
        digest = named(data)
        for size in breaks:  # attempts that end early
            with place.partials.open(digest, len(data)) as partial:
                partial.write(data[partial.size : partial.size + size])
        with place.partials.open(digest, len(data)) as partial:
            assert partial.resumed == min(sum(breaks), len(data))
            seen: list[bytes] = []
            reader = threading.Thread(target=read_all, args=(partial.follow(), seen))
            reader.start()
            for piece in pieces(data[partial.size :], sizes):
                partial.write(piece)
            partial.verify()
            partial.commit()
            reader.join()
        assert b"".join(seen) == data
        assert place.blobs.read(digest) == data
        assert os.listdir(place.root) == []


def test_the_end_is_not_told_before_it_is_verified(place: Place) -> None:
    data = b"evil content"
    with place.partials.open(named(b"good content"), len(data)) as partial:
        seen: list[bytes] = []
        reader = threading.Thread(target=read_all, args=(partial.follow(), seen))
        reader.start()
        partial.write(data)
        with pytest.raises(InvalidParameter, match="filesystem layer verification failed"):
            partial.verify()
    reader.join()
    assert seen[-1] == b"interrupted"
    assert place.blobs.digests() == set()
    assert os.listdir(place.root) == [], "what is wrong is not taken up again"


def test_more_and_less_than_was_promised(place: Place) -> None:
    digest = named(b"12345")
    with place.partials.open(digest, 5) as partial:
        partial.write(b"123")
        with pytest.raises(InvalidParameter, match="longer than the 5 bytes"):
            partial.write(b"456")
        with pytest.raises(InvalidParameter, match="ended after 3 of 5 bytes"):
            partial.verify()
    with place.partials.open(digest, 2) as partial:
        assert partial.size == 0, "what is too long for it is of no use"


def test_a_reader_that_is_stopped(place: Place) -> None:
    with place.partials.open(named(b"x"), 1) as partial:
        follower = partial.follow()
        seen: list[bytes] = []
        reader = threading.Thread(target=read_all, args=(follower, seen))
        reader.start()
        follower.stop()
        reader.join()
    assert seen == [b"interrupted"]


def test_what_is_old_or_too_much_is_swept(place: Place) -> None:
    contents = [bytes([number]) * 10 for number in range(4)]
    now = time.time()
    for age, data in enumerate(contents):
        with place.partials.open(named(data), 100) as partial:
            partial.write(data)
        path = place.root / named(data)[7:]
        os.utime(path, (now - age * 100, now - age * 100))
    left = lambda: {f"sha256:{name}" for name in os.listdir(place.root)}  # noqa: E731
    assert place.partials.sweep(age=250, room=1000) == 10
    assert left() == {named(data) for data in contents[:3]}
    assert place.partials.sweep(age=250, room=15, busy={named(contents[2])}) == 10
    assert left() == {named(contents[0]), named(contents[2])}
