"""Annotations, package lists and provenance, as values."""

from __future__ import annotations

import pytest

from wherry.errors import InvalidParameter
from wherry.model import annotations, packages
from wherry.model.annotations import Annotation, chosen, parse_annotation
from wherry.model.build_graph import SCRATCH, Copy, Exec, File, ImageSource, LocalSource, Secret, Vertex
from wherry.model.dockerfile.options import BaseImage, PlanOptions
from wherry.model.dockerfile.planning import plan_dockerfile
from wherry.model.llb import definition
from wherry.model.platforms import Platform
from wherry.model.provenance import Invocation, Material, Performed, predicate

HOST = Platform("linux", "amd64")


def test_annotations_are_of_what_their_type_says() -> None:
    assert parse_annotation("a=b=c", HOST) == [Annotation("manifest", "a", "b=c")]
    assert parse_annotation("index,manifest[linux/amd64]:a=b", HOST) == [
        Annotation("index", "a", "b"),
        Annotation("manifest", "a", "b", HOST),
    ]
    for text in ("a", "=b", "what:a=b", "index[linux/amd64]:a=b", "manifest:=b", "[x]:a=b"):
        with pytest.raises(InvalidParameter):
            parse_annotation(text, HOST)


def test_one_for_the_platform_counts_before_one_for_all() -> None:
    found = [Annotation("manifest", "a", "own", HOST), Annotation("manifest", "a", "all"), Annotation("index", "b", "")]
    assert chosen(found, annotations.MANIFEST, HOST) == {"a": "own"}
    assert chosen(found, annotations.MANIFEST, Platform("linux", "arm64")) == {"a": "all"}


def test_packages_as_databases_have_them() -> None:
    status = (
        "Package: libc6\nStatus: hold ok installed\nVersion: 2:1+b1\nArchitecture: amd64\nDescription: x\n Version: 9\n"
        "\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: plain\nVersion: 3\n"
    )
    (libc, plain) = packages.debian(status, "debian", "here")
    assert libc.url == "pkg:deb/debian/libc6@2%3A1%2Bb1?arch=amd64"
    assert (plain.name, plain.version) == ("plain", "3")
    (musl,) = packages.alpine("C:Q1\nP:musl\nV:1.2-r0\nA:x86_64\nL:MIT\nF:lib\n\nP:broken\n", "alpine", "here")
    assert musl.url == "pkg:apk/alpine/musl@1.2-r0?arch=x86_64" and musl.license == "MIT"
    (wheel,) = packages.python("Name: Zope.Some_thing\nVersion: 1\n\nName: text\n", "here")
    assert wheel.url == "pkg:pypi/zope-some-thing@1"
    assert packages.python("nothing", "here") == []
    assert packages.distribution('NAME=x\nID="alpine"\n') == "alpine"


