"""Build checks: each rule with a file that breaks it and one that does not, settings, places."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.base_images import HOST, Images
from wherry.model.dockerfile.checks import RULES, Settings, read_settings
from wherry.model.dockerfile.options import LocalContext, PlanOptions
from wherry.model.dockerfile.planning import Checked, check_dockerfile
from wherry.model.dockerfile.source import DockerfileError


def checked(text: str, *, ignored: tuple[str, ...] = (), **build_args: str) -> Checked:
    options = PlanOptions(HOST, build_args=build_args, main=LocalContext("context", ignored))
    return asyncio.run(check_dockerfile(text.encode(), options, Images()))


def found(text: str, *, ignored: tuple[str, ...] = (), **build_args: str) -> list[tuple[str, int, str]]:
    result = checked(text, ignored=ignored, **build_args)
    assert result.error is None, result.error
    return [(finding.rule.name, finding.lines.first, finding.message) for finding in result.findings]


BREAKING = [
    ("FROM base AS Big\n", "StageNameCasing", 1, "Stage name 'Big' should be lowercase"),
    ("FROM base as x\n", "FromAsCasing", 1, "'as' and 'FROM' keywords' casing do not match"),
    ("FROM base\nRUN a \\\n\n  b\n", "NoEmptyContinuation", 2, "Empty continuation line"),
    (
        "FROM base\nrun x\nRUN y\n",
        "ConsistentInstructionCasing",
        2,
        "Command 'run' should match the case of the command majority (uppercase)",
    ),
    (
        "FROM base AS a\nFROM base AS a\n",
        "DuplicateStageName",
        2,
        'Duplicate stage name "a", stage names should be unique',
    ),
    (
        "FROM base AS scratch\n",
        "ReservedStageName",
        1,
        'Stage name should not use the same name as reserved stage "scratch"',
    ),
    (
        "FROM base\nCMD x\n",
        "JSONArgsRecommended",
        2,
        "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
    ),
    (
        "FROM base\nMAINTAINER x\n",
        "MaintainerDeprecated",
        2,
        "Maintainer instruction is deprecated in favor of using label",
    ),
    (
        "ARG VERSION=base\nFROM ${VERSIO:-base}\n",
        "UndefinedArgInFrom",
        2,
        "FROM argument 'VERSIO' is not declared (did you mean VERSION?)",
    ),
    (
        "FROM base\nWORKDIR x\n",
        "WorkdirRelativePath",
        2,
        'Relative workdir "x" can have unexpected results if the base image changes',
    ),
    (
        "FROM base\nENV DIRS=/x\nWORKDIR /a$DIR\n",
        "UndefinedVar",
        3,
        "Usage of undefined variable '$DIR' (did you mean $DIRS?)",
    ),
    (
        'FROM base\nCMD ["a"]\nCMD ["b"]\n',
        "MultipleInstructionsDisallowed",
        2,
        "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
    ),
    (
        "FROM base\nENV a b\n",
        "LegacyKeyValueFormat",
        2,
        '"ENV key=value" should be used instead of legacy "ENV key value" format',
    ),
    (
        "FROM --platform=$TARGETPLATFORM base\n",
        "RedundantTargetPlatform",
        1,
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    ),
    (
        "FROM base\nARG DB_PASSWORD\n",
        "SecretsUsedInArgOrEnv",
        2,
        'Do not use ARG or ENV instructions for sensitive data (ARG "DB_PASSWORD")',
    ),
    (
        "ARG TAG\nFROM base:${TAG}\n",
        "InvalidDefaultArgInFrom",
        2,
        "Default value for ARG base:${TAG} results in empty or invalid base image name",
    ),
    (
        "FROM --platform=linux/amd64 base\n",
        "FromPlatformFlagConstDisallowed",
        1,
        'FROM --platform flag should not use constant value "linux/amd64"',
    ),
    (
        "# check=experimental=all\nFROM base\nCOPY secret /\n",
        "CopyIgnoredFile",
        3,
        'Attempting to Copy file "secret" that is excluded by .dockerignore',
    ),
    (
        "# check=experimental=all\n# what it is\nFROM base AS build\n",
        "InvalidDefinitionDescription",
        3,
        "Comment for FROM should follow the format: `# build <description>`",
    ),
    (
        "FROM base\nEXPOSE 80/TCP\n",
        "ExposeProtoCasing",
        2,
        "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
    ),
    (
        "FROM base\nEXPOSE 127.0.0.1:80:80\n",
        "ExposeInvalidFormat",
        2,
        "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
    ),
    (
        "FROM --platform=$BUILDPLATFORM foreign\n",
        "InvalidBaseImagePlatform",
        1,
        'Base image foreign was pulled with platform "linux/s390x", expected "linux/amd64" for current build',
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "rule", "line", "message"), BREAKING, ids=[case[1] for case in BREAKING])
def test_each_rule_finds_what_it_is_about(text: str, rule: str, line: int, message: str) -> None:
    assert found(text, ignored=("secret",), TAG="latest") == [(rule, line, message)]


def test_every_rule_has_a_file_that_breaks_it() -> None:
    assert {case[1] for case in BREAKING} == {rule.name for rule in RULES}


@pytest.mark.parametrize(
    "text",
    [
        "from base as x\nrun y\n",
        'FROM base\nSHELL ["x"]\nCMD y\n',
        "FROM base\nWORKDIR /a\nWORKDIR b\n",
        "FROM base AS a\nWORKDIR /a\nFROM a\nWORKDIR b\n",
        "FROM base\nARG X\nENV Y=$X\n",
        "FROM base\nARG PUBLIC_KEY TOKEN_FILE KEYBOARD\n",
        "FROM --platform=linux/amd64 base AS x-amd64\n",
        "FROM --platform=$BUILDPLATFORM base\n",
        "# build what it is\nFROM base AS build\n",
        "FROM base\nEXPOSE 80 53/udp\n",
        "FROM base\nHEALTHCHECK CMD x\nFROM base\nHEALTHCHECK CMD y\n",
        'FROM base AS a\nCMD ["x"]\nFROM a\nCMD ["y"]\n',
        'FROM base AS a\nSHELL ["x"]\nFROM a\nENTRYPOINT y\n',
        "FROM base AS a\nARG X=y\nFROM a\nCOPY $X /\n",
        "ARG X\nFROM base${X}\n",
        'ARG X=""\nFROM base${X-@wrong}\n',
        "ARG X\nFROM ba${X:-se}\n",
        "FROM base\nCOPY <<'EOF' /f\n$unknown\nEOF\n",
        "FROM base\nRUN <<EOF\necho $unknown\nenv\nEOF\n",
        "FROM base\nRUN a \\\n  # a comment\n  b\n",
        "FROM --platform=linux/amd64 base AS linux\n",
        "# about this file\n\nFROM base AS build\n",
        "FROM base\n# about\n#\nARG X\n",
        "FROM base\n# b of two\nARG a b\n",
        "FROM base\nLABEL a=b\nENV c=d\n",
    ],
)
def test_what_is_as_it_should_be(text: str) -> None:
    assert found("# check=experimental=all\n" + text) == []


def test_rules_can_be_passed_over_or_be_errors() -> None:
    text = "FROM base as Big\n"
    assert found("# check=skip=all\n" + text) == []
    assert [name for name, *_ in found("# check=skip=stagenamecasing\n" + text)] == ["FromAsCasing"]
    assert found(text, BUILDKIT_DOCKERFILE_CHECK="skip=all") == []
    result = checked("# check=error=true\n" + text)
    assert len(result.findings) == 2
    assert str(result.error) == "lint violation found for rules: StageNameCasing, FromAsCasing"


def test_a_rule_that_was_asked_for_is_not_skipped_with_all() -> None:
    text = "# check=skip=all;experimental=CopyIgnoredFile\nFROM base as x\nADD secret /\n"
    message = 'Attempting to Add file "secret" that is excluded by .dockerignore'
    assert found(text, ignored=("secret",)) == [("CopyIgnoredFile", 3, message)]


def test_a_file_that_is_copied_from_a_stage_is_none_of_the_ignored_ones() -> None:
    text = "# check=experimental=all\nFROM base AS a\nFROM base\nCOPY --from=a /secret /\n"
    assert found(text, ignored=("secret",)) == []


def test_several_things_are_found_in_one_file() -> None:
    text = "From base as x\nFROM base AS y\nENV PASSWORD=a secret=b\nEXPOSE 80/TCP 127.0.0.1:1:1\n"
    assert [(name, line) for name, line, _ in found(text)] == [
        ("ConsistentInstructionCasing", 1),
        ("SecretsUsedInArgOrEnv", 3),
        ("SecretsUsedInArgOrEnv", 3),
        ("ExposeInvalidFormat", 4),
        ("ExposeProtoCasing", 4),
    ]


def test_a_comment_before_several_arguments() -> None:
    text = "# check=experimental=all\nFROM base\n# about them\nARG a b\n"
    assert found(text)[0][2] == "Comment for ARG should follow the format: `# <arg_key> <description>`"


def test_what_is_found_before_a_line_that_cannot_be_read_is_told() -> None:
    result = checked("FROM base AS Big\nMAINTAINER me\nBADCMD\n")
    assert [finding.rule.name for finding in result.findings] == ["StageNameCasing", "MaintainerDeprecated"]
    assert str(result.error) == "dockerfile parse error on line 3: unknown instruction: BADCMD"


def test_a_platform_that_cannot_be_read_suggests_the_argument() -> None:
    result = checked("ARG MY_ARCH=amd64\nFROM --platform=linux/${MYARCH} base\n")
    assert [finding.message for finding in result.findings] == [
        "FROM argument 'MYARCH' is not declared (did you mean MY_ARCH?)"
    ]
    assert str(result.error).endswith("(did you mean MY_ARCH?)")


def test_experimental_rules_are_asked_for() -> None:
    text = "# x\nFROM base AS build\n"
    assert found(text) == []
    assert len(found("# check=experimental=InvalidDefinitionDescription\n" + text)) == 1


def test_settings() -> None:
    assert read_settings("skip=A, b;error=1; experimental = C") == Settings(
        frozenset({"a", "b"}), False, frozenset({"c"}), False, True
    )
    for text, message in {
        "skip": 'failed to parse check options: invalid check option "skip"',
        "x=1": 'failed to parse check options: invalid check option "x"',
    }.items():
        with pytest.raises(DockerfileError) as caught:
            read_settings(text)
        assert str(caught.value) == message


def test_a_file_that_cannot_be_built_says_so_beside_what_was_found() -> None:
    result = checked("FROM base as x\nWORKDIR ${\n")
    assert [finding.rule.name for finding in result.findings] == ["FromAsCasing"]
    assert str(result.error) == "failed to process \"${\": syntax error: missing '}'"


def test_the_page_of_a_rule_has_its_name() -> None:
    pages = {rule.name: rule.url.rstrip("/").rpartition("/")[2] for rule in RULES}
    assert pages["JSONArgsRecommended"] == "json-args-recommended"
    assert pages["SecretsUsedInArgOrEnv"] == "secrets-used-in-arg-or-env"


def test_all_stages_are_looked_at() -> None:
    assert [line for _, line, _ in found("FROM base AS a\nWORKDIR x\nFROM base\nWORKDIR y\n")] == [2, 4]
