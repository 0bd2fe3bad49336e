"""The classic build endpoint: what the real engine's classic builder answers, answered by both engines."""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Engine, eventually
from tests.support.http import Response
from tests.support.images import Entry, folder, symlink, tar

MARK = "wt-test=1"  # label of every image made here


@pytest.fixture(autouse=True)
def tidy_images(engine: Engine) -> Iterator[None]:
    yield
    engine.tidy()
    for image in engine.http.get("/images/json").json():
        for name in image["RepoTags"] or []:
            if name.startswith("wt-") and name != "wt-base:latest":
                engine.http.delete(f"/images/{name}", force=1)
    engine.http.post("/images/prune", filters=json.dumps({"label": [MARK], "dangling": ["true"]}))


def build(engine: Engine, dockerfile: str, /, *files: Entry, body: bytes | None = None, **query: Any) -> Response:
    context = tar([Entry("Dockerfile", dockerfile.encode()), *files])
    name, _, value = MARK.partition("=")
    options = {"rm": 1, "labels": json.dumps({name: value}), **query}
    return engine.http.request(
        "POST", "/build", body=body or context, headers={"Content-Type": "application/x-tar"}, **options
    )


def log(answer: Response) -> str:
    assert answer.status == 200, answer.body
    return "".join(line.get("stream", "") for line in answer.json_lines())


def built(engine: Engine, dockerfile: str, *files: Entry, **query: Any) -> str:
    """The ID of the image."""
    answer = build(engine, dockerfile, *files, **query)
    lines = answer.json_lines()
    assert answer.status == 200 and not any("error" in line for line in lines), answer.body
    found: list[str] = [line["aux"]["ID"] for line in lines if "aux" in line]
    return found[-1]


def error(answer: Response) -> Any:
    assert answer.status == 200, answer.body
    last = answer.json_lines()[-1]
    assert last["error"] == last["errorDetail"]["message"]
    return last["errorDetail"]


def test_a_dockerfile_becomes_an_image(engine: Engine) -> None:
    image = built(
        engine,
        "FROM wt-base\nENV A=1\nWORKDIR /w\nRUN echo $A > made\nCOPY file copied\nCMD cat made copied\n",
        Entry("file", b"from the context\n"),
        t="wt-built:1",
    )
    found = engine.http.get("/images/wt-built:1/json").json()
    assert found["Id"] == image
    assert "A=1" in found["Config"]["Env"]
    assert found["Config"]["WorkingDir"] == "/w"
    assert engine.output(None, Image="wt-built:1") == "1\nfrom the context\n"  # type: ignore[arg-type]


def test_the_log(engine: Engine) -> None:
    text = log(build(engine, "FROM wt-base\nLABEL wt=log\nRUN echo said; echo cried >&2\n", nocache=1, t="wt-log"))
    lines = [line for line in text.splitlines() if not line.startswith(" --->")]
    assert lines[:3] == [
        "Step 1/4 : FROM wt-base",
        "Step 2/4 : LABEL wt=log",
        "Step 3/4 : RUN echo said; echo cried >&2",
    ]
    assert {"said", "\x1b[91mcried"} <= {line.removeprefix("\x1b[0m") for line in lines}  # which is first is not said
    assert lines[-1] == "Successfully tagged wt-log:latest"


def test_a_second_build_uses_the_cache_and_is_the_same_image(engine: Engine) -> None:
    dockerfile = "FROM wt-base\nLABEL wt=cache\nCOPY file /f\nRUN echo once > /once\n"
    first = built(engine, dockerfile, Entry("file", b"1"))
    again = build(engine, dockerfile, Entry("file", b"1", mtime=1_700_000_000))
    assert log(again).count("Using cache") == 4
    assert built(engine, dockerfile, Entry("file", b"1")) == first
    assert built(engine, dockerfile, Entry("file", b"2")) != first
    assert "Using cache" not in log(build(engine, dockerfile, Entry("file", b"1"), nocache=1))


