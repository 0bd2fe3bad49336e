"""Vertices in the JSON of BuildKit's operations (its `pb.Op`), as provenance shows how something was built.

Source: what BuildKit itself writes into `buildConfig.llbDefinition`, and solver/pb/ops.proto for the names.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from wherry.model import build_graph as graph
from wherry.model.build_graph import Vertex
from wherry.model.jsontext import dumps
from wherry.model.platforms import Platform

Json = dict[str, Any]

_NETWORKS = {"host": 1, "none": 2}
_SHARING = {"shared": 0, "private": 1, "locked": 2}
_BIND, _SECRET, _SSH, _CACHE, _TMPFS = range(5)
_ROOT: Json = {"input": 0, "dest": "/", "output": 0}


def definition(target: Vertex) -> tuple[list[Json], dict[str, str]]:
    """The operations in order, the target's name last, and the name of each vertex by its digest.

    An empty tree is no operation: what begins with one has no input there (-1).
    """
    names: dict[str, str] = {}
    steps: list[Json] = []
    for vertex in graph.ordered(target):
        if isinstance(vertex.operation, graph.Scratch):
            continue
        numbers = _numbers(vertex)
        step: Json = {"id": f"step{len(steps)}", "op": _operation(vertex, numbers)}
        inputs = [names[other.digest] + ":0" for other in vertex.inputs if other.digest in names]
        if inputs:
            step["inputs"] = inputs
        names[vertex.digest] = step["id"]
        steps.append(step)
    last: Json = {"id": f"step{len(steps)}", "op": {"Op": None}}
    if target.digest in names:
        last["inputs"] = [names[target.digest] + ":0"]
    return [*steps, last], names


def _numbers(vertex: Vertex) -> dict[int, int]:
    """Which input is which, once empty trees are left out."""
    there = [number for number, other in enumerate(vertex.inputs) if not isinstance(other.operation, graph.Scratch)]
    return {number: place for place, number in enumerate(there)} | {-1: -1}


def _operation(vertex: Vertex, numbers: Mapping[int, int]) -> Json:
    operation = vertex.operation
    shown: Json = {"constraints": {}}
    match operation:
        case graph.ImageSource():
            found = _image(operation)
        case graph.LocalSource():
            found = _source(f"local://{operation.name}", _patterns(operation))
        case graph.HttpSource():
            given = {"http.checksum": operation.checksum, "http.filename": operation.filename}
            found = _source(operation.url, _given(given))
        case graph.GitSource():
            found = _git(operation)
        case graph.Exec():
            found = {"exec": _exec(operation, numbers)}
        case graph.File():
            actions = [_action(each, place, numbers) for place, each in enumerate(operation.actions)]
            found = {"file": {"actions": actions}}
        case graph.Merge():
            found = {"merge": {"inputs": [{"input": number} for number in sorted(numbers.values()) if number >= 0]}}
        case graph.Diff():
            found = {"diff": {"lower": {"input": numbers.get(0, -1)}, "upper": {"input": numbers.get(1, -1)}}}
        case graph.Scratch():
            found = {}
    shown["Op"] = found
    platform = operation.platform if isinstance(operation, graph.ImageSource | graph.Exec) else None
    if platform is not None:
        shown["platform"] = _platform(platform)
    return shown


def _platform(platform: Platform) -> Json:
    return _given({"Architecture": platform.architecture, "OS": platform.os, "Variant": platform.variant})


def _given(fields: Json) -> Json:
    return {key: value for key, value in fields.items() if value not in ("", None, 0, False, [], {})}


# sources


def _source(identifier: str, attributes: Json) -> Json:
    return {"source": {"identifier": identifier, **({"attrs": attributes} if attributes else {})}}


def _image(operation: graph.ImageSource) -> Json:
    modes = {"always": "pull", "never": "local"}
    return _source(
        f"docker-image://{operation.reference}", _given({"image.resolvemode": modes.get(operation.pull, "")})
    )


def _patterns(operation: graph.LocalSource) -> Json:
    return _given(
        {
            "local.includepatterns": _list(operation.include),
            "local.excludepatterns": _list(operation.exclude),
        }
    )


def _list(words: tuple[str, ...]) -> str:
    return dumps(list(words)) if words else ""


def _git(operation: graph.GitSource) -> Json:
    fragment = operation.ref + (f":{operation.subdir}" if operation.subdir else "")
    remote = operation.remote.partition("://")[2] or operation.remote
    attributes = _given(
        {
            "git.fullurl": operation.remote,
            "git.keepgitdir": "true" if operation.keep_git else "",
            "git.checksum": operation.checksum,
            "git.mountsshsock": operation.ssh,
        }
    )
    return _source(f"git://{remote}" + (f"#{fragment}" if fragment else ""), attributes)


# processes


def _exec(operation: graph.Exec, numbers: Mapping[int, int]) -> Json:
    meta: Json = {"args": list(operation.args), "env": list(operation.env), "cwd": operation.cwd}
    hosts = [text.partition(":") for text in operation.extra_hosts]
    meta |= _given(
        {
            "user": operation.user,
            "hostname": operation.hostname,
            "extraHosts": [{"Host": name, "IP": address} for name, _, address in hosts],
            "ulimit": [{"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard} for limit in operation.ulimits],
        }
    )
    found: Json = {"meta": meta, "mounts": [_ROOT, *(_mount(each, numbers) for each in operation.mounts)]}
    return found | _given(
        {"network": _NETWORKS.get(operation.network, 0), "security": 1 if operation.security == "insecure" else 0}
    )


def _mount(mount: graph.Mount, numbers: Mapping[int, int]) -> Json:
    found: Json = {"input": -1, "dest": mount.target, "output": -1}
    match mount:
        case graph.Bind():
            found["input"] = numbers.get(mount.input, -1)
            found |= _given({"selector": mount.source, "readonly": mount.readonly})
        case graph.Cache():
            found["input"] = numbers.get(mount.input, -1)
            found |= _given({"selector": mount.source, "readonly": mount.readonly})
            found |= {"mountType": _CACHE, "cacheOpt": {"ID": mount.id} | _given({"sharing": _SHARING[mount.sharing]})}
        case graph.Tmpfs():
            found |= {"mountType": _TMPFS, "TmpfsOpt": _given({"size": mount.size})}
        case graph.Secret():
            found |= {"mountType": _SECRET, "secretOpt": _shared(mount)}
            if mount.env:
                found["secretOpt"]["env"] = mount.env
        case graph.Ssh():
            found |= {"mountType": _SSH, "SSHOpt": _shared(mount)}
    return found


def _shared(mount: graph.Secret | graph.Ssh) -> Json:
    optional = not mount.required
    return {"ID": mount.id, **_given({"uid": mount.uid, "gid": mount.gid, "mode": mount.mode, "optional": optional})}


# files


def _action(action: graph.Action, place: int, numbers: Mapping[int, int]) -> Json:
    """Each action goes on from the one before: their outputs are numbered behind the inputs."""
    inputs = sum(number >= 0 for number in numbers.values())
    first = numbers.get(0, -1) if place == 0 else inputs + place - 1
    second = -1
    match action:
        case graph.Copy():
            second = numbers.get(action.input, -1)
            named = {"copy": _copy(action, numbers)}
        case graph.MakeDir():
            named = {
                "mkdir": {"path": action.path, "mode": action.mode}
                | _given({"makeParents": action.parents, "owner": _owner(action.owner, numbers)})
                | _timed(action.time_ns)
            }
        case graph.MakeFile():
            data = base64.b64encode(action.data).decode()
            named = {
                "mkfile": {"path": action.path, "mode": action.mode, "data": data}
                | _given({"owner": _owner(action.owner, numbers)})
                | _timed(action.time_ns)
            }
        case graph.Remove():
            missing, wildcard = action.allow_missing, action.wildcard
            named = {"rm": {"path": action.path} | _given({"allowNotFound": missing, "allowWildcard": wildcard})}
        case graph.Symlink():
            named = {
                "symlink": {"oldpath": action.link, "newpath": action.path}
                | _given({"owner": _owner(action.owner, numbers)})
                | _timed(action.time_ns)
            }
    return {"input": first, "secondaryInput": second, "output": 0, "Action": named}


def _copy(action: graph.Copy, numbers: Mapping[int, int]) -> Json:
    octal = action.mode.isdigit()
    found: Json = {"src": action.source, "dest": action.destination}
    found |= _given({"owner": _owner(action.owner, numbers)})
    found["mode"] = int(action.mode, 8) if octal else -1
    found |= _given(
        {
            "modeStr": "" if octal else action.mode,
            "followSymlink": action.follow,
            "dirCopyContents": action.contents_only,
            "attemptUnpackDockerCompatibility": action.unpack,
            "createDestPath": action.create_destination,
            "allowWildcard": action.wildcard,
            "allowEmptyWildcard": action.allow_empty,
            "includePatterns": list(action.include),
            "excludePatterns": list(action.exclude),
            "alwaysReplaceExistingDestPaths": action.replace,
        }
    )
    return found | _timed(action.time_ns)


def _timed(time_ns: int | None) -> Json:
    return {"timestamp": -1 if time_ns is None else time_ns}


def _owner(owner: graph.Owner | None, numbers: Mapping[int, int]) -> Json | None:
    if owner is None:
        return None

    def named(text: str) -> Json:
        if text.isdigit():
            return {"User": {"byID": int(text)}}
        return {"User": {"byName": {"name": text, "input": numbers.get(owner.ids_in, -1)}}}

    return {key: named(text) for key, text in (("user", owner.user), ("group", owner.group)) if text}
