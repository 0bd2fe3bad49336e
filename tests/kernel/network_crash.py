"""One step in the life of an engine's networks, in a process of its own that a failpoint may kill.

Run as `python -m tests.kernel.network_crash ROOT`, in the namespace of the host to be: opens, recovers with nobody
alive, starts a container with a published port and stops it again. Says `done` if it came to the end.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.kernel.test_networks import World
from wherry.linux import netns
from wherry.model.config import PortBinding


async def live(world: World) -> None:
    networks = world.networks()
    await networks.open()
    await networks.recover([])
    web = await world.start(networks, "web", tcp80=PortBinding(host_port="8080"))
    world.stop("web")
    await networks.attachments.deactivate(web)
    await networks.close(remove=True)


def main() -> None:
    world = World(Path(sys.argv[1]), netns.current())
    asyncio.run(live(world))
    os.close(world.beyond)
    world.close()
    print("done")


if __name__ == "__main__":
    main()
