"""How the parts of the builds' service are put together."""

from __future__ import annotations

from collections.abc import Callable

from wherry.engine.builds.bases import Puller
from wherry.engine.builds.cache import Cache
from wherry.engine.builds.dressing import Dressing
from wherry.engine.builds.mounts import CacheMounts
from wherry.engine.builds.publishing import Pusher
from wherry.engine.builds.service import Builds
from wherry.engine.builds.shop import Shop
from wherry.engine.bundles import Bundles
from wherry.engine.containers.needs import NetworkPlane
from wherry.engine.containers.runtimes import Runtimes
from wherry.engine.images.service import Images
from wherry.engine.transfers.packing import Packing
from wherry.linux.seccomp import Profiles
from wherry.model.cache_rules import CacheRules
from wherry.model.container_defaults import ContainerDefaults
from wherry.model.host import Host
from wherry.storage.blobs import Blobs
from wherry.storage.content import Contents
from wherry.storage.database import Database
from wherry.storage.snapshots import Snapshots


def make_builds(
    host: Host,
    database: Database,
    cache: Cache,
    runtimes: Runtimes,
    images: Images,
    puller: Puller,
    packing: Packing,
    pusher: Pusher,
    snapshots: Snapshots,
    blobs: Blobs,
    networks: NetworkPlane,
    *,
    defaults: Callable[[], ContainerDefaults],
    cache_rules: CacheRules,
) -> Builds:
    """The service over the engine's others. `cache` has been announced to the keeper of files before it recovered."""
    root = host.roots.data / "builds"
    scratch = host.roots.run / "build-view"
    scratch.mkdir(mode=0o700, exist_ok=True)
    bundles = Bundles(
        host,
        Profiles(host.kernel),
        lambda container_id: None,
        host_gateway=networks.host_gateway,
        takes_bpf=lambda container: runtimes.of(container).takes_bpf,
        ulimits=lambda container: defaults().limits(container.host.ulimits),
    )
    shop = Shop(
        host=host,
        runtimes=runtimes,
        bundles=bundles,
        networks=networks,
        snapshots=snapshots,
        admission=images.admission,
        records=images.records,
        blobs=blobs,
        contents=Contents(root / "contents", snapshots.contents),
        cache_mounts=CacheMounts(root / "mounts", cache, database),
        scratch=scratch,
        defaults=defaults,
    )
    dressing = Dressing(images, blobs, packing)
    return Builds(shop, images, dressing, puller, pusher, database, cache, root, cache_rules)
