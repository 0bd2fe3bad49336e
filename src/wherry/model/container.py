"""A container's record: what was asked, what it was resolved to, and what became of it."""

from __future__ import annotations

from msgspec import Struct, field

from wherry.model.config import Config, EndpointConfig, HostConfig
from wherry.model.health import Health
from wherry.model.idmaps import IdMap
from wherry.model.links import Link
from wherry.model.states import Status


class ProcessIdentity(Struct, frozen=True):
    """A process proven to be the same one later: a PID alone is reused, with start time and boot it is not.

    `start_time` is field 22 of /proc/PID/stat (clock ticks after boot, proc(5)).
    """

    pid: int
    start_time: int
    boot_id: str


class State(Struct, kw_only=True):
    """What became of it. Times are nanoseconds since the epoch, 0 for never."""

    status: Status = Status.CREATED
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: int = 0
    finished_at: int = 0
    process: ProcessIdentity | None = None  # the container's first process
    monitor: ProcessIdentity | None = None  # its conmon
    restart_count: int = 0
    stopped_by_user: bool = False  # a stop or kill asked for: restart policies leave it alone
    run: int = 0  # counts starts
    health: Health | None = None  # of one with a health check, since its first start

    @property
    def shown(self) -> Status:
        """The status that clients see: one that is starting is still what it was, one that never ran is created."""
        if self.status is Status.EXITED and not self.started_at:
            return Status.CREATED
        if self.status is not Status.STARTING:
            return self.status
        if self.restart_count:
            return Status.RESTARTING
        return Status.EXITED if self.finished_at else Status.CREATED


class MountPoint(Struct, kw_only=True):
    """A mount resolved at create (Docker's `Mounts` in inspect)."""

    type: str  # bind, volume, tmpfs, image
    name: str = ""  # of the volume
    source: str  # host path; the volume's data directory for volumes
    destination: str
    driver: str = ""
    mode: str = ""  # as written: "ro", "z", "rw,rslave"
    read_write: bool = True
    propagation: str = ""
    no_copy: bool = False
    subpath: str = ""
    anonymous: bool = False  # a volume made for this container: rm -v and --rm remove it
    from_mounts: bool = False  # written as --mount
    tmpfs_options: str = ""  # mount data, for tmpfs
    non_recursive: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False
    create_source: bool = False  # `-v /host:/c` makes a missing host path
    image: str = ""  # of an image mount: sha256:... of its configuration
    chain_id: str = ""  # and of its top layer


class Endpoint(Struct, kw_only=True):
    """A place in one network, as allocated. Empty strings where not (yet) connected."""

    network_id: str
    network: str  # name
    requested: EndpointConfig = field(default_factory=EndpointConfig)
    endpoint_id: str = ""
    interface: str = ""  # name of the veth's host side
    inner: str = ""  # name of the container's side: eth0
    index: int = 0  # of the container's side
    named: bool = False  # it has been connected once: clients see its names
    gateway: str = ""
    address: str = ""
    prefix_length: int = 0
    mac_address: str = ""


class PublishedPort(Struct, frozen=True, kw_only=True):
    """One opened host port."""

    protocol: str  # tcp or udp
    container_port: int
    host_ip: str
    host_port: int


class Sandbox(Struct, kw_only=True):
    """The network namespace and what is in it. Its `id` names things on the host; a container uses one.

    `netns` is a path that opens the namespace while the container runs (`/proc/PID/ns/net`), "" when it does not.
    """

    id: str
    mode: str  # bridge, none, host, container:ID; "" for no network at all (NetworkDisabled)
    netns: str = ""
    endpoints: dict[str, Endpoint] = field(default_factory=dict)  # by network name
    ports: list[PublishedPort] = field(default_factory=list)
    interfaces: int = 0  # made in this run: no name is used twice


class Container(Struct, kw_only=True):
    """The record the database keeps. `config` has the image's defaults merged in, as in Docker's inspect."""

    id: str
    name: str  # without the slash
    created_at: int  # ns
    image: str  # sha256:... of the image's configuration
    image_ref: str  # as written: Config.Image
    chain_id: str  # of the image's top layer, "" for an empty image
    platform: str = "linux"
    path: str = ""  # argv[0] after merging entrypoint and command
    args: list[str] = field(default_factory=list)
    config: Config
    host: HostConfig
    state: State = field(default_factory=State)
    sandbox: Sandbox
    mounts: list[MountPoint] = field(default_factory=list)
    links: dict[str, Link] = field(default_factory=dict)  # by alias: containers that this one learns of (--link)
    ids: IdMap | None = None  # the host's users that its own are, where it has a user namespace
    unsettled: bool = False  # an update is recorded, and perhaps not yet the kernel's
    remove_volumes: bool = False  # of one in REMOVING: its anonymous volumes go with it

    @property
    def images(self) -> set[str]:
        """IDs of the images that it needs: its own and those it mounts."""
        return {self.image, *(mount.image for mount in self.mounts if mount.image)}

    @property
    def snapshots(self) -> dict[str, str]:
        """What keeps its layers: keys of snapshots and the chains under them, its own first.

        An image that is mounted has one too, which nobody writes to.
        """
        mounted = {
            f"{self.id}.{number}": mount.chain_id for number, mount in enumerate(self.mounts) if mount.type == "image"
        }
        return {self.id: self.chain_id, **mounted}
