"""What `./down` says."""

from pathlib import Path

import pytest

from tools import removal
from tools.settings import Settings


@pytest.mark.parametrize("there", [True, False])
def test_data_stays_only_where_there_is_some(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(removal, "VENV", tmp_path / "venv")  # nothing to start an engine with
    settings = Settings.from_environment(
        {
            "WHERRY_DATA_ROOT": str(tmp_path / "data"),
            "WHERRY_EXEC_ROOT": str(tmp_path / "run"),
            "WHERRY_LOG": str(tmp_path / "log"),
            "WHERRY_BIN": str(tmp_path / "bin"),
        }
    )
    if there:
        settings.data_root.mkdir(parents=True)
    removal.take_down(settings, data=False)
    assert (f"{settings.data_root} stays" in capsys.readouterr().out) == there
