import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidParameter
from wherry.model.config import Config, Healthcheck
from wherry.model.merge import command, merge, merge_env

WORDS = st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=3)


@given(st.none() | WORDS, st.none() | WORDS, st.none() | WORDS, st.none() | WORDS)
def test_own_entrypoint_discards_the_images_command(
    entrypoint: list[str] | None, cmd: list[str] | None, image_entrypoint: list[str] | None, image_cmd: list[str] | None
) -> None:
    own, image = Config(entrypoint=entrypoint, cmd=cmd), Config(entrypoint=image_entrypoint, cmd=image_cmd)
    if entrypoint is not None:
        expected = entrypoint + (cmd or [])
    else:
        expected = (image_entrypoint or []) + (cmd if cmd is not None else image_cmd or [])
    if not expected:
        with pytest.raises(InvalidParameter, match="no command specified"):
            merge(own, image)
    else:
        assert command(merge(own, image)) == expected


def test_an_empty_entrypoint_takes_the_images_away() -> None:
    merged = merge(Config(entrypoint=[""], cmd=["ls"]), Config(entrypoint=["/init"], cmd=["x"]))
    assert command(merged) == ["ls"]


def test_environment_is_the_images_unless_set() -> None:
    assert merge_env(["PATH=/bin", "A=1"], ["A=2", "B=3"]) == ["A=2", "B=3", "PATH=/bin"]


def test_labels_ports_and_volumes_are_united() -> None:
    image = Config(labels={"a": "1", "b": "1"}, exposed_ports={"80/tcp": {}}, volumes={"/v": {}}, cmd=["x"])
    merged = merge(Config(labels={"b": "2"}, exposed_ports={"81/tcp": {}}), image)
    assert merged.labels == {"a": "1", "b": "2"}
    assert set(merged.exposed_ports or ()) == {"80/tcp", "81/tcp"}
    assert merged.volumes == {"/v": {}}


def test_health_check_fields_are_inherited_one_by_one() -> None:
    image = Config(cmd=["x"], healthcheck=Healthcheck(test=["CMD", "true"], interval=5, retries=3))
    merged = merge(Config(healthcheck=Healthcheck(interval=7)), image)
    assert merged.healthcheck == Healthcheck(test=["CMD", "true"], interval=7, retries=3)
