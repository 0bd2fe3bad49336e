"""Where an image comes from: a predicate of SLSA provenance v0.2 or v1, as BuildKit fills it in.

Source: slsa.dev/provenance/v0.2 and v1; docs.docker.com, "Provenance attestation" and "SLSA definitions" for what is in
the fields.
`mode=min` leaves out what may be private: build arguments, labels, secrets' names, the graph and the Dockerfile.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wherry.model import build_graph as graph
from wherry.model.attestations import truth
from wherry.model.build_graph import Vertex
from wherry.model.dockerfile.source import Lines
from wherry.model.llb import definition
from wherry.model.platforms import Platform
from wherry.model.timestamps import rfc3339_nano

Json = dict[str, Any]

_TYPE = "https://mobyproject.org/buildkit@v1"
_TYPE_1 = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
_PRIVATE = ("build-arg:", "label:")


@dataclass(frozen=True)
class Material:
    """Something that came from outside, with its digest ("sha256:…", "sha1:…")."""

    uri: str
    digest: str

    def json(self) -> Json:
        algorithm, _, value = self.digest.partition(":")
        return {"uri": self.uri, "digest": {algorithm: value}}


@dataclass(frozen=True)
class Invocation:
    """What was asked for. `arguments` have BuildKit's names; `locals` are directories of the client's."""

    dockerfile_name: str
    dockerfile: bytes
    arguments: Mapping[str, str]
    locals: Iterable[str]
    host: Platform
    context: Material | None = None  # a remote one


@dataclass(frozen=True)
class Performed:
    """What was done. Times in ns since the epoch; `places` are the Dockerfile's lines by vertex."""

    id: str
    target: Vertex
    materials: Iterable[Material]
    started_ns: int
    finished_ns: int
    places: Mapping[str, Lines] = field(default_factory=dict)


def predicate(asked: Invocation, done: Performed, options: Mapping[str, str]) -> Json:
    """`options` are those of the attestation, checked."""
    whole = options.get("mode", "min") == "max"
    facts = _Facts(asked, done, options, whole, *(definition(done.target) if whole else ([], {})))
    return _slsa_1(facts) if options.get("version") == "v1" else _slsa_02(facts)


@dataclass(frozen=True)
class _Facts:
    """What every version says, each in words of its own. `steps` and `names` are the graph as LLB, if it is told."""

    asked: Invocation
    done: Performed
    options: Mapping[str, str]
    whole: bool
    steps: list[Json]
    names: Mapping[str, str]

    @property
    def builder(self) -> Json:
        return {"id": self.options.get("builder-id", "")}

    @property
    def source(self) -> Json:
        return self.asked.context.json() if self.asked.context is not None else {}

    @property
    def materials(self) -> list[Json]:
        return [material.json() for material in self.done.materials]

    @property
    def request(self) -> Json:
        arguments = {
            name: self.asked.arguments[name]
            for name in sorted(self.asked.arguments)
            if self.whole or not name.startswith(_PRIVATE)
        }
        found: Json = {"frontend": "dockerfile.v0", "args": arguments}
        if self.whole:
            found |= _mounted(self.done.target)
        return found | {"locals": [{"name": name} for name in sorted(self.asked.locals)]}

    @property
    def all_told(self) -> bool:
        return len(self.request["args"]) == len(self.asked.arguments)

    @property
    def all_known(self) -> bool:
        """Whether the materials are all there were."""
        return not list(self.asked.locals)

    @property
    def hermetic(self) -> bool:
        return self.all_known and not _reaches_out(self.done.target)

    @property
    def reproducible(self) -> bool:
        return bool(truth(self.options.get("reproducible", "false")))

    @property
    def config(self) -> Json:
        return {"llbDefinition": self.steps, "digestMapping": self.names}

    @property
    def times(self) -> tuple[str, str]:
        return rfc3339_nano(self.done.started_ns), rfc3339_nano(self.done.finished_ns)


def _slsa_02(facts: _Facts) -> Json:
    started, finished = facts.times
    metadata: Json = {
        "buildInvocationID": facts.done.id,
        "buildStartedOn": started,
        "buildFinishedOn": finished,
        "completeness": {"parameters": facts.all_told, "environment": True, "materials": facts.all_known},
        "reproducible": facts.reproducible,
    }
    if facts.hermetic:
        metadata[f"{_TYPE}#hermetic"] = True
    found: Json = {
        "builder": facts.builder,
        "buildType": _TYPE,
        "materials": facts.materials,
        "invocation": {
            "configSource": {**facts.source, "entryPoint": facts.asked.dockerfile_name},
            "parameters": facts.request,
            "environment": {"platform": str(facts.asked.host)},
        },
    }
    if facts.whole:
        found["buildConfig"] = facts.config
        metadata[f"{_TYPE}#metadata"] = {"source": _source(facts.asked, facts.done, facts.names)}
    return found | {"metadata": metadata}


def _slsa_1(facts: _Facts) -> Json:
    started, finished = facts.times
    metadata: Json = {"invocationID": facts.done.id, "startedOn": started, "finishedOn": finished}
    if facts.whole:
        metadata["buildkit_metadata"] = {"source": _source(facts.asked, facts.done, facts.names)}
    if facts.hermetic:
        metadata["buildkit_hermetic"] = True
    metadata["buildkit_completeness"] = {"request": facts.all_told, "resolvedDependencies": facts.all_known}
    metadata["buildkit_reproducible"] = facts.reproducible
    internal: Json = {"buildConfig": facts.config} if facts.whole else {}
    return {
        "buildDefinition": {
            "buildType": _TYPE_1,
            "externalParameters": {
                "configSource": {**facts.source, "path": facts.asked.dockerfile_name},
                "request": facts.request,
            },
            "internalParameters": {**internal, "builderPlatform": str(facts.asked.host)},
            "resolvedDependencies": facts.materials,
        },
        "runDetails": {"builder": facts.builder, "metadata": metadata},
    }


def _mounted(target: Vertex) -> Json:
    """Which secrets and agents processes have; optional if none insists."""
    found: dict[str, dict[str, bool]] = {"secrets": {}, "ssh": {}}
    for vertex in graph.ordered(target):
        for mount in vertex.operation.mounts if isinstance(vertex.operation, graph.Exec) else ():
            if isinstance(mount, graph.Secret | graph.Ssh):
                held = found["secrets" if isinstance(mount, graph.Secret) else "ssh"]
                held[mount.id] = held.get(mount.id, True) and not mount.required
    return {
        kind: [{"id": name, **({"optional": True} if held[name] else {})} for name in sorted(held)]
        for kind, held in found.items()
        if held
    }


def _reaches_out(target: Vertex) -> bool:
    return any(
        isinstance(vertex.operation, graph.Exec) and vertex.operation.network != "none"
        for vertex in graph.ordered(target)
    )


def _source(asked: Invocation, done: Performed, names: Mapping[str, str]) -> Json:
    locations: Json = {}
    for digest, name in names.items():
        lines = done.places.get(digest)
        shown = {"start": {"line": lines.first}, "end": {"line": lines.last}} if lines is not None else {}
        locations[name] = {"locations": [{"ranges": [shown]}]} if shown else {}
    info = {
        "filename": asked.dockerfile_name,
        "language": "Dockerfile",
        "data": base64.b64encode(asked.dockerfile).decode(),
    }
    return {"locations": locations, "infos": [info]}