def test_a_document_of_packages_is_whole_and_the_same() -> None:
    held = [packages.Package("deb", "b", "1"), packages.Package("deb", "a+", "1"), packages.Package("deb", "b", "1")]
    document = packages.spdx(held, "x", "2001-09-09T01:46:40Z", "wherry")
    assert document == packages.spdx(reversed(held), "x", "2001-09-09T01:46:40Z", "wherry")
    ids = [each["SPDXID"] for each in document["packages"]]
    assert len(set(ids)) == len(ids) == 3
    assert all(set(each) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") for each in ids)
    assert {each["relatedSpdxElement"] for each in document["relationships"]} == set(ids)


BASE = Vertex(ImageSource("docker.io/library/base:latest", HOST))
FILES = Vertex(LocalSource("context", include=("a",)))
COPIED = Vertex(File((Copy(1, "/a", "/a"),)), (BASE, FILES))
RUN = Vertex(Exec(("/bin/x",), env=("A=b",), network="none", mounts=(Secret("s", "/run/s"),)), (COPIED,))


def test_operations_as_buildkit_shows_them() -> None:
    steps, names = definition(RUN)
    assert [step.get("inputs") for step in steps] == [None, None, ["step0:0", "step1:0"], ["step2:0"], ["step3:0"]]
    assert steps[0]["op"] == {
        "constraints": {},
        "Op": {"source": {"identifier": "docker-image://docker.io/library/base:latest"}},
        "platform": {"Architecture": "amd64", "OS": "linux"},
    }
    assert steps[2]["op"]["Op"]["file"]["actions"][0] == {
        "input": 0,
        "secondaryInput": 1,
        "output": 0,
        "Action": {
            "copy": {
                "src": "/a",
                "dest": "/a",
                "mode": -1,
                "followSymlink": True,
                "createDestPath": True,
                "timestamp": -1,
            }
        },
    }
    assert steps[3]["op"]["Op"]["exec"] == {
        "meta": {"args": ["/bin/x"], "env": ["A=b"], "cwd": "/"},
        "mounts": [
            {"input": 0, "dest": "/", "output": 0},
            {
                "input": -1,
                "dest": "/run/s",
                "output": -1,
                "mountType": 1,
                "secretOpt": {"ID": "s", "mode": 0o400, "optional": True},
            },
        ],
        "network": 2,
    }
    assert names[RUN.digest] == "step3" and steps[4]["op"] == {"Op": None}


def test_an_empty_tree_is_no_operation() -> None:
    steps, _ = definition(Vertex(File((Copy(1, "/a", "/a"),)), (SCRATCH, FILES)))
    assert steps[1]["inputs"] == ["step0:0"]
    action = steps[1]["op"]["Op"]["file"]["actions"][0]
    assert (action["input"], action["secondaryInput"]) == (-1, 0)


def test_least_provenance_says_nothing_private() -> None:
    arguments = {"build-arg:TOKEN": "t", "label:l": "v", "target": "x"}
    asked = Invocation("Dockerfile", b"FROM base", arguments, ["context"], HOST)
    done = Performed("id", RUN, [Material("pkg:docker/base@latest", "sha256:aa")], 10**18, 2 * 10**18)
    least = predicate(asked, done, {})
    assert least["invocation"]["parameters"] == {
        "frontend": "dockerfile.v0",
        "args": {"target": "x"},
        "locals": [{"name": "context"}],
    }
    assert least["metadata"]["completeness"] == {"parameters": False, "environment": True, "materials": False}
    assert least["materials"] == [{"uri": "pkg:docker/base@latest", "digest": {"sha256": "aa"}}]
    assert "buildConfig" not in least
    most = predicate(asked, done, {"mode": "max", "reproducible": "true", "builder-id": "b"})
    assert most["invocation"]["parameters"]["secrets"] == [{"id": "s", "optional": True}]
    assert most["invocation"]["parameters"]["args"] == arguments
    assert most["metadata"]["reproducible"] is True and most["builder"] == {"id": "b"}


def test_the_newer_provenance_says_the_same_in_other_places() -> None:
    asked = Invocation("Dockerfile", b"FROM base", {"build-arg:A": "b"}, [], HOST, Material("git://x", "sha1:cc"))
    done = Performed("id", RUN, [Material("pkg:docker/base@latest", "sha256:aa")], 10**18, 2 * 10**18)
    options = {"mode": "max", "reproducible": "1", "builder-id": "b"}
    old, new = predicate(asked, done, options), predicate(asked, done, options | {"version": "v1"})
    definition_, run = new["buildDefinition"], new["runDetails"]
    assert definition_["resolvedDependencies"] == old["materials"]
    assert definition_["externalParameters"]["request"] == old["invocation"]["parameters"]
    source = {"uri": "git://x", "digest": {"sha1": "cc"}, "path": "Dockerfile"}
    assert definition_["externalParameters"]["configSource"] == source
    assert definition_["internalParameters"] == {"buildConfig": old["buildConfig"], "builderPlatform": "linux/amd64"}
    assert run["builder"] == {"id": "b"}
    metadata = run["metadata"]
    assert metadata["invocationID"] == "id" and metadata["startedOn"] == old["metadata"]["buildStartedOn"]
    assert metadata["buildkit_completeness"] == {"request": True, "resolvedDependencies": True}
    assert metadata["buildkit_hermetic"] is metadata["buildkit_reproducible"] is True
    assert metadata["buildkit_metadata"]["source"]["infos"][0]["filename"] == "Dockerfile"
    assert "buildConfig" not in predicate(asked, done, {"version": "v1"})["buildDefinition"]["internalParameters"]


@pytest.mark.parametrize(
    "before, argument, own, scanned",
    [
        ("", "", "", set()),
        ("=true", "", "", {"a", "b"}),
        ("=a", "", "", {"a"}),
        ("=a", "", "=false", set()),
        ("", "true", "", set()),  # nothing in the Dockerfile declares it
        ("=false", "true", "", {"a", "b"}),
        ("", "", "=true", {"a"}),
        ("", "", "=b,a", {"a"}),
        ("", "false", "=true", set()),
    ],
)
async def test_stages_that_are_scanned(before: str, argument: str, own: str, scanned: set[str]) -> None:
    """Those that are built and ask for it; a build argument changes only what is declared."""
    name = "BUILDKIT_SBOM_SCAN_STAGE"
    text = f"ARG {name}{before}\n" if before else ""
    text += f"FROM scratch AS a\n{f'ARG {name}{own}' if own else ''}\nCOPY x /\nFROM scratch AS unbuilt\n"
    text += "FROM scratch AS b\nCOPY y /\nFROM scratch\nCOPY --from=a x /\nCOPY --from=b y /\n"
    options = PlanOptions(host=HOST, build_args={name: argument} if argument else {})
    plan = await plan_dockerfile(text.encode(), options, NoImages())
    assert set(plan.scanned) == scanned


class NoImages:
    async def base_image(self, reference: str, platform: Platform) -> BaseImage:
        raise AssertionError(reference)
