"""The bridge networks as they are on this host: a segment for each, and the one thread that talks to the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Interface
from typing import TypeVar

import msgspec

from wherry.engine.networks.bridge import Kernel
from wherry.engine.networks.host_bridges import claim, describe, remove_all, remove_leftovers
from wherry.engine.networks.segments import Segment
from wherry.errors import Conflict, InvalidParameter, SystemFailure, Unavailable
from wherry.linux import netns
from wherry.linux.nftables import Changes, NftablesError
from wherry.model import ipam, network_requests
from wherry.model.firewall import Guard
from wherry.model.networks import Network

log = logging.getLogger(__name__)

T = TypeVar("T")
_SETTLE = 0.2  # seconds from a change of somebody's firewall to our look at it


class Fabric:
    """Lives on one event loop; what blocks happens in its thread, in the order in which it was asked for.

    await fabric.open(record_of_the_default_network)
    await fabric.reopen(record)                      # the other networks there are
    await fabric.secure(guard)                       # lays the firewall, and watches that it stays
    segment = await fabric.make(record)
    await fabric.close()                             # leaves all in place for those that run

    A host without nftables has no bridges: `kernel` raises Unavailable then, `warnings` says why.
    """

    def __init__(self) -> None:
        self.segments: dict[str, Segment] = {}  # by network; of those that the host could make
        self.home = -1  # the host's network namespace
        self.default = ""  # name of the engine's default bridge
        self._kernel: Kernel | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._lock: socket.socket | None = None
        self._guard: Guard | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changes: Changes | None = None
        self._look: asyncio.TimerHandle | None = None
        self._unavailable = ""
        self._overlap = ""
        self._failed: dict[str, str] = {}  # networks that the host could not make, and why

    @property
    def warnings(self) -> list[str]:
        degraded = [f"no bridge network: {self._unavailable}"] if self._unavailable else []
        overlap = [self._overlap] if self._overlap else []
        failed = [f"the network {name} is not available: {reason}" for name, reason in self._failed.items()]
        beside = dict.fromkeys(problem for segment in self.segments.values() for problem in segment.problems)
        return [*degraded, *overlap, *failed, *beside]

    # --- life ---

    async def open(self, record: Network, *, bip: IPv4Interface | None, bridge: str) -> Network | None:
        """Make or repair the default bridge; its record as it is now. None if this host can have none.

        `bip` is its address, `bridge` its name, where somebody asks for one. Raises InvalidParameter, SystemFailure.
        """
        self.home = netns.current()
        try:
            self._kernel = await self.run(Kernel)
            return await self.run(self._open_default, self._kernel, record, bip, bridge)
        except (OSError, NftablesError) as error:
            self._unavailable = str(error)
            log.warning("no bridge network: %s", self._unavailable)
            return None

    def _open_default(self, kernel: Kernel, record: Network, bip: IPv4Interface | None, bridge: str) -> Network:
        self.default, self._lock = claim(kernel, bridge, record.bridge)
        remove_leftovers(kernel, self.default)
        gateway = self._choose_gateway(kernel, record, bip)
        chosen = msgspec.structs.replace(record, bridge=self.default, subnet=str(gateway.network))
        chosen.gateway, chosen.options = str(gateway.ip), describe(self.default)
        segment = Segment(kernel, chosen, self.default)
        segment.bridge.set_up(gateway)
        self.segments[chosen.id] = segment
        return chosen

    def _choose_gateway(self, kernel: Kernel, record: Network, bip: IPv4Interface | None) -> IPv4Interface:
        in_use = kernel.networks_in_use(besides=[self.default])
        if bip:
            if found := kernel.bridged(bip.network, besides=[self.default]):
                other, network = found
                raise InvalidParameter(
                    f"--bip {bip}: the bridge {other} of this host has addresses of {network}, too: packets for "
                    f"one would go to the other. Give this engine another --bip, or end who made {other} and delete "
                    f"it: ip link delete {other}"
                )
            for network in in_use:
                if network.prefixlen and network.overlaps(bip.network):
                    self._overlap = f"the bridge's address {bip} (--bip) overlaps the host's route to {network}"
            return bip
        if record.gateway:
            kept = network_requests.gateway(record)
            clash = any(network.prefixlen and network.overlaps(kept.network) for network in in_use)
            if kernel.exists(self.default) or not clash:
                return kept
        return ipam.choose_gateway(in_use)

    async def reopen(self, record: Network) -> None:
        """A network that cannot be made on this host now is one that no container can use."""
        segment = self._segment(record)
        try:
            await self.run(segment.bridge.set_up, network_requests.gateway(record))
        except OSError as error:
            self._failed[record.name] = str(error)
            log.warning("the network %s is not available: %s", record.name, error)
            return
        self.segments[record.id] = segment

    async def secure(self, guard: Guard | None) -> None:
        """Lay the firewall of all segments anew, delete the interfaces of no owner; from now on mend what others break.

        `guard` is what else the default network's table must hold. Raises SystemFailure.
        """
        self._guard = guard
        try:
            for segment in self.segments.values():
                await self.lay(segment)
                owned = {place.interface for place in segment.places.values()}
                if orphans := await self.run(segment.bridge.sweep, owned):
                    log.info("deleted interfaces of no container: %s", " ".join(orphans))
        except (OSError, NftablesError) as error:
            raise SystemFailure(f"the bridge network could not be set up: {error}") from error
        self._changes = Changes()
        asyncio.get_running_loop().add_reader(self._changes.socket, self._firewall_changed, self._changes)

    @property
    def secured(self) -> bool:
        return self._changes is not None

    async def close(self, remove: bool = False) -> None:
        """Let go. With `remove`, also take bridges, firewall tables and accepts off the host (see `clean_host`)."""
        if self._changes:
            asyncio.get_running_loop().remove_reader(self._changes.socket)
            self._changes.close()
            self._changes = None
        if self._look:
            self._look.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._kernel:
            kernel, self._kernel = self._kernel, None
            if remove and self.segments:
                await self.run(remove_all, kernel, self.default)
            await self.run(kernel.close)
        self._worker.shutdown(wait=False)
        if self._lock:
            self._lock.close()
        if self.home >= 0:
            os.close(self.home)
            self.home = -1

    # --- networks ---

    def kernel(self) -> Kernel:
        """Raises Unavailable."""
        if self._kernel is None or not self.segments:
            raise Unavailable(f"no bridge network on this host: {self._unavailable or 'networking is not open'}")
        return self._kernel

    def segment(self, network: Network) -> Segment:
        """Raises Unavailable."""
        self.kernel()
        if network.id not in self.segments:
            reason = self._failed.get(network.name, "the host could not make it")
            raise Unavailable(f"the network {network.name} is not available: {reason}")
        return self.segments[network.id]

    async def check_free(self, bridge: str) -> None:
        """Raises Conflict, SystemFailure."""
        kernel = self.kernel()
        if bridge in await self.run(kernel.bridges):
            raise Conflict(f"the host has a bridge {bridge} that is none of this engine's: choose another name")
        if await self.run(kernel.exists, bridge):
            raise SystemFailure(f"existing interface {bridge} is not a bridge")

    async def make(self, network: Network) -> Segment:
        """Its bridge and its firewall, not yet among `segments`. Raises SystemFailure; `clear` takes what is left."""
        segment = self._segment(network)
        try:
            await self.run(segment.bridge.set_up, network_requests.gateway(network))
            await self.lay(segment)
        except (OSError, NftablesError) as error:
            raise SystemFailure(f"the network {network.name} could not be made: {error}") from error
        return segment

    async def unmake(self, network: Network) -> bool:
        """False if something stayed, for `clear` at the next start."""
        self._failed.pop(network.name, None)
        segment = self.segments.pop(network.id, None)
        if segment is None:  # not made by this start; where nothing could be, an earlier one's may be there
            return bool(self.segments)
        return await self._remove(segment)

    async def clear(self, network: Network) -> bool:
        """Of a network that was being made or removed, leave nothing. False if something stayed."""
        return await self._remove(self._segment(network))

    async def _remove(self, segment: Segment) -> bool:
        try:
            await self.run(segment.bridge.remove)
        except (OSError, NftablesError) as error:
            log.warning("could not remove all of the network %s: %s", segment.record.name, error)
            return False
        return True

    def _segment(self, network: Network) -> Segment:
        return Segment(self.kernel(), network, self.default)

    # --- firewall ---

    async def lay(self, segment: Segment) -> None:
        """A network's table as the records say, and its accepts beside others. Raises OSError, NftablesError."""
        segment.problems = await self.run(segment.bridge.lay, segment.published, self._guard_of(segment))

    def _guard_of(self, segment: Segment) -> Guard | None:
        return self._guard if segment.record.predefined else None

    async def lay_again(self, segment: Segment) -> None:
        """Somebody flushed the ruleset; of a network that was removed meanwhile, nothing must come back."""
        if self._is_there(segment):
            with contextlib.suppress(NftablesError, OSError):
                await self.lay(segment)

    def _is_there(self, segment: Segment) -> bool:
        """It was not removed. What is given to the thread right after this comes before a removal's work."""
        return self.segments.get(segment.record.id) is segment

    def _firewall_changed(self, changes: Changes) -> None:
        """Somebody's firewall, or our own: look, but not at each of a hundred rules."""
        if changes.seen() and self._look is None:
            self._look = asyncio.get_running_loop().call_later(_SETTLE, self._look_around)

    def _look_around(self) -> None:
        self._look = None
        self.later(0, self.repair)

    async def repair(self) -> None:
        """Another engine made its chains, or somebody reloaded a firewall and took our rules with it."""
        if self._kernel is None:
            return
        try:
            for segment in list(self.segments.values()):
                if self._is_there(segment):
                    mend = segment.bridge.repair
                    segment.problems = await self.run(mend, segment.published, self._guard_of(segment))
        except (OSError, NftablesError) as error:
            log.warning("could not repair the firewall: %s", error)

    # --- the thread ---

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)

    async def uninterrupted(self, work: Callable[[], T], undo: Callable[[T], None]) -> T:
        """Like `run`; if this task is cancelled, the work is awaited all the same and then undone."""
        future = asyncio.get_running_loop().run_in_executor(self._worker, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):  # what failed by itself left nothing
                result = await future
                await self.run(undo, result)
            raise

    def later(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        """In a task of its own, which `close` awaits."""

        async def wait() -> None:
            await asyncio.sleep(seconds)
            await work()

        task = asyncio.get_running_loop().create_task(wait())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
