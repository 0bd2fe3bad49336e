"""Build checks: what is allowed but probably not meant (build checks reference, one page a rule).

The names, descriptions and sentences are BuildKit's, so that configurations that name rules keep working.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct, field

from wherry.model.dockerfile.instructions import From, Instruction
from wherry.model.dockerfile.source import DockerfileError, Lines
from wherry.model.gotext import quote

_RULE_PAGES = "https://docs.docker.com/go/dockerfile/rule/"


class Rule(Struct, frozen=True):
    """`experimental` ones are silent unless asked for. The page is named after the rule."""

    name: str
    description: str
    experimental: bool = False

    @property
    def url(self) -> str:
        return _RULE_PAGES + re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=JSON)(?=[A-Z])", "-", self.name).lower() + "/"


STAGE_NAME_CASING = Rule("StageNameCasing", "Stage names should be lowercase")
FROM_AS_CASING = Rule("FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword")
NO_EMPTY_CONTINUATION = Rule("NoEmptyContinuation", "Empty continuation lines will become errors in a future release")
CONSISTENT_CASING = Rule(
    "ConsistentInstructionCasing",
    "All commands within the Dockerfile should use the same casing (either upper or lower)",
)
DUPLICATE_STAGE_NAME = Rule("DuplicateStageName", "Stage names should be unique")
RESERVED_STAGE_NAME = Rule("ReservedStageName", "Reserved words should not be used as stage names")
JSON_ARGS = Rule(
    "JSONArgsRecommended",
    "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
)
MAINTAINER_DEPRECATED = Rule(
    "MaintainerDeprecated", "The MAINTAINER instruction is deprecated, use a label instead to define an image author"
)
UNDEFINED_ARG_IN_FROM = Rule("UndefinedArgInFrom", "FROM command must use declared ARGs")
WORKDIR_RELATIVE = Rule(
    "WorkdirRelativePath",
    "Relative workdir without an absolute workdir declared within the build "
    "can have unexpected results if the base image changes",
)
UNDEFINED_VAR = Rule("UndefinedVar", "Variables should be defined before their use")
MULTIPLE_INSTRUCTIONS = Rule(
    "MultipleInstructionsDisallowed", "Multiple instructions of the same type should not be used in the same stage"
)
LEGACY_KEY_VALUE = Rule("LegacyKeyValueFormat", "Legacy key/value format with whitespace separator should not be used")
BASE_IMAGE_PLATFORM = Rule("InvalidBaseImagePlatform", "Base image platform does not match expected target platform")
REDUNDANT_TARGET_PLATFORM = Rule(
    "RedundantTargetPlatform",
    "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
)
SECRETS_IN_ARG_OR_ENV = Rule("SecretsUsedInArgOrEnv", "Sensitive data should not be used in the ARG or ENV commands")
DEFAULT_ARG_IN_FROM = Rule(
    "InvalidDefaultArgInFrom", "Default value for global ARG results in an empty or invalid base image name"
)
PLATFORM_CONSTANT = Rule("FromPlatformFlagConstDisallowed", "FROM --platform flag should not use a constant value")
COPY_IGNORED_FILE = Rule(
    "CopyIgnoredFile", "Attempting to Copy file that is excluded by .dockerignore", experimental=True
)
DEFINITION_DESCRIPTION = Rule(
    "InvalidDefinitionDescription",
    "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not "
    "intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    experimental=True,
)
EXPOSE_PROTO_CASING = Rule("ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase")
EXPOSE_INVALID_FORMAT = Rule(
    "ExposeInvalidFormat", "IP address and host-port mapping should not be used in EXPOSE instruction. "
    "This will become an error in a future release",
)  # fmt: skip

RULES = tuple(value for value in list(vars().values()) if isinstance(value, Rule))


class Finding(Struct, frozen=True):
    """One thing found: the rule, a sentence with particulars, the place."""

    rule: Rule
    message: str
    lines: Lines


class Settings(Struct, frozen=True):
    """What the `check` directive, or the build argument BUILDKIT_DOCKERFILE_CHECK, says."""

    skip: frozenset[str] = frozenset()
    skip_all: bool = False
    experimental: frozenset[str] = frozenset()
    experimental_all: bool = False
    error: bool = False

    def wants(self, rule: Rule) -> bool:
        """An experimental rule that was asked for is not skipped."""
        if rule.experimental:
            return self.experimental_all or rule.name.lower() in self.experimental
        return not self.skip_all and rule.name.lower() not in self.skip


def read_settings(text: str) -> Settings:
    """`skip=A,B;error=true;experimental=all`. Raises DockerfileError."""
    values: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals:
            raise DockerfileError(f"failed to parse check options: invalid check option {quote(part)}")
        if key not in ("skip", "error", "experimental"):
            raise DockerfileError(f"failed to parse check options: invalid check option {quote(key)}")
        values[key] = value.strip()
    error = values.get("error", "false")
    if error not in _TRUE | _FALSE:
        raise DockerfileError(
            f'failed to parse check options: failed to parse check option "error={error}": '
            f"strconv.ParseBool: parsing {quote(error)}: invalid syntax"
        )
    return Settings(
        skip=_names(values.get("skip", "")),
        skip_all=values.get("skip") == "all",
        experimental=_names(values.get("experimental", "")),
        experimental_all=values.get("experimental") == "all",
        error=error in _TRUE,
    )


_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in text.split(",") if name.strip())


class Checks(Struct):
    """What has been found so far, in the order of its discovery. The same finding counts once."""

    settings: Settings = field(default_factory=Settings)
    findings: list[Finding] = field(default_factory=list)

    def report(self, rule: Rule, lines: Lines, message: str) -> None:
        finding = Finding(rule, message, lines)
        if self.settings.wants(rule) and finding not in self.findings:
            self.findings.append(finding)

    def sorted(self) -> list[Finding]:
        """By place, then by name."""
        return sorted(self.findings, key=lambda finding: (finding.lines.first, finding.rule.name))

    def demand(self) -> None:
        """Raises DockerfileError if something was found and findings are to be errors."""
        if self.settings.error and self.findings:
            names = dict.fromkeys(finding.rule.name for finding in self.findings)
            raise DockerfileError(f"lint violation found for rules: {', '.join(names)}", self.sorted()[0].lines)


_RESERVED = frozenset({"context", "scratch"})
_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_HARMLESS = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)


def check_secret_name(checks: Checks, instruction: str, key: str, lines: Lines) -> None:
    if _SECRET.search(key) and not _HARMLESS.search(key):
        message = f"Do not use ARG or ENV instructions for sensitive data ({instruction} {quote(key)})"
        checks.report(SECRETS_IN_ARG_OR_ENV, lines, message)


def check_definition(checks: Checks, instruction: str, names: Iterable[str], origin_lines: Lines, comment: str) -> None:
    """The comment right before a definition should begin with the name that is defined."""
    names = tuple(names)
    if comment and names and not any(comment.startswith(f"{name} ") for name in names):
        name = names[0] if len(names) == 1 else "<arg_key>"
        message = f"Comment for {instruction} should follow the format: `# {name} <description>`"
        checks.report(DEFINITION_DESCRIPTION, origin_lines, message)


def check_stage_line(checks: Checks, stage: From) -> None:
    """The words of one FROM."""
    lines = stage.origin.lines
    as_word, written = stage.as_written
    if written and written != written.lower():
        checks.report(STAGE_NAME_CASING, lines, f"Stage name '{written}' should be lowercase")
    name = stage.origin.name
    own = {name.lower(): as_word.lower(), name.upper(): as_word.upper()}  # one in mixed case is `check_casing`'s to see
    if as_word and own.get(name, as_word) != as_word:
        checks.report(FROM_AS_CASING, lines, f"'{as_word}' and '{name}' keywords' casing do not match")


def check_stage_names(checks: Checks, stages: Iterable[From]) -> None:
    seen: set[str] = set()
    for stage in filter(lambda stage: stage.alias, stages):
        if stage.alias in _RESERVED:
            message = f"Stage name should not use the same name as reserved stage {quote(stage.alias)}"
            checks.report(RESERVED_STAGE_NAME, stage.origin.lines, message)
        if stage.alias in seen:
            message = f"Duplicate stage name {quote(stage.alias)}, stage names should be unique"
            checks.report(DUPLICATE_STAGE_NAME, stage.origin.lines, message)
        seen.add(stage.alias)


def check_casing(checks: Checks, instructions: Iterable[Instruction]) -> None:
    """All instructions in the case that most have."""
    origins = [instruction.origin for instruction in instructions]
    lower = sum(origin.name == origin.name.lower() for origin in origins)
    upper = sum(origin.name == origin.name.upper() for origin in origins)
    majority = "lowercase" if lower > upper else "uppercase"
    for origin in origins:
        right = origin.name.lower() if majority == "lowercase" else origin.name.upper()
        if origin.name != right:
            message = f"Command '{origin.name}' should match the case of the command majority ({majority})"
            checks.report(CONSISTENT_CASING, origin.lines, message)
