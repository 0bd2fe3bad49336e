"""The volume routes: decode, one call of the service, encode in Docker's shapes."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from wherry.api.app import Call, Route
from wherry.api.server import Answer
from wherry.engine.volumes import Volume, Volumes
from wherry.errors import Unavailable
from wherry.model.filters import Filters
from wherry.model.timestamps import SECOND, rfc3339_nano


class CreateOptions(Struct, rename="pascal", kw_only=True):
    """The body of POST /volumes/create."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    cluster_volume_spec: dict[str, Any] | None = None


def routes(volumes: Volumes) -> list[Route]:
    """The routes of this file."""

    async def list_volumes(call: Call) -> Answer:
        found = volumes.select(Filters.decode(call.query.text("filters")))
        return call.json({"Volumes": [shown(volume) for volume in found], "Warnings": None})

    async def create(call: Call) -> Answer:
        options = await call.body(CreateOptions, optional=True)
        if options.cluster_volume_spec is not None:
            raise Unavailable(
                'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node'
                " to swarm and try again."
            )
        volume = await volumes.create(
            options.name, driver=options.driver, options=options.driver_opts, labels=options.labels
        )
        return call.json(shown(volume), 201)

    async def inspect(call: Call) -> Answer:
        return call.json(shown(volumes.get(call.path["name"])))

    async def remove(call: Call) -> Answer:
        await volumes.remove(call.path["name"], force=call.query.boolean("force"))
        return call.empty()

    async def prune(call: Call) -> Answer:
        filters = Filters.decode(call.query.text("filters"))
        if call.version < (1, 42) and "all" not in filters:  # named ones went too, before
            filters = Filters({**filters.fields, "all": ("true",)})
        pruned = await volumes.prune(filters)
        return call.json({"VolumesDeleted": pruned.names, "SpaceReclaimed": pruned.reclaimed})

    return [
        Route("GET", "/volumes", list_volumes),
        Route("POST", "/volumes/create", create),
        Route("POST", "/volumes/prune", prune),
        Route("GET", "/volumes/{name:.*}", inspect),
        Route("DELETE", "/volumes/{name:.*}", remove),
    ]


def shown(volume: Volume) -> dict[str, Any]:
    """A volume as the API shows it, without its usage."""
    return {
        "CreatedAt": rfc3339_nano(volume.created_at // SECOND * SECOND),
        "Driver": volume.driver,
        "Labels": volume.labels,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": volume.options,
        "Scope": "local",
    }