def test_an_image_is_a_cache_by_its_history(engine: Engine) -> None:
    """One that was loaded, of whose steps the engine knows nothing else; what changes ends it."""
    dockerfile = "FROM wt-base\nLABEL wt=history\nRUN date +%s%N > /when\nCOPY d /d\nCOPY d/f Dockerfile /m/\n"
    files = [folder("d"), Entry("d/f", b"1"), symlink("d/l", "f")]
    name = "wt-history:1"
    first = built(engine, dockerfile, *files, t=name, nocache=1)
    archive = engine.http.get(f"/images/{name}/get").body
    engine.http.delete(f"/images/{name}", force=1)
    if engine.name != "docker":  # of which all that is known went with the image
        engine.http.post("/build/prune", all=1)
    assert engine.load(archive).status == 200
    answer = build(engine, dockerfile, *files, cachefrom=json.dumps([name]))
    assert log(answer).count("Using cache") == 5
    assert built(engine, dockerfile, *files, cachefrom=json.dumps([name])) == first
    changed = [folder("d"), Entry("d/f", b"2"), symlink("d/l", "f")]
    other = build(engine, dockerfile, *changed, t="wt-history:2", cachefrom=json.dumps([name]))
    assert log(other).count("Using cache") == 2
    whens = [engine.output(["cat", "/when"], Image=image) for image in (name, "wt-history:2")]
    assert whens[0] == whens[1]
    assert engine.output(["cat", "/d/f"], Image="wt-history:2") == "2"
    assert "Using cache" not in log(build(engine, dockerfile, *files, nocache=1, cachefrom=json.dumps([name])))


def test_mode_and_link_target_are_content_too(engine: Engine) -> None:
    dockerfile = "FROM wt-base\nLABEL wt=mode\nCOPY d /d\n"
    first = built(engine, dockerfile, folder("d"), Entry("d/f", b"1"), symlink("d/l", "f"))
    assert built(engine, dockerfile, folder("d"), Entry("d/f", b"1"), symlink("d/l", "f")) == first
    assert built(engine, dockerfile, folder("d"), Entry("d/f", b"1", mode=0o755), symlink("d/l", "f")) != first
    assert built(engine, dockerfile, folder("d"), Entry("d/f", b"1"), symlink("d/l", "g")) != first


def test_stages(engine: Engine) -> None:
    dockerfile = (
        "FROM wt-base AS one\nRUN echo 1 > /one\nFROM wt-base AS two\nRUN echo 2 > /two\n"
        "FROM wt-base\nCOPY --from=one /one /\nCOPY --from=1 /two /\n"
    )
    built(engine, dockerfile, t="wt-stages:1")
    assert engine.output(["cat", "/one", "/two"], Image="wt-stages:1") == "1\n2\n"
    built(engine, dockerfile, target="one", t="wt-stages:2")
    assert engine.output(["cat", "/one"], Image="wt-stages:2") == "1\n"


def test_a_failing_step(engine: Engine) -> None:
    found = error(build(engine, "FROM wt-base\nRUN exit 5\n"))
    assert found == {"code": 5, "message": "The command '/bin/sh -c exit 5' returned a non-zero code: 5"}


def test_a_program_that_is_not_there(engine: Engine) -> None:
    found = error(build(engine, 'FROM wt-base\nRUN ["nope"]\n'))
    assert 'exec: "nope": executable file not found in $PATH' in found["message"]


