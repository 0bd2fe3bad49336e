"""A Dockerfile to the graph that builds its target.

    plan = await plan_dockerfile(data, options, images)
    plan.target        # a Target for the solver
    plan.needs         # which paths of the contexts it uses
    plan.findings      # what the build checks say

Stages are found and named first, then those that the target reaches, then their base images, whose ONBUILD triggers may
make it reach more; then each stage is carried out in its order. Only the base images' configurations come from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

from msgspec import Struct, field

from wherry.errors import InvalidParameter, WherryError
from wherry.model import platforms, reference
from wherry.model.build_graph import SCRATCH, ImageSource, Scratch, Step, Target, Vertex
from wherry.model.dockerfile import checks, copying, image_config, running, scans, settings
from wherry.model.dockerfile.checks import Checks, Finding, read_settings
from wherry.model.dockerfile.expansion import Expansion, Lexer
from wherry.model.dockerfile.instructions import (
    CopyFiles,
    From,
    Instruction,
    OnBuild,
    Origin,
    Run,
    expanded,
    parse,
)
from wherry.model.dockerfile.mounts import RunMount, check_unexpanded, kind_of, parse_mount
from wherry.model.dockerfile.options import (
    BaseImage,
    BaseImages,
    Context,
    ImageContext,
    LocalContext,
    PlanOptions,
    VertexContext,
    source_of,
)
from wherry.model.dockerfile.scans import asked
from wherry.model.dockerfile.source import DockerfileError, Lines, nearest, suggesting
from wherry.model.dockerfile.stages import Stage, arrange
from wherry.model.dockerfile.state import Scope, Source, State, counted_steps
from wherry.model.dockerfile.syntax import parse as parse_syntax
from wherry.model.dockerfile.syntax import parse_trigger
from wherry.model.gotext import quote
from wherry.model.platforms import Platform

_T = TypeVar("_T")

NOTHING = "scratch"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CHECK_ARGUMENT = "BUILDKIT_DOCKERFILE_CHECK"
_PLAIN_QUOTES = Lexer(plain_quotes=True)


class Needs(Struct, frozen=True):
    """Which paths of each local source a target uses, absolute within it, wildcards as written; "/" is all of it.

    Where a path is a symlink, what it points to inside the source is needed too.
    """

    paths: Mapping[str, frozenset[str]]

    def include(self, source: str) -> tuple[str, ...]:
        """As patterns for a `LocalSource`; () is everything. Ask `uses` first: what is not used needs nothing."""
        found = self.paths.get(source, frozenset())
        return () if "/" in found else tuple(sorted(path.lstrip("/") for path in found))

    def uses(self, source: str) -> bool:
        return source in self.paths


class Plan(Struct, frozen=True):
    """`places` are the lines that asked for a vertex, by its digest; `scanned` what an SBOM is to tell of beside the
    target: stages by their names, and "context".
    """

    target: Target
    needs: Needs
    findings: tuple[Finding, ...] = ()
    places: Mapping[str, Lines] = {}
    scanned: Mapping[str, Vertex] = {}


class Elsewhere(Protocol):
    """How the parts that compute, some milliseconds of it, are run: asyncio.to_thread keeps them off an event loop."""

    async def __call__(self, work: Callable[[], _T], /) -> _T: ...


async def here(work: Callable[[], _T], /) -> _T:
    """At once."""
    return work()


async def plan_dockerfile(
    data: bytes, options: PlanOptions, images: BaseImages, *, elsewhere: Elsewhere = here
) -> Plan:
    """Raises DockerfileError, and what `images` raises."""
    planner = await elsewhere(lambda: _Planner(data, options, Checks()))
    return await planner.plan(images, elsewhere)


class Checked(Struct, frozen=True):
    """What the build checks found, by place, and why the file cannot be built at all, if so."""

    findings: tuple[Finding, ...]
    error: DockerfileError | None = None


async def check_dockerfile(data: bytes, options: PlanOptions, images: BaseImages) -> Checked:
    """All stages are looked at, or those that the target needs if one is given. Raises what `images` raises."""
    found = Checks()
    error = None
    try:
        await _Planner(data, options, found, every_stage=not options.target).plan(images, here)
    except DockerfileError as caught:
        error = caught
    return Checked(tuple(found.sorted()), error)


class _Node(Struct, eq=False):
    """A stage, or an image that only files are taken from (`registered` False)."""

    source: From
    base_name: str
    name: str = ""
    stage: Stage | None = None
    platform: Platform | None = None
    base: _Node | None = None
    context: Context | None = None
    image: BaseImage | None = None
    instructions: list[tuple[Instruction, bool]] = field(default_factory=list)  # and whether ONBUILD brought it
    dependencies: dict[_Node, Instruction] = field(default_factory=dict)
    triggers_read: bool = False
    resolved: bool = False

    @property
    def registered(self) -> bool:
        return self.stage is not None


class _Planner:
    def __init__(self, data: bytes, options: PlanOptions, found: Checks, *, every_stage: bool = False) -> None:
        if not data:
            raise DockerfileError("the Dockerfile cannot be empty")
        document = parse_syntax(data)
        said = options.build_args.get(CHECK_ARGUMENT, document.directives.get("check", ""))
        found.settings = read_settings(said)
        self.checks = found
        self._stages = arrange(document, self.checks)
        self._options = options
        self._every_stage = every_stage
        self._lexer = Lexer(document.escape)
        self._nodes: list[_Node] = []
        self._by_name: dict[str, _Node] = {}
        self._places: dict[str, Lines] = {}
        self._foreign: dict[str, _Node] = {}  # images and contexts that only files are taken from
        self._target_platform = options.platform or options.host

    async def plan(self, images: BaseImages, elsewhere: Elsewhere) -> Plan:
        target = await elsewhere(self._prepare)
        await self._resolve(target, images)
        return await elsewhere(lambda: self._finish(target))

    def _prepare(self) -> _Node:
        """All that can be said before base images are known; the target."""
        self._global_args = self._read_global_args()
        for index, stage in enumerate(self._stages.stages):
            self._add_stage(index, stage)
        target = self._find_target()
        self._check_no_cache()
        for node in tuple(self._nodes):
            self._connect(node)
        self._refuse_circles()
        if len(self._nodes) == 1:
            self._nodes[0].name = ""
        return target

    def _finish(self, target: _Node) -> Plan:
        _, paths = self._carry_out(target, {})
        states, paths = self._carry_out(target, paths)
        self.checks.demand()
        needs = Needs({name: frozenset(found) for name, found in paths.items()})
        scanned = dict(self._scanned(target, states, needs))
        return Plan(self._target(target, states), needs, tuple(self.checks.sorted()), self._places, scanned)

    def _scanned(self, target: _Node, states: Mapping[_Node, State], needs: Needs) -> Iterator[tuple[str, Vertex]]:
        main = self._options.main
        for node, state in states.items():
            own = [instruction for instruction, _ in node.instructions]
            if node.registered and node is not target and asked(scans.STAGE, state, own, self._global_args):
                yield node.name, state.vertex
            if node.registered and asked(scans.CONTEXT, state, own, self._global_args):
                yield "context", source_of(main, needs.include(main.name) if isinstance(main, LocalContext) else ())

    # arguments before the first FROM

    def _read_global_args(self) -> dict[str, str]:
        predefined = self._predefined()
        self._check_defaults(predefined)
        values = dict(predefined)
        for instruction in self._stages.global_args:
            for definition in instruction.definitions:
                value = self._options.build_args.get(definition.key)
                if value is None and definition.value is not None:
                    value = self._expand(definition.value, values, instruction.origin.lines).text
                if value is not None:
                    values[definition.key] = value
        return values

    def _predefined(self) -> dict[str, str]:
        values: dict[str, str] = {}
        for prefix, platform in (("BUILD", self._options.host), ("TARGET", self._target_platform)):
            values |= {
                f"{prefix}PLATFORM": str(platform),
                f"{prefix}OS": platform.os,
                f"{prefix}OSVERSION": "",
                f"{prefix}ARCH": platform.architecture,
                f"{prefix}VARIANT": platform.variant,
            }
        values["TARGETSTAGE"] = self._options.target or "default"
        given = self._options.build_args
        return {name: given.get(name, value) for name, value in values.items()}

    def _check_defaults(self, predefined: Mapping[str, str]) -> None:
        """Whether the names of base images hold without the build's arguments."""
        values = dict(predefined)
        try:
            for instruction in self._stages.global_args:
                for definition in instruction.definitions:
                    if definition.value is not None:
                        values[definition.key] = self._lexer.word(definition.value, values)
            names = [(stage.source, self._lexer.word(stage.source.base, values)) for stage in self._stages.stages]
        except DockerfileError:
            return  # planning itself will fail at it
        for source, name in names:
            try:
                reference.parse(name)
            except InvalidParameter:
                message = f"Default value for ARG {source.base} results in empty or invalid base image name"
                self.checks.report(checks.DEFAULT_ARG_IN_FROM, source.origin.lines, message)

    def _expand(self, text: str, values: Mapping[str, str], lines: Lines) -> Expansion:
        try:
            return self._lexer.expand(text, values)
        except DockerfileError as error:
            raise error.at(lines) from None

    # stages

    def _add_stage(self, index: int, stage: Stage) -> None:
        source = stage.source
        lines = source.origin.lines
        expansion = self._expand(source.base, self._global_args, lines)
        self._check_declared(expansion.unmatched, lines)
        if not expansion.text:
            raise DockerfileError(f"base name ({source.base}) should not be blank", lines)
        node = _Node(source, expansion.text, source.alias or f"stage-{index}", stage)
        node.platform = self._stage_platform(source)
        if source.alias:
            node.context = self._named_context(source.alias)
        node.base = None if node.context else self._by_name.get(node.base_name)
        if node.context is None:
            node.instructions = [(instruction, False) for instruction in stage.instructions]
        self._register(node)

    def _register(self, node: _Node) -> None:
        self._nodes.append(node)
        if node.source.alias:
            self._by_name[node.source.alias] = node

    def _stage_platform(self, source: From) -> Platform | None:
        if not source.platform:
            return None
        lines = source.origin.lines
        expansion = self._expand(source.platform, self._global_args, lines)
        self._check_declared(expansion.unmatched, lines)
        self._check_platform_flag(source, expansion)
        text = expansion.text
        if not text:
            message = f"empty platform value from expression {source.platform}"
            raise DockerfileError(self._suggesting(message, expansion.unmatched), lines)
        try:
            return platforms.parse(text, self._options.host)
        except InvalidParameter as error:
            message = f"failed to parse platform {source.platform}: {error}"
            raise DockerfileError(self._suggesting(message, expansion.unmatched), lines) from None

    def _suggesting(self, message: str, unmatched: set[str]) -> str:
        """With the first argument that one of these may have been meant to be."""
        for name in sorted(unmatched):
            if nearest(name, self._global_args):
                return suggesting(message, name, self._global_args)
        return message

    def _check_declared(self, unmatched: set[str], lines: Lines) -> None:
        declared = {item.key for instruction in self._stages.global_args for item in instruction.definitions}
        known = declared | set(self._global_args)
        for name in sorted(unmatched - known):
            message = suggesting(f"FROM argument '{name}' is not declared", name, known)
            self.checks.report(checks.UNDEFINED_ARG_IN_FROM, lines, message)

    def _check_platform_flag(self, source: From, expansion: Expansion) -> None:
        lines = source.origin.lines
        if expansion.matched == {"TARGETPLATFORM"} and not expansion.unmatched:
            if expansion.text == self._global_args["TARGETPLATFORM"]:
                message = (
                    f"Setting platform to predefined {source.platform} in FROM is redundant "
                    "as this is the default behavior"
                )
                self.checks.report(checks.REDUNDANT_TARGET_PLATFORM, lines, message)
        elif not expansion.matched and not expansion.unmatched:
            try:
                platform = platforms.parse(expansion.text, self._options.host)
            except InvalidParameter:
                return
            if platform.os not in source.alias and platform.architecture not in source.alias:
                message = f"FROM --platform flag should not use constant value {quote(expansion.text)}"
                self.checks.report(checks.PLATFORM_CONSTANT, lines, message)

    def _named_context(self, name: str) -> Context | None:
        """A context that was given under a stage's or an image's name."""
        if name.lower() in (NOTHING, "context"):
            return None
        given = self._options.contexts
        if not given:
            return None
        names = [name, name.lower()]
        try:
            familiar = reference.parse(name).with_default_tag().familiar
        except InvalidParameter:
            pass
        else:
            names += [familiar, familiar.removesuffix(":latest")]
        return next((given[key] for key in names if key in given), None)

    def _find_target(self) -> _Node:
        wanted = self._options.target
        if not wanted:
            return self._nodes[-1]
        found = self._by_name.get(wanted.lower())
        if found is None and wanted.isdecimal() and int(wanted[:9]) < len(self._nodes):
            found = self._nodes[int(wanted)]
        if found is None:
            names = [node.name for node in self._nodes]
            raise DockerfileError(
                suggesting(f"target stage {quote(wanted)} could not be found", wanted, names, fold=True)
            )
        return found

    def _check_no_cache(self) -> None:
        """Stages to build anew that there are none of are refused: nothing would come of what was asked for."""
        names = [node.source.alias for node in self._nodes if node.source.alias]
        for wanted in sorted(self._options.no_cache_stages or ()):
            if wanted.lower() not in names:
                there = f"the stages with names are {', '.join(names)}" if names else "no stage has a name"
                message = f"stage {quote(wanted)} of --no-cache-filter could not be found: {there}"
                raise DockerfileError(suggesting(message, wanted, names, fold=True))

    # which stages use which

    def _connect(self, node: _Node) -> None:
        for instruction, _ in node.instructions:
            self._depend(node, instruction)

    def _depend(self, node: _Node, instruction: Instruction) -> bool:
        """Whether the instruction made the stage depend on others."""
        names = list(_sources(self._lexer, instruction))
        for name in names:
            node.dependencies[self._node_of(name, instruction)] = instruction
        return bool(names)

    def _node_of(self, name: str, instruction: Instruction) -> _Node:
        """The stage of that name or number; any other name is an image or a context, known from now on."""
        lines = instruction.origin.lines
        if isinstance(instruction, CopyFiles) and name.isdecimal():
            if int(name[:9]) >= len(self._nodes):
                raise DockerfileError(f"invalid stage index {name}", lines)
            return self._nodes[int(name)]
        found = self._by_name.get(name.lower()) or self._foreign.get(name)
        if found is None:
            found = self._foreign[name] = _Node(From(Origin(lines=lines), name), name)
        return found

    def _refuse_circles(self) -> None:
        for node in self._nodes:
            circle = _circle(node)
            if circle is not None:
                stage, instruction = circle
                raise DockerfileError(f"circular dependency detected on stage: {stage.name}", instruction.origin.lines)

    def _reached(self, target: _Node) -> list[_Node]:
        """The stages that are needed, in their order; images that only files come from are among them."""
        pending = list(self._nodes) if self._every_stage else [target]
        found: set[_Node] = set()
        while pending:
            node = pending.pop()
            if node not in found:
                found.add(node)
                pending += [*node.dependencies, *([node.base] if node.base else [])]
        return [node for node in (*self._foreign.values(), *self._nodes) if node in found]

    # base images

    async def _resolve(self, target: _Node, images: BaseImages) -> None:
        while True:
            reached = self._reached(target)
            for node in reached:
                if not node.resolved and node.base is None:
                    await self._resolve_base(node, images)
                node.resolved = True
            more = [self._read_triggers(node) for node in reached if node.registered and not node.triggers_read]
            if not any(more):
                return

    async def _resolve_base(self, node: _Node, images: BaseImages) -> None:
        lines = node.source.origin.lines
        if node.context is None and node.base_name == NOTHING:
            return
        if node.context is None:
            node.context = self._named_context(node.base_name)
        wanted = node.context.reference if isinstance(node.context, ImageContext) else node.base_name
        if node.context is not None and not isinstance(node.context, ImageContext):
            return
        platform = node.platform or self._target_platform
        try:
            parsed = reference.parse(wanted).with_default_tag()
        except InvalidParameter as error:
            raise DockerfileError(f"failed to parse stage name {quote(wanted)}: {error}", lines) from None
        try:
            node.image = await images.base_image(parsed.canonical, platform)
        except WherryError as error:
            error.place = error.place or (lines.first, lines.last)
            raise
        found = Platform(
            node.image.document.get("os") or platform.os,
            node.image.document.get("architecture") or platform.architecture,
            node.image.document.get("variant") or "",
        )
        if (found.os, found.architecture) != (platform.os, platform.architecture):
            message = (
                f"Base image {node.base_name} was pulled with platform {quote(str(found))}, "
                f"expected {quote(str(platform))} for current build"
            )
            self.checks.report(checks.BASE_IMAGE_PLATFORM, lines, message)
        if node.platform is None:
            node.platform = found if self._options.platform is None and found != platform else platform

    def _read_triggers(self, node: _Node) -> bool:
        """ONBUILD of the base image, or of the stage it comes from, carried out first; whether it needs new stages."""
        node.triggers_read = True
        if node.context is not None and node.source.alias and node.context is self._named_context(node.source.alias):
            return False
        texts: list[str] = []
        if node.image is not None:
            texts += (node.image.document.get("config") or {}).get("OnBuild") or []
        if node.base is not None:
            texts += [item.expression for item, _ in node.base.instructions if isinstance(item, OnBuild)]
        lines = node.source.origin.lines
        triggered = [parse(parse_trigger(text, lines)) for text in texts]
        node.instructions[:0] = [(instruction, True) for instruction in triggered]
        depends = [self._depend(node, instruction) for instruction in triggered]
        return any(depends)

    # carrying out

    def _carry_out(
        self, target: _Node, known_paths: Mapping[str, set[str]]
    ) -> tuple[dict[_Node, State], dict[str, set[str]]]:
        """The stages that are needed, in order; `known_paths` is what an earlier time has found to be needed."""
        needs = Needs({name: frozenset(paths) for name, paths in known_paths.items()})
        main = self._options.main
        include = needs.include(main.name) if isinstance(main, LocalContext) else ()
        scope = Scope(self._options, self._lexer, self._global_args, self.checks, source_of(main, include), paths={})
        states: dict[_Node, State] = {}
        for node in self._reached(target):
            state = states[node] = self._begun(scope, node, states, needs)
            for instruction, triggered in node.instructions:
                state.triggered = triggered
                before = state.vertex
                try:
                    self._apply(scope, node, state, instruction, states)
                except DockerfileError as error:
                    raise error.at(instruction.origin.lines) from None
                made = state.vertex if state.vertex is not before else None
                if made is not None:
                    self._place(made, instruction.origin.lines)
                state.steps.append(Step(instruction.origin.code, made, self._index(node)))
        return states, scope.paths

    def _place(self, made: Vertex, lines: Lines) -> None:
        """The vertex and those made for it alone are asked for at these lines."""
        pending = [made]
        while pending:
            vertex = pending.pop()
            if vertex.digest not in self._places and not isinstance(vertex.operation, Scratch):
                self._places[vertex.digest] = lines
                pending += vertex.inputs

    def _index(self, node: _Node) -> int:
        return self._nodes.index(node) if node.registered else 0

    def _begun(self, scope: Scope, node: _Node, states: Mapping[_Node, State], needs: Needs) -> State:
        """The stage before its first instruction."""
        platform = node.platform or self._target_platform
        if node.stage is None:
            return self._tree(scope, node, State(Stage(node.source), "", platform), needs)
        target = self._target_platform.normal() if self._options.name_platforms else None
        state = State(node.stage, node.name, platform, anew=self._anew(node), target=target)
        if node.base is not None:
            base = states[node.base]
            state.platform = base.platform
            state.vertex, state.base = base.vertex, base.base
            state.document = image_config.copied(base.document)
            state.config.pop("OnBuild", None)
            state.variables = dict(base.variables)
            state.arguments = base.arguments
            state.history = list(base.history)
            state.workdir_set = base.workdir_set
            state.total = counted_steps([item for item, _ in node.instructions])
        else:
            counted = counted_steps([item for item, _ in node.instructions])
            state.total = counted + (node.base_name != NOTHING)
            self._tree(scope, node, state, needs)
        if not any(entry.startswith("PATH=") for entry in state.config.get("Env") or ()):
            state.set_env("PATH", DEFAULT_PATH)
        for entry in state.config["Env"]:
            name, _, value = entry.partition("=")
            if node.base is None:
                state.set_variable(name, value)
        if state.config.get("WorkingDir"):
            state.config["WorkingDir"] = settings.normalized_workdir("/", state.config["WorkingDir"])
        state.steps.append(Step(node.source.origin.code, state.vertex, self._index(node)))
        return state

    def _tree(self, scope: Scope, node: _Node, state: State, needs: Needs) -> State:
        """What the stage, or the image that files are taken from, begins with."""
        state.document = image_config.empty(state.platform)
        if isinstance(node.context, VertexContext):
            state.vertex = state.base = node.context.vertex
        elif isinstance(node.context, LocalContext):
            state.vertex = source_of(node.context, needs.include(node.context.name))
        elif node.image is not None:
            image = node.image
            state.document = image_config.inherited(image.document)
            name = state.titled(f"FROM {image.reference}") if node.registered else f"FROM {image.reference}"
            state.base = Vertex(
                ImageSource(image.reference, state.platform, pull="always" if self._options.pull else "missing"),
                name=name,
            )
            layers = (image.document.get("rootfs") or {}).get("diff_ids")
            state.vertex = state.base if layers else SCRATCH
            self._place(state.base, node.source.origin.lines)
            if node.triggers_read:
                state.config.pop("OnBuild", None)
        return state

    def _anew(self, node: _Node) -> bool:
        names = self._options.no_cache_stages
        if names is None:
            return False
        return not names or node.source.alias in {name.lower() for name in names}

    def _apply(
        self, scope: Scope, node: _Node, state: State, instruction: Instruction, states: Mapping[_Node, State]
    ) -> None:
        def expand(text: str, lexer: Lexer = self._lexer) -> str:
            found = lexer.expand(text, state.variables)
            settings.report_undefined(scope, state, instruction.origin, found.unmatched)
            return found.text

        instruction = expanded(instruction, expand, lambda text: expand(text, _PLAIN_QUOTES))
        match instruction:
            case Run():
                mounts = [parse_mount(text, expand) for text in instruction.mounts]
                pairs = [(mount, self._mount_source(scope, node, mount, instruction, states)) for mount in mounts]
                running.run(scope, state, instruction, pairs)
            case CopyFiles():
                source = Source(scope.context, is_context=True, local=_local_name(self._options.main))
                if instruction.source_from:
                    source = self._taken_from(node, instruction.source_from, instruction, states)
                copying.copy(scope, state, instruction, source)
            case _:
                settings.APPLIED[type(instruction)](scope, state, instruction)

    def _mount_source(
        self, scope: Scope, node: _Node, mount: RunMount, instruction: Run, states: Mapping[_Node, State]
    ) -> Source:
        if mount.kind not in ("bind", "cache"):
            return Source(SCRATCH)
        if mount.source_from and mount.source_from != NOTHING:
            return self._taken_from(node, mount.source_from, instruction, states)
        if mount.source_from or mount.kind == "cache":
            return Source(SCRATCH)
        return Source(scope.context, is_context=True, local=_local_name(self._options.main))

    def _taken_from(self, node: _Node, name: str, instruction: Instruction, states: Mapping[_Node, State]) -> Source:
        other = self._node_of(name, instruction)
        state = states.get(other)
        if state is None or other is node:
            verb = "copy" if isinstance(instruction, CopyFiles) else "mount"
            raise DockerfileError(
                f"cannot {verb} from stage {quote(name)}, it needs to be defined before current stage "
                f"{quote(node.name)}"
            )
        local = _local_name(other.context) if other.context is not None and not other.instructions else ""
        return Source(state.vertex, local=local)

    # what comes out

    def _target(self, node: _Node, states: Mapping[_Node, State]) -> Target:
        state = states[node]
        if self._options.labels:
            state.config.setdefault("Labels", {}).update(self._options.labels)
        document = state.document
        if self._options.platform is not None:
            document = image_config.with_platform(document, self._options.platform)
        return Target(
            vertex=state.vertex,
            config=image_config.finished(document),
            history=tuple(state.history),
            base=state.base,
            platform=state.platform,
            steps=tuple(step for held in states.values() for step in held.steps),
            warnings=tuple(
                f"{finding.rule.name}: {finding.message} (line {finding.lines.first})"
                for finding in self.checks.sorted()
            ),
        )


