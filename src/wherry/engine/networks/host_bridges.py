"""Which bridges on this host are whose: names held by engines that run, and what engines that do not run left.

Blocking: one thread does all of it.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Collection, Iterable
from ipaddress import IPv4Network

from wherry.engine.networks.bridge import FORWARD, Bridge, Kernel
from wherry.errors import SystemFailure
from wherry.linux import sysctl
from wherry.model.firewall import Segment

BRIDGES = tuple(f"wherry{number}" for number in range(16))
MTU = 1500
_NOWHERE = IPv4Network("0.0.0.0/32")
_PATIENCE = 1.0  # seconds: another engine that starts holds each name for an instant, to see what was left behind


def table_of(default: str, bridge: str) -> str:
    """The firewall table of a bridge of the engine whose default bridge this is: it tells whose the bridge is."""
    return bridge if bridge == default else f"{default}_{bridge}"


def claim(kernel: Kernel, wanted: str, recorded: str) -> tuple[str, socket.socket]:
    """The default bridge's name, held against other engines on this host until the socket is closed.

    A name that another engine left behind is free if nothing is in its bridge; it then finds another one itself.
    Raises SystemFailure.
    """
    names = [wanted] if wanted else list(dict.fromkeys((recorded or BRIDGES[0], *BRIDGES)))
    for name in names:
        if (lock := _lock(name, _PATIENCE if name in (recorded, wanted) else 0.0)) is None:
            continue
        if name in (recorded, wanted) or (kernel.is_free(name) and not _others(kernel, name)):
            return name, lock
        lock.close()
    raise SystemFailure(f"all bridges that this engine may have are in use by others: {' '.join(names)}")


def _lock(bridge: str, patience: float = 0.0) -> socket.socket | None:
    """Hold a bridge's name against other engines on this host; None if another one has it after `patience` seconds.

    An abstract socket: it belongs to the network namespace, as the bridge does, and goes with the process (unix(7)).
    """
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        lock.bind(f"\0wherry/bridge/{bridge}")
    except OSError as error:
        lock.close()
        if error.errno != errno.EADDRINUSE:
            raise
        if patience <= 0:
            return None
        time.sleep(0.02)
        return _lock(bridge, patience - 0.02)
    return lock


def remove_leftovers(kernel: Kernel, own: str) -> None:
    """Bridges of engines that do not run and left no container in them: their routes would be in the way.

    Such an engine makes its bridges again when it starts.
    """
    for name in set(kernel.bridges()).intersection(BRIDGES) - {own}:
        lock = _lock(name)
        if lock:
            with lock:
                if all(kernel.is_free(bridge) for bridge in (name, *_others(kernel, name))):
                    remove_all(kernel, name, besides=[own])


def remove_all(kernel: Kernel, default: str, besides: Collection[str] = ()) -> None:
    """Take all bridges of one engine, their tables and accepts off the host, whatever of it is there.

    Forwarding goes off if it was on because of the engine and nobody seems to need it: `besides` are bridges that do
    not count as somebody. Raises OSError, NftablesError.
    """
    whole = Bridge(kernel, Segment(default, default, _NOWHERE))
    others = _others(kernel, default)
    if whole.guards() and not set(kernel.bridges()).difference(besides, others, [default]):
        sysctl.ensure(FORWARD, "0")
    for name in others:
        Bridge(kernel, Segment(table_of(default, name), name, _NOWHERE)).remove()
    whole.remove()


def clean_host(bridges: Iterable[str] = BRIDGES) -> list[str]:
    """Take what engines that do not run left on the host: bridges, firewall tables, accepts in other firewalls.

    For uninstalling, after the containers have been stopped; `bridges` are default ones, and the engine's others go
    with each. Forwarding goes off again if it was on because of an engine and no other bridge is there. Blocking; gives
    the names of what it removed; raises OSError, NftablesError.
    """
    removed = []
    kernel = Kernel()
    try:
        for name in bridges:
            lock = _lock(name)
            if lock:
                with lock:
                    if name in kernel.bridges():
                        removed.append(name)
                    remove_all(kernel, name)
    finally:
        kernel.close()
    return removed


def _others(kernel: Kernel, default: str) -> list[str]:
    """The bridges of the engine's other networks, by their tables."""
    prefix = f"{default}_"
    return [table.removeprefix(prefix) for table in kernel.tables() if table.startswith(prefix)]


def describe(bridge: str) -> dict[str, str]:
    """Options of the default network, as the real engine describes its own; keys in its order."""
    prefix = "com.docker.network.bridge"
    return {
        f"{prefix}.default_bridge": "true",
        f"{prefix}.enable_icc": "true",
        f"{prefix}.enable_ip_masquerade": "true",
        f"{prefix}.host_binding_ipv4": "0.0.0.0",
        f"{prefix}.name": bridge,
        "com.docker.network.driver.mtu": str(MTU),
    }