@pytest.mark.parametrize(
    ("dockerfile", "query", "status", "message"),
    [
        ("FROM wt-base\nNONSENSE x\n", {}, 400, "dockerfile parse error on line 2: unknown instruction: NONSENSE"),
        (
            "FROM wt-base\nRUNN x\n",
            {},
            400,
            "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)",
        ),
        (
            "FROM wt-base\nCOPY --form=x a b\n",
            {},
            400,
            "dockerfile parse error on line 2: unknown flag: form (did you mean from?)",
        ),
        ("RUN x\n", {}, 400, "no build stage in current context"),
        ("", {}, 400, "the Dockerfile (Dockerfile) cannot be empty"),
        (" \n\n", {}, 400, "failed to parse Dockerfile: file with no instructions"),
        ("# x\n", {}, 400, "failed to parse Dockerfile: file with no instructions"),
        (
            "# escape=z\nFROM wt-base\n",
            {},
            400,
            "failed to parse Dockerfile: invalid escape token 'z' does not match ` or \\",
        ),
        ("FROM wt-base\nENV A\n", {}, 400, "failed to parse Dockerfile: ENV must have two arguments"),
        ("FROM wt-base\nRUN <<EOF\n", {}, 400, "failed to parse Dockerfile: unterminated heredoc"),
        (
            "FROM wt-base\nCOPY a\n",
            {},
            400,
            "dockerfile parse error on line 2: COPY requires at least two arguments, but only one was provided. "
            "Destination could not be determined",
        ),
        ("FROM wt-base\n", {"target": "nope"}, 400, 'target stage "nope" could not be found'),
        ("FROM wt-base\n", {"squash": 1}, 400, "squash is only supported with experimental mode"),
        (
            "FROM wt-base\n",
            {"securityopt": '["seccomp=unconfined"]'},
            400,
            "security options are not supported on linux",
        ),
        ("FROM wt-base\n", {"version": 3}, 400, 'invalid version "3"'),
        ("FROM wt-base\n", {"dockerfile": "other"}, 500, "Cannot locate specified Dockerfile: other"),
        ("FROM wt-base\n", {"isolation": "hyperv"}, 400, 'unsupported isolation: "hyperv"'),
        (
            "FROM wt-base\n",
            {"t": "BAD TAG"},
            500,
            "invalid reference format: repository name (library/BAD TAG) must be lowercase",
        ),
    ],
)
def test_what_is_refused_at_once(
    engine: Engine, dockerfile: str, query: dict[str, Any], status: int, message: str
) -> None:
    answer = build(engine, dockerfile, **query)
    assert (answer.status, answer.message) == (status, message)


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        ("FROM $nothing\n", "base name ($nothing) should not be blank"),
        ("FROM Upper\n", "invalid reference format: repository name (library/Upper) must be lowercase"),
        ("FROM wt-base\nCOPY --from=7 /a /\n", "invalid from flag value 7: index out of bounds"),
        ("FROM wt-base\nCOPY http://127.0.0.1:1/x /\n", "COPY failed: source can't be a URL for COPY"),
        ("FROM wt-base\nEXPOSE 80/xyz\n", "Invalid proto: xyz"),
    ],
)
def test_what_fails_while_the_stages_are_built(engine: Engine, dockerfile: str, message: str) -> None:
    assert error(build(engine, dockerfile, nocache=1))["message"] == message


def test_a_server_that_is_not_there(engine: Engine) -> None:
    said = error(build(engine, "FROM wt-base\nADD http://127.0.0.1:1/x /\n"))["message"]
    assert said.endswith('Get "http://127.0.0.1:1/x": dial tcp 127.0.0.1:1: connect: connection refused')


def test_a_file_that_is_not_in_the_context(engine: Engine) -> None:
    assert error(build(engine, "FROM wt-base\nCOPY nothere /x\n"))["message"] == (
        "COPY failed: file not found in build context or excluded by .dockerignore: stat nothere: file does not exist"
    )


def test_several_names_and_quiet(engine: Engine) -> None:
    answer = build(engine, "FROM wt-base\nLABEL wt=names\n", q=1, t=["wt-name:a", "wt-name:b"])
    (line,) = answer.json_lines()
    image = line["stream"].strip()
    assert sorted(engine.http.get(f"/images/{image}/json").json()["RepoTags"]) == ["wt-name:a", "wt-name:b"]


def test_arguments_and_labels(engine: Engine) -> None:
    built(
        engine,
        "ARG TAG=none\nFROM wt-base:${TAG}\nARG V=default\nRUN echo $V > /v\n",
        buildargs=json.dumps({"TAG": "latest", "V": "given"}),
        labels=json.dumps({"wt": "label", "wt-test": "1"}),
        t="wt-args",
    )
    assert engine.http.get("/images/wt-args/json").json()["Config"]["Labels"] == {"wt": "label", "wt-test": "1"}
    assert engine.output(["cat", "/v"], Image="wt-args") == "given\n"


def test_an_argument_that_nothing_takes_is_told(engine: Engine) -> None:
    answer = build(engine, "FROM wt-base\nLABEL wt=unused\n", buildargs=json.dumps({"ZZ": "1", "UNSET": None}))
    assert "[Warning] One or more build-args [UNSET ZZ] were not consumed\n" in log(answer)


