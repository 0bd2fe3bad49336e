"""The same Dockerfile built by BuildKit and by ours: configuration, history, the tree, the changes of each layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.build.buildkit import BuildFailed, BuildKit
from tests.build.cases import BASE, BROKEN, FILESYSTEM, LANGUAGE, STAGES, Case
from tests.build.results import compare
from tests.build.wherry import Classic, Command, Refused
from tests.build.wider import WIDER_FILES, WIDER_LANGUAGE, WIDER_STAGES
from tests.support.daemon import Wherryd

ALL = (*LANGUAGE, *STAGES, *FILESYSTEM, *WIDER_LANGUAGE, *WIDER_STAGES, *WIDER_FILES)
FILES_ALONE = (*FILESYSTEM, *WIDER_FILES)

pytestmark = pytest.mark.usefixtures("bases")


def name_of(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", ALL, ids=name_of)
def test_the_command_makes_what_buildkit_makes(case: Case, daemon: Wherryd, buildkit: BuildKit, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    ours = Command(daemon).build(case, tmp_path / "ours")
    assert compare(ours, buildkit.build(case, tmp_path / "theirs")) == []


@pytest.mark.parametrize(
    "case", [case for case in (*FILESYSTEM, *WIDER_FILES) if not case.contexts and not case.secrets], ids=name_of
)
def test_the_classic_endpoint_makes_the_same_trees(
    case: Case, daemon: Wherryd, buildkit: BuildKit, tmp_path: Path
) -> None:
    """Its history is the classic builder's, and so is the configuration, which has no mark of a command's form."""
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    ours = Classic(daemon).build(case, tmp_path / "ours")
    theirs = buildkit.build(case, tmp_path / "theirs")
    theirs.document["config"].pop("ArgsEscaped", None)
    assert compare(ours, theirs, history=False) == []


@pytest.mark.parametrize("case", [case for case in BROKEN if case.name in ("copy-missing", "run-fails")], ids=name_of)
def test_what_fails_while_it_is_carried_out(case: Case, daemon: Wherryd, buildkit: BuildKit, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    with pytest.raises(BuildFailed) as theirs:
        buildkit.build(case, tmp_path / "theirs")
    with pytest.raises(Refused) as ours:
        Command(daemon).build(case, tmp_path / "ours")
    told = BuildFailed(str(ours.value))
    assert theirs.value.message.endswith(told.message)  # theirs names an internal reference before a path
    assert told.shown == theirs.value.shown


def test_a_base_image_that_is_not_there_is_shown_where_it_is_asked_for(daemon: Wherryd, tmp_path: Path) -> None:
    case = Case("", f"FROM {BASE}\nFROM 127.0.0.1:1/none:1\nRUN x\n")
    with pytest.raises(Refused) as refused:
        Command(daemon).build(case, tmp_path)
    assert "   2 | >>> FROM 127.0.0.1:1/none:1" in str(refused.value)
