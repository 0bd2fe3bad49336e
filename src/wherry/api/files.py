"""Routes of containers' files: archive, changes, export, and commit, which makes an image of them."""

from __future__ import annotations

import base64
from typing import Any

from wherry.api import decode
from wherry.api.app import Call, Route
from wherry.api.jsontext import encode
from wherry.api.server import Answer
from wherry.engine.commits import Commits
from wherry.engine.containers.files import Files, PathStat
from wherry.errors import InvalidParameter
from wherry.model import paths
from wherry.model.timestamps import rfc3339_nano

STAT_HEADER = "X-Docker-Container-Path-Stat"


def routes(files: Files, commits: Commits) -> list[Route]:
    """The routes of this file."""

    async def head(call: Call) -> Answer:
        found = await files.stat(call.path["name"], _path(call))
        return call.empty(200, {STAT_HEADER: _header(found)})

    async def get(call: Call) -> Answer:
        async with files.read(call.path["name"], _path(call)) as (found, pieces):
            response = await call.stream("application/x-tar", headers={STAT_HEADER: _header(found)})
            async for piece in pieces:
                await response.write(piece)
            await response.write_eof()
        return response

    async def put(call: Call) -> Answer:
        await files.write(
            call.path["name"],
            _path(call),
            call.content,
            keep_kinds=call.query.boolean("noOverwriteDirNonDir"),
            as_user=call.query.boolean("copyUIDGID"),
        )
        return call.empty(200)

    async def changes(call: Call) -> Answer:
        found = await files.changes(call.path["name"])
        return call.json([{"Kind": int(change.kind), "Path": change.path} for change in found] or None)

    async def export(call: Call) -> Answer:
        async with files.export(call.path["name"]) as pieces:
            response = await call.stream("application/octet-stream")
            async for piece in pieces:
                await response.write(piece)
            await response.write_eof()
        return response

    async def commit(call: Call) -> Answer:
        query = call.query
        data = await decode.bounded(call.content)
        config = decode.create_body(call.headers.get("content-type"), data)[0] if data.strip() else None
        image = await commits.commit(
            query.text("container"),
            repository=query.text("repo"),
            tag=query.text("tag"),
            comment=query.text("comment"),
            author=query.text("author"),
            changes=query.all("changes"),
            pause=query.boolean("pause", default=True) or not query.text("pause"),
            config=config,
        )
        return call.json({"Id": image.id}, 201)

    return [
        Route("HEAD", "/containers/{name:.*}/archive", head),
        Route("GET", "/containers/{name:.*}/archive", get),
        Route("PUT", "/containers/{name:.*}/archive", put),
        Route("GET", "/containers/{name:.*}/changes", changes),
        Route("GET", "/containers/{name:.*}/export", export),
        Route("POST", "/commit", commit),
    ]


def _path(call: Call) -> str:
    path = call.query.file("path")
    if not path:
        raise InvalidParameter("bad parameter: pathcannot be empty")
    return path


def _header(found: PathStat) -> str:
    shown: dict[str, Any] = {
        "name": found.name,
        "size": found.size,
        "mode": paths.go_mode(found.mode),
        "mtime": rfc3339_nano(found.mtime_ns),
        "linkTarget": found.link_target,
    }
    return base64.b64encode(encode(shown)).decode("ascii")
