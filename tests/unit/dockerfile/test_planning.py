"""Dockerfiles to graphs, configurations and history, without an engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.base_images import BASE, HOST, Images
from wherry.errors import NotFound
from wherry.model.build_graph import (
    SCRATCH,
    Bind,
    Cache,
    Copy,
    Exec,
    File,
    GitSource,
    HttpSource,
    ImageSource,
    LocalSource,
    MakeDir,
    MakeFile,
    Merge,
    Owner,
    Secret,
    Ssh,
    Tmpfs,
    Vertex,
    ordered,
    render,
)
from wherry.model.dockerfile.options import ImageContext, LocalContext, PlanOptions, VertexContext
from wherry.model.dockerfile.planning import Plan, plan_dockerfile
from wherry.model.dockerfile.source import DockerfileError
from wherry.model.platforms import Platform


def plan(text: str, images: Images | None = None, **options: Any) -> Plan:
    images = images or Images(base=BASE)
    return asyncio.run(plan_dockerfile(text.encode(), PlanOptions(HOST, **options), images))


def operations(text: str, **options: Any) -> list[object]:
    """What the target's vertices do, inputs first."""
    return [vertex.operation for vertex in ordered(plan(text, **options).target.vertex)]


def last(text: str, kind: type[Any], **options: Any) -> Any:
    return [operation for operation in operations(text, **options) if isinstance(operation, kind)][-1]


def test_only_what_the_target_needs_is_planned() -> None:
    images = Images(base=BASE)
    text = "FROM base AS a\nRUN one\nFROM missing AS b\nRUN two\nFROM a\nRUN three\n"
    found = plan(text, images)
    commands = [v.operation.args[-1] for v in ordered(found.target.vertex) if isinstance(v.operation, Exec)]
    assert commands == ["one", "three"]
    assert [reference for reference, _ in images.asked] == ["docker.io/library/base:latest"]


def test_a_stage_that_is_used_twice_is_one_vertex() -> None:
    text = "FROM base AS a\nRUN x\nFROM scratch\nCOPY --from=a /1 /\nCOPY --from=0 /2 /\nCOPY --from=A /3 /\n"
    assert sum(isinstance(operation, Exec) for operation in operations(text)) == 1


def test_what_run_gets() -> None:
    run = last(
        "FROM base\nARG A=1\nENV B=$A\nWORKDIR w\nUSER 5:6\nRUN x",
        Exec,
        network="none",
        extra_hosts=("h:1.2.3.4",),
        shm_size=5,
        build_args={"HTTP_PROXY": "p"},
        hostname="n",
    )
    assert run.args == ("/bin/sh", "-c", "x")
    assert run.env == ("PATH=/bin", "BASE=1", "A=1", "B=1")
    assert (run.cwd, run.user, run.network, run.extra_hosts) == ("/start/w", "5:6", "none", ("h:1.2.3.4",))
    assert (run.shm_size, run.hostname) == (5, "n")
    assert run.proxy_env == ("HTTP_PROXY=p", "http_proxy=p")


def test_proxies_are_no_part_of_what_a_vertex_is() -> None:
    one = plan("FROM base\nRUN x", build_args={"HTTP_PROXY": "p"}).target.vertex
    assert one == plan("FROM base\nRUN x").target.vertex
    assert one != plan("FROM base\nARG HTTP_PROXY\nRUN x", build_args={"HTTP_PROXY": "p"}).target.vertex


def test_mounts() -> None:
    run = last(
        "FROM base AS o\nRUN o\nFROM base\nRUN "
        "--mount=type=cache,target=c,uid=5,sharing=locked --mount=type=tmpfs,target=/t,size=1k "
        "--mount=type=secret,id=s --mount=type=secret,id=e,env=E,required --mount=type=ssh "
        "--mount=from=o,source=/a/../b,target=/b,rw --mount=target=/ctx x",
        Exec,
    )
    assert run.mounts == (
        Cache("/start/c", "c", sharing="locked", uid=5),
        Tmpfs("/t", 1024),
        Secret("s", "/run/secrets/s"),
        Secret("e", "", "E", required=True),
        Ssh("default", "/run/buildkit/ssh_agent.0"),
        Bind("/b", 1, "/b", readonly=False),
        Bind("/ctx", 2),
    )


def test_a_secret_in_the_environment_is_not_shown() -> None:
    vertex = plan("FROM base\nENV E=public\nRUN --mount=type=secret,id=s,env=E echo $E").target.vertex
    assert vertex.name.endswith("echo $E")


def test_here_documents_of_run() -> None:
    assert last("FROM base\nRUN <<E\na\nb\nE\n", Exec).args == ("/bin/sh", "-c", "a\nb\n")
    assert last("FROM base\nRUN cat <<E >x\na\nE\n", Exec).args == ("/bin/sh", "-c", "cat <<E >x\na\nE")
    target = plan("FROM base\nRUN <<E\n#!/x\nb\nE\n").target.vertex
    assert isinstance(target.operation, Exec)
    assert target.operation.args == ("/bin/sh", "-c", "/dev/pipes/E")
    assert target.inputs[1].operation == File((MakeFile("/E", b"#!/x\nb\n", 0o755),))


