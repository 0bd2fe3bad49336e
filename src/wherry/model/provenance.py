"""Where an image comes from: a predicate of SLSA provenance v0.2, as BuildKit fills it in.

Source: slsa.dev/provenance/v0.2; docs.docker.com, "Provenance attestation" and "SLSA definitions" for the fields.
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
    arguments = {
        name: asked.arguments[name] for name in sorted(asked.arguments) if whole or not name.startswith(_PRIVATE)
    }
    local = sorted(asked.locals)
    parameters: Json = {"frontend": "dockerfile.v0", "args": arguments}
    if whole:
        parameters |= _mounted(done.target)
    parameters["locals"] = [{"name": name} for name in local]
    source: Json = asked.context.json() if asked.context is not None else {}
    metadata: Json = {
        "buildInvocationID": done.id,
        "buildStartedOn": rfc3339_nano(done.started_ns),
        "buildFinishedOn": rfc3339_nano(done.finished_ns),
        "completeness": {
            "parameters": len(arguments) == len(asked.arguments),
            "environment": True,
            "materials": not local,
        },
        "reproducible": bool(truth(options.get("reproducible", "false"))),
    }
    if not local and not _reaches_out(done.target):
        metadata[f"{_TYPE}#hermetic"] = True
    found: Json = {
        "builder": {"id": options.get("builder-id", "")},
        "buildType": _TYPE,
        "materials": [material.json() for material in done.materials],
        "invocation": {
            "configSource": {**source, "entryPoint": asked.dockerfile_name},
            "parameters": parameters,
            "environment": {"platform": str(asked.host)},
        },
    }
    if whole:
        steps, names = definition(done.target)
        found["buildConfig"] = {"llbDefinition": steps, "digestMapping": names}
        metadata[f"{_TYPE}#metadata"] = {"source": _source(asked, done, names)}
    return found | {"metadata": metadata}


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
