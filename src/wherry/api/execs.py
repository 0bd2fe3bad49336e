"""Exec routes: a process more in a running container."""

from __future__ import annotations

from typing import Any

import msgspec

from wherry.api import hijack
from wherry.api.app import HEADERS, Call, Route
from wherry.api.server import Answer
from wherry.api.services import Exec, ExecsService
from wherry.errors import InvalidParameter, SystemFailure
from wherry.model.config import ExecConfig


class ExecStart(msgspec.Struct, rename="pascal"):
    """The body of POST /exec/{id}/start."""

    detach: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None  # height, width


def routes(execs: ExecsService) -> list[Route]:
    """The routes over this service."""

    async def create(call: Call) -> Answer:
        config = await call.body(ExecConfig, optional=True)
        if not config.cmd:
            raise InvalidParameter("No exec command specified")
        try:
            hijack.detach_keys(config.detach_keys)
        except InvalidParameter:
            raise SystemFailure(f"Invalid escape keys ({config.detach_keys}) provided") from None
        if call.version < (1, 42):
            config.console_size = None
        return call.json({"Id": await execs.create(call.path["name"], config)}, 201)

    async def start(call: Call) -> Answer:
        wanted = await call.body(ExecStart, optional=True)
        found = execs.get(call.path["id"])
        keys = hijack.detach_keys(found.config.detach_keys)
        size = wanted.console_size or found.config.console_size
        if wanted.detach:
            await execs.start(found.id, detach=True, tty=wanted.tty, console_size=size)
            return call.empty(200)
        starting = execs.start(found.id, detach=False, tty=wanted.tty, console_size=size)
        return await hijack.serve_new(call, starting, keys, tty=found.config.tty, headers=HEADERS)

    async def resize(call: Call) -> Answer:
        height, width = call.query.required_integer("h"), call.query.required_integer("w")
        await execs.resize(call.path["id"], height, width)
        return call.empty(200)

    async def inspect(call: Call) -> Answer:
        return call.json(encode(execs.get(call.path["id"])))

    return [
        Route("POST", "/containers/{name:.*}/exec", create),
        Route("POST", "/exec/{id:.*}/start", start),
        Route("POST", "/exec/{id:.*}/resize", resize),
        Route("GET", "/exec/{id:.*}/json", inspect),
    ]


def encode(found: Exec) -> dict[str, Any]:
    """GET /exec/{id}/json."""
    config = found.config
    cmd = config.cmd or [""]
    process: dict[str, Any] = {
        "tty": config.tty,
        "entrypoint": cmd[0],
        "arguments": cmd[1:],
        "privileged": config.privileged,
    }
    if config.user:
        process["user"] = config.user
    return {
        "ID": found.id,
        "Running": found.running,
        "ExitCode": found.exit_code,
        "ProcessConfig": process,
        "OpenStdin": config.attach_stdin,
        "OpenStderr": config.attach_stderr,
        "OpenStdout": config.attach_stdout,
        "CanRemove": False,
        "ContainerID": found.container_id,
        "DetachKeys": hijack.detach_keys(config.detach_keys) if config.detach_keys else b"",  # base64, as Go's []byte
        "Pid": found.pid,
    }