def test_copy() -> None:
    copy = last("FROM base\nCOPY --chown=u:g --chmod=640 --exclude=*.o a/ b* dir/\n", File, epoch=7)
    first, second = copy.actions
    assert first == Copy(
        1, "/a", "/start/dir/", owner=Owner("u", "g"), mode="640", wildcard=True, allow_empty=True, contents_only=True,
        exclude=("*.o",), time_ns=7_000_000_000,
    )  # fmt: skip
    assert (second.source, second.input) == ("/b*", 1)


def test_linked_copies_stand_on_nothing() -> None:
    target = plan("FROM base\nCOPY --link a /\n").target.vertex
    assert isinstance(target.operation, Merge)
    assert target.inputs[1].inputs[0] == SCRATCH
    assert target.name == "[2/2] LINK COPY --link a /"


def test_add_knows_archives_the_web_and_repositories() -> None:
    assert last("FROM base\nADD a.tar /\n", File).actions[0].unpack
    assert not last("FROM base\nADD --unpack=false a.tar /\n", File).actions[0].unpack
    digest = f"sha256:{'0' * 64}"
    assert last(f"FROM base\nADD --checksum={digest} https://h/p/f.tgz?x=1 /\n", HttpSource) == HttpSource(
        "https://h/p/f.tgz?x=1", digest, "f.tgz"
    )
    assert last("FROM base\nADD --keep-git-dir https://h/r.git#v1:sub/dir /\n", GitSource) == GitSource(
        "https://h/r.git", "v1", "sub/dir", keep_git=True
    )


def test_here_documents_as_files() -> None:
    text = 'FROM base\nENV A=b\nCOPY <<x <<-"y" /d/\n$A \\$A\nx\n\t$A\n\ty\n'
    made = [operation.actions[0] for operation in operations(text) if isinstance(operation, File)][:2]
    assert made == [MakeFile("/x", b"b $A\n"), MakeFile("/y", b"$A\n")]


def test_workdir_makes_a_directory_of_the_user() -> None:
    assert last("FROM base\nWORKDIR /a/b\n", File).actions == (MakeDir("/a/b", parents=True, owner=Owner("7")),)
    assert not any(isinstance(operation, File) for operation in operations("FROM base\nWORKDIR /\n"))


def test_what_the_contexts_must_hold() -> None:
    text = (
        "FROM base AS a\nCOPY one /\nFROM base\nCOPY two* sub/three /\nRUN --mount=source=four,target=/x x\n"
        "COPY --from=other five /\n"
    )
    found = plan(text, contexts={"other": LocalContext("other"), "idle": LocalContext("idle")})
    assert found.needs.include("context") == ("four", "sub/three", "two*")
    assert found.needs.include("other") == ("five",)
    assert not found.needs.uses("idle")
    assert plan("FROM base\nCOPY . /\nCOPY a /\n").needs.include("context") == ()
    assert not plan("FROM base\nRUN x\n").needs.uses("context")
    local = [o for o in operations("FROM base\nCOPY a b /\n") if isinstance(o, LocalSource)]
    assert local == [LocalSource("context", include=("a", "b"))]


def test_named_contexts_take_the_place_of_stages_and_images() -> None:
    tree = Vertex(GitSource("r"))
    text = "FROM base AS a\nRUN x\nFROM other\nCOPY --from=a /1 /\nCOPY --from=tree /2 /\n"
    found = plan(
        text,
        contexts={"a": LocalContext("mine"), "other": ImageContext("base"), "tree": VertexContext(tree)},
    )
    kinds = [vertex.operation for vertex in ordered(found.target.vertex)]
    assert LocalSource("mine", include=("1",)) in kinds
    assert GitSource("r") in kinds
    assert not any(isinstance(operation, Exec) for operation in kinds)
    assert ImageSource("docker.io/library/base:latest") in [
        o if not isinstance(o, ImageSource) else ImageSource(o.reference) for o in kinds
    ]


def test_triggers_come_first_and_may_need_other_stages() -> None:
    base = {**BASE, "config": {**BASE["config"], "OnBuild": ["COPY --from=tools /t /", "RUN trigger"]}}
    images = Images(base=base, tools=BASE)
    found = plan("FROM base\nRUN own\n", images)
    names = [vertex.name for vertex in ordered(found.target.vertex)]
    assert "[3/4] ONBUILD RUN trigger" in names
    assert "[4/4] RUN own" in names
    assert [reference for reference, _ in images.asked] == [
        "docker.io/library/base:latest",
        "docker.io/library/tools:latest",
    ]
    assert "OnBuild" not in found.target.config["config"]


def test_the_cache_is_passed_by_where_asked() -> None:
    text = "FROM base AS a\nRUN a\nFROM a AS b\nRUN b\n"

    def anew(stages: frozenset[str] | None) -> list[bool]:
        return [v.ignore_cache for v in ordered(plan(text, no_cache_stages=stages).target.vertex)]

    assert anew(None) == [False, False, False]
    assert anew(frozenset()) == [False, True, True]
    assert anew(frozenset({"b"})) == [False, False, True]
    assert anew(frozenset({"B"})) == [False, False, True]


