import sqlite3
from pathlib import Path

import pytest

from wherry.errors import SystemFailure
from wherry.storage.database import APPLICATION_ID, Database, checkpoint
from wherry.storage.schema import MIGRATIONS


def pragma(path: Path, name: str) -> int:
    connection = sqlite3.connect(path)
    try:
        value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
        return value
    finally:
        connection.close()


def set_pragma(path: Path, name: str, value: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA {name} = {value}")
    connection.close()


def test_a_new_database_is_marked_ours_and_has_this_schema(tmp_path: Path) -> None:
    path = tmp_path / "wherry.db"
    Database.open(path).close()
    assert pragma(path, "application_id") == APPLICATION_ID
    assert pragma(path, "user_version") == len(MIGRATIONS)


def test_opening_again_migrates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "wherry.db"
    first = Database.open(path)
    with first.transaction() as connection:
        connection.execute("INSERT INTO events (time_ns, record) VALUES (1, x'7b7d')")
    first.close()
    again = Database.open(path)
    assert again.connection.execute("SELECT count(*) FROM events").fetchone() == (1,)
    again.close()


@pytest.mark.parametrize("version", range(len(MIGRATIONS)))
def test_every_older_schema_is_brought_up_to_this_one(tmp_path: Path, version: int) -> None:
    path = tmp_path / "wherry.db"
    connection = sqlite3.connect(path)
    for script in MIGRATIONS[:version]:
        connection.executescript(script)
    connection.close()
    set_pragma(path, "user_version", version)
    Database.open(path).close()
    assert pragma(path, "user_version") == len(MIGRATIONS)


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "wherry.db"
    Database.open(path).close()
    set_pragma(path, "user_version", 99)
    with pytest.raises(SystemFailure, match=f"has schema version 99, this Wherry knows {len(MIGRATIONS)}: upgrade"):
        Database.open(path)
    assert pragma(path, "user_version") == 99


def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wherry.db"
    set_pragma(path, "application_id", 42)
    with pytest.raises(SystemFailure, match="is not a Wherry database"):
        Database.open(path)


def test_a_transaction_that_raises_leaves_nothing(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "wherry.db")
    with pytest.raises(RuntimeError), database.transaction() as connection:
        connection.execute("INSERT INTO events (time_ns, record) VALUES (1, x'7b7d')")
        raise RuntimeError
    assert database.connection.execute("SELECT count(*) FROM events").fetchone() == (0,)
    database.close()


def test_checkpoint_folds_the_log_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "wherry.db"
    database = Database.open(path)
    with database.transaction() as connection:
        connection.execute("INSERT INTO events (time_ns, record) VALUES (1, x'7b7d')")
    checkpoint(path)
    assert (tmp_path / "wherry.db-wal").stat().st_size == 0
    database.close()
