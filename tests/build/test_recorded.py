"""The cases against what BuildKit is known to make of them (`recorded.py`): no real engine is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.build.buildkit import bases
from tests.build.cases import BASE, ON_BUILD, Case
from tests.build.planned import document_of, planned
from tests.build.recorded import CASES, RECORD, base_tree, changes, document
from tests.build.results import Built, differences, read_archive
from tests.build.wherry import Classic, Command
from tests.support.daemon import Wherryd

KNOWN: dict[str, Any] = json.loads(RECORD.read_text())
BASE_TREE = base_tree()
DOCUMENTS = {name: read_archive(archive).document for name, archive in zip((BASE, ON_BUILD), bases(), strict=True)}


def by_name(case: Case) -> str:
    return case.name


def test_every_case_is_recorded() -> None:
    assert [case.name for case in CASES] == list(KNOWN)


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_what_the_image_says(case: Case) -> None:
    known = {part: KNOWN[case.name][part] for part in ("config", "top", "history")}
    ours = Built(document_of(planned(case, DOCUMENTS), DOCUMENTS), [])
    assert differences(document(ours), known) == []


@pytest.mark.usefixtures("bases")
@pytest.mark.parametrize("case", [case for case in CASES if KNOWN[case.name]["changes"]], ids=by_name)
def test_what_each_layer_changes(case: Case, daemon: Wherryd, tmp_path: Path) -> None:
    plain = not (case.arguments or case.contexts or case.secrets)
    builder = Classic(daemon) if plain else Command(daemon)
    assert differences(changes(builder.build(case, tmp_path), BASE_TREE), KNOWN[case.name]["changes"]) == []