def test_each_label_that_is_given_is_a_step(engine: Engine) -> None:
    labels = json.dumps({"wt-test": "1", "b": "x y", "a": ""})
    text = log(build(engine, "FROM wt-base\nCOPY f /f\n", Entry("f", b"1"), labels=labels, nocache=1, t="wt-labels"))
    assert [line for line in text.splitlines() if "LABEL" in line] == [
        "Step 3/5 : LABEL a=",
        "Step 4/5 : LABEL b=x y",
        "Step 5/5 : LABEL wt-test=1",
    ]
    history = [entry["CreatedBy"] for entry in engine.http.get("/images/wt-labels/history").json()]
    assert history[:3] == [f"/bin/sh -c #(nop)  LABEL {label}" for label in ("wt-test=1", "b=x y", "a=")]
    assert history[3].startswith("/bin/sh -c #(nop) COPY file:") and history[3].endswith(" in /f ")


@pytest.mark.parametrize(("query", "removed"), [({"forcerm": 1}, 1), ({"rm": 1}, 0)])
def test_the_container_of_a_step_that_fails(engine: Engine, query: dict[str, int], removed: int) -> None:
    text = log(build(engine, "FROM wt-base\nRUN exit 3\n", nocache=1, **query))
    assert text.count("Removed intermediate container") == removed


def test_a_compressed_context(engine: Engine) -> None:
    context = tar([Entry("Dockerfile", b"FROM wt-base\nCOPY f /f\n"), Entry("f", b"packed\n")])
    answer = build(engine, "", body=gzip.compress(context), t="wt-packed")
    assert "Successfully built" in log(answer)
    assert engine.output(["cat", "/f"], Image="wt-packed") == "packed\n"


def test_the_network_of_a_step(engine: Engine) -> None:
    dockerfile = "FROM wt-base\nRUN ip -o link | grep -vc ' lo:' > /links; true\n"
    built(engine, dockerfile, networkmode="none", nocache=1, t="wt-net:none")
    assert engine.output(["cat", "/links"], Image="wt-net:none") == "0\n"
    built(engine, dockerfile, nocache=1, t="wt-net:default")
    assert engine.output(["cat", "/links"], Image="wt-net:default") == "1\n"


def test_a_network_that_is_not_there(engine: Engine) -> None:
    assert error(build(engine, "FROM wt-base\nRUN true\n", networkmode="wt-nonet", nocache=1))["message"] == (
        "network wt-nonet not found"
    )


def test_limits_and_hosts(engine: Engine) -> None:
    built(
        engine,
        "FROM wt-base\nRUN ulimit -n > /n; grep given /etc/hosts > /h; df -k /dev/shm | tail -1 > /s\n",
        ulimits=json.dumps([{"Name": "nofile", "Soft": 200, "Hard": 300}]),
        extrahosts="given:192.0.2.7",
        shmsize=1 << 20,
        t="wt-limits",
    )
    out = engine.output(["cat", "/n", "/h", "/s"], Image="wt-limits")
    assert out.splitlines()[0] == "200"
    assert "192.0.2.7\tgiven" in out
    assert " 1024 " in out


def test_a_limit_that_cannot_be(engine: Engine) -> None:
    found = error(build(engine, "FROM wt-base\nRUN true\n", memory=1000, nocache=1))
    assert found["message"] == "Minimum memory limit allowed is 6MB"


def test_nothing_leaves_the_image_through_links(engine: Engine) -> None:
    dockerfile = (
        "FROM wt-base\nRUN ln -s /../../../../../../etc /out && ln -s ../../../../../.. /up\n"
        "COPY f /out/wt-escaped\nCOPY f /up/wt-escaped\n"
    )
    built(engine, dockerfile, Entry("f", b"inside\n"), t="wt-escape")
    assert engine.output(["cat", "/etc/wt-escaped", "/wt-escaped"], Image="wt-escape") == "inside\ninside\n"


def test_links_in_the_context_lead_nowhere_else(engine: Engine) -> None:
    answer = build(engine, "FROM wt-base\nCOPY l /l\n", symlink("l", "/etc/passwd"))
    assert "error" in answer.json_lines()[-1]


def test_what_a_step_deletes_is_gone(engine: Engine) -> None:
    built(
        engine, "FROM wt-base\nRUN rm -r /seeded /www/index.html && mkdir /seeded && touch /seeded/new\n", t="wt-gone"
    )
    assert engine.output("ls /seeded; ls /www", Image="wt-gone") == "new\n"


def test_from_alone_is_the_image_itself(engine: Engine) -> None:
    base = engine.http.get("/images/wt-base/json").json()["Id"]
    assert built(engine, "FROM wt-base\n", t="wt-alone", labels="") == base
    assert engine.http.get("/images/wt-alone/json").json()["Id"] == base


