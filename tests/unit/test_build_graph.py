"""The build graph: identity, order, text."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.build_graph import (
    SCRATCH,
    Bind,
    Copy,
    Diff,
    Exec,
    File,
    ImageSource,
    LocalSource,
    MakeFile,
    Merge,
    Operation,
    Owner,
    Vertex,
    ordered,
    render,
    uses,
)
from wherry.model.platforms import Platform

BASE = Vertex(ImageSource("busybox:latest", Platform("linux", "amd64")), name="FROM busybox")
CONTEXT = Vertex(LocalSource("context"))


def _built() -> Vertex:
    copied = Vertex(File((Copy(input=1, source="src", destination="/app/"),)), (BASE, CONTEXT), name="COPY src /app/")
    return Vertex(Exec(("make",), cwd="/app"), (copied,), name="RUN make")


def test_the_same_operation_on_the_same_inputs_is_the_same_vertex() -> None:
    assert _built() == _built()
    assert len({_built(), _built()}) == 1


def test_the_digest_is_stable() -> None:
    assert SCRATCH.digest == Vertex(msgspec.json.decode(b'{"type":"scratch"}', type=Operation)).digest
    assert SCRATCH.digest == "sha256:1ca0e6742413d07febc063a2528a72938a8f6d14c770d5cb78fb8fed761d323b"


def test_names_and_cache_permission_are_no_part_of_identity() -> None:
    assert Vertex(Exec(("a",)), (BASE,), name="x", ignore_cache=True) == Vertex(Exec(("a",)), (BASE,))


def test_proxies_are_no_part_of_identity() -> None:
    with_proxy = Exec(("a",), proxy_env=("http_proxy=http://proxy:3128",))
    assert Vertex(with_proxy, (BASE,)) == Vertex(Exec(("a",)), (BASE,))


@pytest.mark.parametrize(
    "other",
    [
        Vertex(Exec(("make",), cwd="/app"), (BASE,)),
        Vertex(Exec(("make",), cwd="/"), _built().inputs),
        Vertex(Exec(("make",), cwd="/app", env=("A=1",)), _built().inputs),
        Vertex(Exec(("make",), cwd="/app", mounts=(Bind("/x", 0),)), _built().inputs),
    ],
)
def test_everything_else_is(other: Vertex) -> None:
    assert other != _built()


def test_inputs_come_before_users_and_once() -> None:
    built = _built()
    both = Vertex(Merge(), (built, Vertex(Diff(), (BASE, built))))
    found = ordered(both)
    assert len(found) == len(set(found)) == 6
    assert all(found.index(one) < found.index(vertex) for vertex in found for one in vertex.inputs)


def test_a_ladder_of_many_rungs_is_no_trouble() -> None:
    vertex = BASE
    for number in range(5000):
        vertex = Vertex(Exec((str(number),), mounts=(Bind("/x", 1),)), (vertex, vertex))
    assert len(ordered(vertex)) == 5001


def test_a_vertex_does_not_change() -> None:
    with pytest.raises(AttributeError):
        BASE.name = "other"


@pytest.mark.parametrize(
    ("operation", "inputs"),
    [
        (Exec(("a",)), ()),
        (Exec(("a",), mounts=(Bind("/x", 1),)), (BASE,)),
        (File((Copy(input=1, source="a", destination="b"),)), (BASE,)),
        (File((MakeFile("a", b"", owner=Owner("x", ids_in=3)),)), (BASE,)),
        (Diff(), (BASE,)),
        (LocalSource("x"), (BASE,)),
    ],
)
def test_a_graph_that_cannot_be_is_refused(operation: Operation, inputs: tuple[Vertex, ...]) -> None:
    with pytest.raises(ValueError, match="input"):
        Vertex(operation, inputs)


def test_which_inputs_are_read() -> None:
    assert uses(_built().operation) == {0}
    assert uses(_built().inputs[0].operation) == {0, 1}


def test_a_graph_is_printed_with_what_differs_from_the_defaults() -> None:
    assert render(_built()) == (
        "  1  image  FROM busybox\n"
        '       reference="busybox:latest" platform={"os":"linux","architecture":"amd64","variant":""}\n'
        "  2  local\n"
        '       name="context"\n'
        "  3  file <- 1, 2  COPY src /app/\n"
        '       copy input=1 source="src" destination="/app/"\n'
        "  4  exec <- 3  RUN make\n"
        '       args=["make"] cwd="/app"\n'
    )


_text = st.text(max_size=5)
_operations: st.SearchStrategy[Operation] = st.one_of(
    st.builds(Exec, args=st.lists(_text, max_size=3).map(tuple), cwd=_text, user=_text),
    st.builds(MakeFile, path=_text, data=st.binary(max_size=5)).map(lambda action: File((action,))),
)


@given(_operations, _operations)
def test_digests_are_equal_exactly_when_operations_are(one: Operation, other: Operation) -> None:
    assert (Vertex(one, (BASE,)).digest == Vertex(other, (BASE,)).digest) == (one == other)


@given(_operations)
def test_operations_survive_json(operation: Operation) -> None:
    assert msgspec.json.decode(msgspec.json.encode(operation), type=Operation) == operation