def _local_name(context: Context) -> str:
    return context.name if isinstance(context, LocalContext) else ""


def _sources(lexer: Lexer, instruction: Instruction) -> Iterable[str]:
    """The names that files are taken from. Raises DockerfileError."""
    if isinstance(instruction, CopyFiles) and instruction.source_from:
        name = instruction.source_from
        try:
            same = lexer.word(name, {}) == name
        except DockerfileError as error:
            raise error.at(instruction.origin.lines) from None
        if not same:
            raise DockerfileError(
                "variable expansion is not supported for --from, define a new stage with FROM using ARG from global "
                "scope as a workaround",
                instruction.origin.lines,
            )
        yield name
    if isinstance(instruction, Run):
        for text in instruction.mounts:
            name = check_unexpanded(text)
            if name and name != NOTHING and kind_of(text) not in ("tmpfs", "secret", "ssh"):
                yield name


def _circle(start: _Node) -> tuple[_Node, Instruction] | None:
    """A stage that uses itself by way of others, and the instruction that closes the circle."""
    done: set[_Node] = set()
    path = [start]
    pending = [iter(start.dependencies.items())]
    while pending:
        following = next(pending[-1], None)
        if following is None:
            pending.pop()
            done.add(path.pop())
            continue
        node, instruction = following
        if node in path:
            return start, instruction
        if node not in done:
            path.append(node)
            pending.append(iter(node.dependencies.items()))
    return None
