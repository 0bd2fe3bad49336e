"""The same Dockerfile built by BuildKit and by ours: configuration, every entry of the tree, changes of each layer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.buildkit import BuildKit
from tests.build.cases import FILESYSTEM, LANGUAGE, STAGES, Case
from tests.build.results import compare
from tests.build.wherry import Wherry
from tests.support.daemon import Wherryd, temporary_folder


@pytest.fixture(scope="module")
def wherry() -> Iterator[Wherry]:
    daemon = Wherryd(temporary_folder())
    daemon.start()
    try:
        ours = Wherry(daemon)
        ours.prepare()
        yield ours
    finally:
        daemon.dispose()


def carried(case: Case) -> bool:
    """Whether the classic endpoint can carry it."""
    return not case.contexts and not case.secrets


@pytest.mark.parametrize(
    "case", [case for case in (*LANGUAGE, *STAGES, *FILESYSTEM) if carried(case)], ids=lambda case: case.name
)
def test_configuration_and_tree(case: Case, wherry: Wherry, buildkit: BuildKit, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    ours = wherry.build(case, tmp_path / "ours")
    theirs = buildkit.build(case, tmp_path / "theirs")
    assert compare(ours, theirs, history=False) == []