def test_from_scratch(engine: Engine) -> None:
    built(engine, "FROM scratch\nCOPY d /\n", folder("d"), Entry("d/f", b"only\n"), t="wt-scratch")
    assert len(engine.http.get("/images/wt-scratch/json").json()["RootFS"]["Layers"]) == 1


def test_a_context_from_the_web(engine: Engine) -> None:
    context = gzip.compress(tar([Entry("Dockerfile", b"FROM wt-base\nCOPY f /f\n"), Entry("f", b"fetched\n")]))
    served = {"/context.tar.gz": context, "/Dockerfile": b"FROM wt-base\nRUN echo alone > /f\n"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = served[self.path]
            self.send_response(200)
            self.send_header("Content-Type", "text/plain" if self.path == "/Dockerfile" else "application/gzip")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        for path, text in (("context.tar.gz", "fetched\n"), ("Dockerfile", "alone\n")):
            name = f"wt-web-{path.partition('.')[0].lower()}"
            assert "Successfully built" in log(engine.http.post("/build", remote=f"{url}/{path}", t=name))
            assert engine.output(["cat", "/f"], Image=name) == text
        server.shutdown()


def test_onbuild(engine: Engine) -> None:
    built(engine, "FROM wt-base\nONBUILD RUN echo triggered > /t\n", t="wt-onbuild")
    built(engine, "FROM wt-onbuild\nLABEL wt=triggered\n", t="wt-triggered")
    assert engine.output(["cat", "/t"], Image="wt-triggered") == "triggered\n"


def test_a_build_whose_client_goes_away_ends(engine: Engine) -> None:
    context = tar([Entry("Dockerfile", b"FROM wt-base\nLABEL wt=gone\nRUN echo begun; exec sleep 987654\n")])
    stream = engine.http.stream("POST", "/build", body=context, nocache=1, rm=1, forcerm=1)
    with stream:
        lines = stream.json_lines()
        while "begun" not in next(lines).get("stream", ""):
            pass
        eventually(_sleeping, what="the start of the step's process")
    eventually(lambda: not _sleeping(), what="the end of the step's process")


def _sleeping() -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes() == b"sleep\x00987654\x00":
                return True
    return False


def test_the_cache_is_pruned_by_label(engine: Engine) -> None:
    """`system prune --filter label=x` asks for it too. Nothing in the cache has a label."""
    text = "FROM wt-base\nRUN echo kept >/kept\n"
    built(engine, text)
    filters: dict[str, list[str]] = {"label": ["wt-none"]}
    if engine.name == "docker":  # which would prune all
        filters["id"] = ["wt-none"]
    answer = engine.http.post("/build/prune", filters=json.dumps(filters))
    assert answer.status == 200, answer.body
    assert answer.json() == {"CachesDeleted": None, "SpaceReclaimed": 0}
    assert "Using cache" in log(build(engine, text))


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"colour": ["x"]}, "invalid filter 'colour'"),
        ({"id": ["nosuch", "none"]}, "filters expect only one value"),
        ({"until": ["1h", "2h"], "id": ["nosuch"]}, "filters expect only one value"),
        ({"until": ["1h"], "unused-for": ["2h"], "id": ["nosuch"]}, 'conflicting filters: "until" and "unused-for"'),
        (
            {"until": ["soon"], "id": ["nosuch"]},
            "\"until\" filter expects a duration (e.g., '24h') or a timestamp: "
            'failed to parse value as time or duration: "soon"',
        ),
    ],
)
def test_filters_of_a_prune_that_mean_nothing(engine: Engine, filters: dict[str, list[str]], message: str) -> None:
    answer = engine.http.post("/build/prune", filters=json.dumps(filters))
    assert (answer.status, answer.message) == (400, f"failed to prune build cache: {message}")


@pytest.mark.parametrize("name", ["type", "description", "inuse", "shared", "private", "until", "label"])
def test_filters_of_a_prune_hold_together(engine: Engine, name: str) -> None:
    value = {"until": "1s", "type": "regular", "description": "x", "label": "x"}.get(name, "true")
    answer = engine.http.post("/build/prune", filters=json.dumps({name: [value], "id": ["nosuch"]}))
    assert answer.json() == {"CachesDeleted": None, "SpaceReclaimed": 0}
