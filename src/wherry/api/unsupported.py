"""Operations of the API that this engine does not do: each says so by name, and none is a silent 404.

Swarm and plugins answer as an engine that is not part of a swarm and has no plugins.
"""

from __future__ import annotations

from collections.abc import Callable

from wherry.api.app import Call, Handler, Route
from wherry.api.server import Answer
from wherry.errors import NotFound, NotSupported, Unavailable

NO_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)

# Method, path, and the operation as its user knows it. With {container} the container must exist first.
OPERATIONS: tuple[tuple[str, str, str], ...] = (
    ("GET", "/containers/{container:.*}/checkpoints", "checkpoints"),
    ("POST", "/containers/{container:.*}/checkpoints", "checkpoints"),
    ("DELETE", "/containers/{container:.*}/checkpoints/{checkpoint}", "checkpoints"),
    ("GET", "/images/{image:.*}/attestations", "attestations of images"),
    ("POST", "/session", "build sessions (BuildKit)"),
    ("POST", "/grpc", "build sessions (BuildKit)"),
    ("PUT", "/volumes/{volume:.*}", "updating cluster volumes"),
)

SWARM: tuple[tuple[str, str], ...] = (
    ("GET", "/swarm"),
    ("GET", "/swarm/unlockkey"),
    ("POST", "/swarm/unlock"),
    ("POST", "/swarm/update"),
    *(("GET", f"/{kind}") for kind in ("nodes", "services", "tasks", "secrets", "configs")),
    *(("GET", f"/{kind}/{{id}}") for kind in ("nodes", "services", "tasks", "secrets", "configs")),
    *(("GET", f"/{kind}/{{id}}/logs") for kind in ("services", "tasks")),
    *(("DELETE", f"/{kind}/{{id}}") for kind in ("nodes", "services", "secrets", "configs")),
    *(("POST", f"/{kind}/create") for kind in ("services", "secrets", "configs")),
    *(("POST", f"/{kind}/{{id}}/update") for kind in ("nodes", "services", "secrets", "configs")),
)

PLUGIN_VERBS = ("enable", "disable", "push", "set", "upgrade")


def routes(must_exist: Callable[[str], object]) -> list[Route]:
    """Put these last: a route of a module that does the operation comes first. `must_exist` raises NotFound."""

    def refused(name: str) -> Handler:
        async def answer(call: Call) -> Answer:
            if "container" in call.path:
                must_exist(call.path["container"])
            raise NotSupported(f"{name} is not supported by this version of Wherry")

        return answer

    async def no_manager(call: Call) -> Answer:
        raise Unavailable(NO_MANAGER)

    async def not_part(call: Call) -> Answer:
        raise Unavailable("This node is not part of a swarm")

    async def no_plugins(call: Call) -> Answer:
        return call.json([])

    async def no_plugin(call: Call) -> Answer:
        raise NotFound(f'plugin "{call.path["plugin"]}" not found')

    return [
        *(Route(method, path, refused(name)) for method, path, name in OPERATIONS),
        *(Route(method, path, no_manager) for method, path in SWARM),
        Route("POST", "/swarm/leave", not_part),
        Route("POST", "/swarm/init", refused("swarm")),
        Route("POST", "/swarm/join", refused("swarm")),
        Route("GET", "/plugins", no_plugins),
        Route("GET", "/plugins/privileges", refused("installing plugins")),
        Route("POST", "/plugins/pull", refused("installing plugins")),
        Route("POST", "/plugins/create", refused("creating plugins")),
        Route("GET", "/plugins/{plugin:.*}/json", no_plugin),
        Route("DELETE", "/plugins/{plugin:.*}", no_plugin),
        *(Route("POST", f"/plugins/{{plugin:.*}}/{verb}", no_plugin) for verb in PLUGIN_VERBS),
    ]