def test_a_stage_to_build_anew_that_there_is_none_of_is_refused() -> None:
    text = "FROM base AS tools\nRUN a\nFROM tools AS site\nRUN b\n"
    with pytest.raises(DockerfileError, match=r"tools, site \(did you mean tools\?"):
        plan(text, no_cache_stages=frozenset({"toolz"}))
    with pytest.raises(DockerfileError, match="no stage has a name"):
        plan("FROM base\nRUN a\n", no_cache_stages=frozenset({"x"}))


def test_platforms() -> None:
    arm = Platform("linux", "arm64")
    images = Images(base={**BASE, "architecture": "arm64"})
    text = "ARG TARGETARCH\nFROM --platform=linux/$TARGETARCH base\nARG TARGETPLATFORM BUILDPLATFORM\nRUN x"
    found = plan(text, images, platform=arm)
    assert images.asked[0][1] == arm
    assert found.target.config["architecture"] == "arm64"
    assert isinstance(found.target.vertex.operation, Exec)
    assert "TARGETPLATFORM=linux/arm64" in found.target.vertex.operation.env
    assert "BUILDPLATFORM=linux/amd64" in found.target.vertex.operation.env
    assert found.target.vertex.operation.platform == arm


def test_steps_are_the_instructions_with_what_they_made() -> None:
    found = plan("FROM base AS a\nENV X=1\nRUN  echo \\\n  $X\nFROM scratch\nCOPY --from=a / /\n")
    steps = [(step.text, step.vertex is not None, step.stage) for step in found.target.steps]
    assert steps == [
        ("FROM base AS a", True, 0),
        ("ENV X=1", False, 0),
        ("RUN  echo   $X", True, 0),
        ("FROM scratch", True, 1),
        ("COPY --from=a / /", True, 1),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM base AS a\nCOPY --from=a /x /\n", "circular dependency detected on stage: a"),
        (
            "FROM base AS a\nCOPY --from=b /x /\nFROM base AS b\nCOPY --from=a /x /\n",
            "circular dependency detected on stage: a",
        ),
        ("FROM base\nRUN --mount=type=secret,id=x,from=base y\n", "secret mount should not have a from"),
        (
            "FROM base\nCOPY --chmod=999 a /\n",
            "invalid chmod parameter: '999'. it should be octal string and between 0 and 07777",
        ),
        (
            "FROM base\nRUN --security=insecure x\n",
            "security.insecure is not allowed: builds are not given more than containers",
        ),
        ("FROM base\nADD --checksum=sha256:1 https://h/f /\n", "invalid checksum digest format"),
        ("ARG a\n", "dockerfile contains no stages to build"),
    ],
)  # fmt: skip
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        plan(text)
    assert str(caught.value) == message


def test_the_graph_of_a_plan_can_be_read() -> None:
    text = render(plan("FROM base AS b\nCOPY src /src\nRUN make\nFROM scratch\nCOPY --from=b /out /\n").target.vertex)
    assert [line for line in text.splitlines() if not line.startswith(" " * 7)] == [
        "  1  scratch",
        "  2  image  [b 1/3] FROM docker.io/library/base:latest",
        "  3  local  [internal] load build context",
        "  4  file <- 2, 3  [b 2/3] COPY src /src",
        "  5  exec <- 4  [b 3/3] RUN make",
        "  6  file <- 1, 5  [stage-1 1/1] COPY --from=b /out /",
    ]


_LINES = [
    "FROM base", "FROM base AS a", "FROM scratch", "FROM a", "ARG X=1", "ENV Y=$X", "RUN x $Y", "COPY a /", "USER u",
    "COPY --from=a /x /y", "RUN --mount=type=cache,target=$Y z", "WORKDIR $Y", "COPY <<E /e\n$Y\nE", "ADD --link b c/",
    "RUN --mount=from=a,target=/m x", "ONBUILD RUN y", "ENTRYPOINT x", "EXPOSE $X", "VOLUME /v", "LABEL a=$Y",
]  # fmt: skip


@given(st.lists(st.sampled_from(_LINES), max_size=12))
def test_planning_is_repeatable_or_refuses(lines: list[str]) -> None:
    text = "\n".join(["FROM base", *lines])
    try:
        first = plan(text)
    except DockerfileError as error:
        assert error.lines is not None
        return
    except NotFound as error:
        assert str(error) == "No such image: docker.io/library/a:latest"
        return
    second = plan(text)
    assert first.target.vertex == second.target.vertex
    assert first.target.config == second.target.config
    assert [step.created_by for step in first.target.history] == [step.created_by for step in second.target.history]


def test_what_computes_can_be_run_elsewhere() -> None:
    async def both() -> tuple[Plan, Plan]:
        data, options = b"FROM base\nCOPY a /\n", PlanOptions(HOST)
        away = await plan_dockerfile(data, options, Images(base=BASE), elsewhere=asyncio.to_thread)
        return away, await plan_dockerfile(data, options, Images(base=BASE))

    away, at_once = asyncio.run(both())
    assert away.target.vertex == at_once.target.vertex
