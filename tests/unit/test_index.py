import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.engine.containers.index import Index
from wherry.engine.engine import chains_of, users_of_images, users_of_volumes
from wherry.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from wherry.model.config import Config, HostConfig
from wherry.model.container import Container, MountPoint, Sandbox
from wherry.storage.database import Database


def container(container_id: str, name: str) -> Container:
    return Container(
        id=container_id,
        name=name,
        created_at=1,
        image="sha256:0",
        image_ref="x",
        chain_id="",
        config=Config(),
        host=HostConfig(),
        sandbox=Sandbox(id=container_id, mode="none"),
    )


def test_what_a_container_that_is_being_made_uses_is_in_use(index: Index) -> None:
    made = container("ab" * 32, "one")
    made.chain_id = "sha256:1"
    made.mounts = [MountPoint(type="volume", name="data", source="", destination="/data")]
    volume_users, image_users = users_of_volumes(index), users_of_images(index)
    with index.promised(made):
        index.keep(made)
        assert volume_users("data") == [made.id]
        assert [(user.id, user.running) for user in image_users(made.image)] == [(made.id, False)]
        assert chains_of(index.making) == {"sha256:1"}
        index.show(made)
        assert volume_users("data") == [made.id]
    assert volume_users("data") == [made.id]
    assert index.making == []


def test_what_a_container_that_is_not_made_in_the_end_uses_is_free_when_its_name_is_not(index: Index) -> None:
    given_up = container("ab" * 32, "one")
    given_up.mounts = [MountPoint(type="volume", name="data", source="", destination="/data")]
    with index.promised(given_up):
        index.given_up(given_up)
        assert users_of_volumes(index)("data") == []
        assert users_of_images(index)(given_up.image) == []
        assert not index.is_free("one", container("cd" * 32, "two"))
    assert index.is_free("one", container("cd" * 32, "two"))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    database = Database.open(tmp_path / "db")
    yield Index(database)
    database.close()


def test_a_name_wins_over_an_id_prefix(index: Index) -> None:
    first, second = container("ab" * 32, "one"), container("cd" * 32, "abab")
    index.show(first)
    index.show(second)
    assert index.find("abab") is second
    assert index.find("ababa") is first
    assert index.find("/one") is first


def test_prefixes(index: Index) -> None:
    index.show(container("ab" * 32, "one"))
    index.show(container("ab" * 31 + "cd", "two"))
    with pytest.raises(InvalidParameter, match="multiple IDs found with provided prefix: abab"):
        index.find("abab")
    with pytest.raises(NotFound, match="No such container: ac"):
        index.find("ac")


@given(
    st.sets(st.text("0123456789abcdef", min_size=6, max_size=6), min_size=1),
    st.text("0123456789abcdef", min_size=1, max_size=6),
)
def test_prefixes_find_what_a_scan_finds(tmp_path_factory: pytest.TempPathFactory, ids: set[str], prefix: str) -> None:
    database = Database(sqlite3.connect(":memory:", isolation_level=None))
    index = Index(database)
    for container_id in ids:
        index.adopt(container(container_id, f"n{container_id}"))
    matching = [container_id for container_id in ids if container_id.startswith(prefix)]
    if prefix in ids or len(matching) == 1:
        assert index.find(prefix).id == (prefix if prefix in ids else matching[0])
    else:
        with pytest.raises(InvalidParameter if matching else NotFound):
            index.find(prefix)
    database.close()


def test_a_name_in_use_is_a_conflict_until_its_container_is_hidden(index: Index) -> None:
    first = container("ab" * 32, "one")
    index.show(first)
    with pytest.raises(Conflict, match='"/one" is already in use by container "abab'):
        index.choose_name("one")
    index.hide(first)
    assert index.choose_name("one") == "one"
    with pytest.raises(NotFound):
        index.find(first.id)
    assert [record.id for record in index.load()] == [first.id]
    index.forget(first)
    assert index.load() == []


def test_the_name_of_a_container_that_is_being_made_is_nobody_elses(index: Index) -> None:
    first, second = container("ab" * 32, "one"), container("cd" * 32, "two")
    index.show(second)
    with index.promised(first):
        index.keep(first)
        with pytest.raises(Conflict, match='"/one" is already in use by container "abab'):
            index.choose_name("one")
        with pytest.raises(Conflict):
            index.rename(second, "one")
        assert index.is_free("one", first)
        assert not index.is_free("one", second)
        with pytest.raises(NotFound):
            index.find("one")
    index.forget(first)
    index.rename(second, "one")
    with pytest.raises(Conflict), index.promised(first):
        pass


@pytest.mark.parametrize("name", ["-x", "a b", "a", "ä1", "x/y"])
def test_bad_names(index: Index, name: str) -> None:
    with pytest.raises(InvalidParameter, match="Invalid container name"):
        index.choose_name(name)


def test_records_survive(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "db")
    index = Index(database)
    made = container("ab" * 32, "one")
    index.show(made)
    index.rename(made, "other")
    made.state.exit_code = 7
    index.save(made)
    database.close()
    database = Database.open(tmp_path / "db")
    (again,) = Index(database).load()
    database.close()
    assert (again.name, again.state.exit_code) == ("other", 7)


def test_a_rename_that_cannot_be_written_changes_nothing(index: Index) -> None:
    made = container("ab" * 32, "one")
    index.show(made)
    index._database.connection.execute("PRAGMA query_only = 1")
    with pytest.raises(SystemFailure):
        index.rename(made, "other")
    index._database.connection.execute("PRAGMA query_only = 0")
    assert index.find("one") is made
    index.choose_name("other")
    index.hide(made)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    Database.open(tmp_path / "db").close()
    with sqlite3.connect(tmp_path / "db") as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(SystemFailure, match="schema version 999"):
        Database.open(tmp_path / "db")
    with sqlite3.connect(tmp_path / "other") as connection:
        connection.execute("PRAGMA application_id = 5")
    connection.close()
    with pytest.raises(SystemFailure, match="not a Wherry database"):
        Database.open(tmp_path / "other")
