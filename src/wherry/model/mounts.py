"""What a container mounts: `-v`, `--mount`, `--tmpfs`, volumes of the image and of other containers, as one list.

Docker's grammar, precedence and words. Nothing is created here: a volume in the list has its name, or none where one is
to be made for this container, and the engine fills in where it lies.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from wherry.errors import InvalidParameter, NotSupported, SystemFailure
from wherry.model.config import HostConfig, Mount, TmpfsOptions, VolumeOptions
from wherry.model.container import MountPoint

RW_MODES = frozenset({"rw", "ro"})
LABEL_MODES = frozenset({"z", "Z"})
PROPAGATION_MODES = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
COPY_MODES = frozenset({"nocopy"})
CONSISTENCY_MODES = frozenset({"consistent", "cached", "delegated"})
_MODE_KINDS = (RW_MODES, LABEL_MODES, PROPAGATION_MODES, COPY_MODES, CONSISTENCY_MODES)

DEFAULT_PROPAGATION = "rprivate"
DEFAULT_VOLUME_MODE = "z"  # what inspect shows for a named volume that was given no mode


@dataclass(frozen=True)
class Mode:
    """The last part of a bind, taken apart: "ro,rslave"."""

    read_only: bool = False
    label: str = ""  # z or Z
    propagation: str = ""
    no_copy: bool = False


def parse_mode(text: str) -> Mode | None:
    """None where Docker calls the mode invalid: an unknown word, or two words of a kind."""
    words = text.split(",") if text else []
    by_kind = [[word for word in words if word in kind] for kind in _MODE_KINDS]
    if any(len(found) > 1 for found in by_kind) or sum(map(len, by_kind)) != len(words):
        return None
    rw, label, propagation, copy, _ = ("".join(found) for found in by_kind)
    return Mode(rw == "ro", label, propagation, bool(copy))


def clean(path: str) -> str:
    """The path without "." and "..", doubled and trailing slashes, as Go's path.Clean."""
    cleaned = posixpath.normpath(path)
    return cleaned.replace("//", "/", 1) if cleaned.startswith("//") else cleaned


def check_destination(path: str) -> None:
    """Raises InvalidParameter for "/" and for a path that is not absolute."""
    slashed = path.replace("\\", "/")
    if slashed and clean(slashed) == "/":
        raise InvalidParameter("invalid specification: destination can't be '/'")
    _check_absolute(path)


def _check_absolute(path: str) -> None:
    if not path.replace("\\", "/").startswith("/"):
        raise InvalidParameter(f"invalid mount path: '{path}' mount path must be absolute")


def _field_missing(name: str) -> InvalidParameter:
    return InvalidParameter(f"field {name} must not be empty")


def _field_extra(name: str) -> InvalidParameter:
    return InvalidParameter(f"field {name} must not be specified")


def _check_bind(mount: Mount, exists: Callable[[str], bool] | None) -> None:
    if not mount.source:
        raise _field_missing("Source")
    options = mount.bind_options
    if options and options.propagation and options.propagation not in PROPAGATION_MODES:
        raise InvalidParameter(f"invalid propagation mode: {options.propagation}")
    if mount.volume_options is not None:
        raise _field_extra("VolumeOptions")
    _check_absolute(mount.source)
    if exists and not (options and options.create_mountpoint) and not exists(mount.source):
        raise InvalidParameter(f"bind source path does not exist: {mount.source}")


def _is_local(path: str) -> bool:
    return not path.startswith("/") and not clean(path).startswith("..")


def _check_volume(mount: Mount, _exists: Callable[[str], bool] | None) -> None:
    if mount.bind_options is not None:
        raise _field_extra("BindOptions")
    subpath = mount.volume_options.subpath if mount.volume_options else ""
    if subpath and not mount.source:
        raise InvalidParameter("must not set Subpath when using anonymous volumes")
    if subpath and not _is_local(subpath):
        raise InvalidParameter("subpath must be a relative path within the volume")
    if mount.read_only and not mount.source:
        raise InvalidParameter("must not set ReadOnly mode when using anonymous volumes")


def _check_tmpfs(mount: Mount, _exists: Callable[[str], bool] | None) -> None:
    if mount.bind_options is not None:
        raise _field_extra("BindOptions")
    if mount.source:
        raise _field_extra("Source")
    for option in (mount.tmpfs_options.options if mount.tmpfs_options else None) or ():
        if not 1 <= len(option) <= 2 or "" in option:
            raise InvalidParameter(f"invalid option: {option}; must be a word, or a name and its value")
    if mount.volume_options is not None:
        raise _field_extra("VolumeOptions")


def _check_image(mount: Mount, _exists: Callable[[str], bool] | None) -> None:
    if not mount.source:
        raise _field_missing("Source")
    if mount.bind_options is not None:
        raise _field_extra("BindOptions")
    if mount.volume_options is not None:
        raise _field_extra("VolumeOptions")
    if mount.image_options and mount.image_options.subpath and not _is_local(mount.image_options.subpath):
        raise InvalidParameter("subpath must be a relative path within the image")


_CHECKS: dict[str, Callable[[Mount, Callable[[str], bool] | None], None]] = {
    "bind": _check_bind,
    "volume": _check_volume,
    "tmpfs": _check_tmpfs,
    "image": _check_image,
}


def check_mount(mount: Mount, exists: Callable[[str], bool] | None) -> None:
    """Raises InvalidParameter for a mount that Docker refuses. `exists` asks about a host path; None: not asked."""
    try:
        if not mount.target:
            raise _field_missing("Target")
        check_destination(mount.target)
        check = _CHECKS.get(mount.type)
        if check is None:
            raise InvalidParameter("mount type unknown")
        check(mount, exists)
    except InvalidParameter as error:
        raise InvalidParameter(f'invalid mount config for type "{mount.type}": {error}') from None


def check_options_fit(mount: Mount) -> None:
    """Raises InvalidParameter for options of another type than the mount's."""
    for kind, name, options in (
        ("bind", "BindOptions", mount.bind_options),
        ("volume", "VolumeOptions", mount.volume_options),
        ("tmpfs", "TmpfsOptions", mount.tmpfs_options),
        ("image", "ImageOptions", mount.image_options),
    ):
        if options is not None and mount.type != kind:
            raise InvalidParameter(f'{name} must not be specified on mount type "{mount.type}"')


def tmpfs_data(options: TmpfsOptions | None, read_only: bool) -> str:
    """The mount data of a tmpfs written as --mount: "ro,mode=700,size=1m"."""
    parts = ["ro"] if read_only else []
    if options and options.mode:
        parts.append(f"mode={options.mode:o}")
    if options and options.size_bytes:
        parts.append(f"size={_shortest_size(options.size_bytes)}")
    parts += ["=".join(option) for option in (options.options if options else None) or ()]
    return ",".join(parts)


def _shortest_size(size: int) -> str:
    for unit, factor in (("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)):
        if size > 0 and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def _split_bind(raw: str) -> tuple[str, str, str]:
    """Source, target and mode of "SRC:DST[:MODE]" or "DST". Raises SystemFailure, as Docker does here."""
    parts = raw.split(":")
    target_is_mode = len(parts) == 2 and parse_mode(parts[1]) is not None
    if not parts[0] or len(parts) > 3 or target_is_mode:
        raise SystemFailure(f"invalid volume specification: '{raw}'")
    if len(parts) == 1:
        return "", parts[0], ""
    return parts[0], parts[1], parts[2] if len(parts) == 3 else ""


def parse_bind(raw: str, volume_driver: str = "") -> MountPoint:
    """A mount of `-v`. Raises SystemFailure: Docker answers 500 to a malformed one."""
    source, target, mode_text = _split_bind(raw)
    mode = parse_mode(mode_text)
    if mode is None:
        raise SystemFailure(f"invalid mode: {mode_text}")
    kind = "bind" if source.startswith("/") else "volume"
    try:
        _check_bind_parts(kind, source, target, mode)
    except InvalidParameter as error:
        raise SystemFailure(
            f"invalid volume specification: '{raw}': invalid mount config for type \"{kind}\": {error}"
        ) from None
    if kind == "bind":
        return MountPoint(
            type="bind",
            source=clean(source),
            destination=clean(target),
            mode=mode_text,
            read_write=not mode.read_only,
            propagation=mode.propagation or DEFAULT_PROPAGATION,
            create_source=True,
        )
    return MountPoint(
        type="volume",
        name=source,
        source="",
        destination=clean(target),
        driver=volume_driver or "local",
        mode=mode_text or DEFAULT_VOLUME_MODE,
        read_write=not mode.read_only,
        no_copy=mode.no_copy,
        anonymous=not source,
    )


def _check_bind_parts(kind: str, source: str, target: str, mode: Mode) -> None:
    if not target:
        raise _field_missing("Target")
    check_destination(target)
    if kind == "bind" and mode.no_copy:
        raise _field_extra("VolumeOptions")
    if kind == "volume" and mode.propagation:
        raise _field_extra("BindOptions")
    if kind == "volume" and mode.read_only and not source:
        raise InvalidParameter("must not set ReadOnly mode when using anonymous volumes")


def from_mount(mount: Mount) -> MountPoint:
    """A checked mount of `--mount` as a mount point."""
    destination = clean(mount.target)
    if mount.type == "bind":
        bind = mount.bind_options
        return MountPoint(
            type="bind",
            source=clean(mount.source),
            destination=destination,
            read_write=not mount.read_only,
            propagation=(bind.propagation if bind else "") or DEFAULT_PROPAGATION,
            from_mounts=True,
            non_recursive=bool(bind and bind.non_recursive),
            read_only_non_recursive=bool(bind and bind.read_only_non_recursive),
            read_only_force_recursive=bool(bind and bind.read_only_force_recursive),
            create_source=bool(bind and bind.create_mountpoint),
        )
    if mount.type == "tmpfs":
        return MountPoint(
            type="tmpfs",
            source="",
            destination=destination,
            read_write=not mount.read_only,
            from_mounts=True,
            tmpfs_options=tmpfs_data(mount.tmpfs_options, mount.read_only),
        )
    if mount.type == "image":
        return MountPoint(
            type="image",
            source=mount.source,
            destination=destination,
            read_write=False,
            from_mounts=True,
            subpath=mount.image_options.subpath if mount.image_options else "",
            read_only_non_recursive=True,  # nothing is mounted in it
        )
    volume = mount.volume_options
    driver = volume.driver_config.name if volume and volume.driver_config else ""
    return MountPoint(
        type="volume",
        name=mount.source,
        source="",
        destination=destination,
        driver=driver or "local",
        mode=DEFAULT_VOLUME_MODE,
        read_write=not mount.read_only,
        no_copy=bool(volume and volume.no_copy),
        subpath=volume.subpath if volume else "",
        anonymous=not mount.source,
        from_mounts=True,
    )


def parse_volumes_from(spec: str) -> tuple[str, bool]:
    """The container's name and whether its mounts stay writable: "NAME[:ro|rw]"."""
    if not spec:
        raise InvalidParameter("volumes-from specification cannot be an empty string")
    name, separator, mode_text = spec.partition(":")
    mode = parse_mode(mode_text) if separator else Mode()
    if mode is None or mode.propagation or mode.no_copy:
        raise InvalidParameter(f"invalid mode: {mode_text}")
    return name, not mode.read_only


def _borrowed(point: MountPoint, writable: bool) -> MountPoint:
    return MountPoint(
        type=point.type,
        name=point.name,
        source=point.source,
        destination=point.destination,
        driver=point.driver,
        read_write=point.read_write and writable,
        propagation=point.propagation,
        no_copy=True,
        subpath=point.subpath,
        tmpfs_options=point.tmpfs_options,
        non_recursive=point.non_recursive,
        read_only_non_recursive=point.type == "image",
        image=point.image,
        chain_id=point.chain_id,
    )


def _slave_around(point: MountPoint, asked: str, data_root: str) -> MountPoint:
    """A bind that touches the engine's own folder must see its mounts go, else it holds them for ever.

    Raises InvalidParameter where another propagation than rslave or rshared was asked for.
    """
    source = point.source.rstrip("/") + "/"
    root = data_root.rstrip("/") + "/"
    if point.type != "bind" or not (root.startswith(source) or source.startswith(root)):
        return point
    if asked not in ("", "rslave", "rshared"):
        raise InvalidParameter(
            'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within '
            f'the daemon root, daemon root: "{data_root}", bind mount source: "{point.source}", propagation: "{asked}"'
        )
    point.propagation = asked or "rslave"
    return point


def _nobody(name: str) -> list[MountPoint]:
    raise NotSupported(f"volumes of another container (--volumes-from {name}) are not supported here")


def resolve(
    image_volumes: Iterable[str],
    host: HostConfig,
    *,
    data_root: str,
    mounts_of: Callable[[str], list[MountPoint]] = _nobody,
) -> list[MountPoint]:
    """Every mount point of a container, in Docker's precedence: a later source replaces an earlier at the same place.

    `image_volumes` are the paths of `Config.Volumes`, merged with the image's. `mounts_of` looks up another container's
    mounts by name for `--volumes-from`; for an unknown one it raises InvalidParameter, "No such container: X".
    `data_root` is the engine's own. `HostConfig.Tmpfs` is not in the list, as it is not in inspect's;
    `wherry.runtime.spec` mounts it.

    Raises SystemFailure for a malformed bind, InvalidParameter for two mounts at one place.
    """
    points: dict[str, MountPoint] = {}
    for spec in host.volumes_from or ():
        name, writable = parse_volumes_from(spec)
        for point in mounts_of(name):
            points[point.destination] = _borrowed(point, writable)

    tmpfs = {clean(path) for path in host.tmpfs or ()}
    taken: set[str] = set()
    for raw in host.binds or ():
        point = parse_bind(raw, host.volume_driver)
        mode = parse_mode(point.mode)
        point = _slave_around(point, mode.propagation if mode else "", data_root)
        if point.destination in taken or point.destination in tmpfs:
            raise InvalidParameter(f"Duplicate mount point: {point.destination}")
        taken.add(point.destination)
        points[point.destination] = point
    for mount in host.mounts or ():
        check_mount(mount, None)
        point = from_mount(mount)
        point = _slave_around(point, mount.bind_options.propagation if mount.bind_options else "", data_root)
        if point.destination in taken:
            raise InvalidParameter(f"Duplicate mount point: {mount.target}")
        taken.add(point.destination)
        points[point.destination] = point

    for path in sorted(image_volumes):
        destination = clean(path if path.startswith("/") else f"/{path}")
        if destination not in points and destination not in tmpfs:
            points[destination] = MountPoint(
                type="volume", source="", destination=destination, driver="local", anonymous=True
            )
    return list(points.values())


_TMPFS_PAIRS = (
    ("ro", "rw"),
    ("nosuid", "suid"),
    ("nodev", "dev"),
    ("noexec", "exec"),
    ("sync", "async"),
    ("dirsync",),
    ("noatime", "atime"),
    ("nodiratime", "diratime"),
    ("norelatime", "relatime"),
    ("nostrictatime", "strictatime"),
    ("nomand", "mand"),
    ("defaults",),
    (*sorted(PROPAGATION_MODES), "unbindable", "runbindable"),
)
_TMPFS_WORDS: Mapping[str, int] = {word: kind for kind, words in enumerate(_TMPFS_PAIRS) for word in words}
_TMPFS_VALUES = frozenset({"mode", "uid", "gid", "size", "nr_blocks", "nr_inodes", "mpol"})


def merge_tmpfs_options(data: str) -> list[str]:
    """Mount options of a tmpfs (mount(8)): Docker's defaults overridden by `data`, the last of a kind winning.

    Raises SystemFailure, `invalid tmpfs option "x"`: Docker finds out when the container starts.
    """
    merged: dict[str | int, str] = {}
    for word in ["noexec", "nosuid", "nodev", DEFAULT_PROPAGATION, *(data.split(",") if data else ())]:
        key, separator, _ = word.partition("=")
        kind: str | int | None = key if key in _TMPFS_VALUES else None
        if not separator:
            kind = _TMPFS_WORDS.get(word)
        if kind is None:
            raise SystemFailure(f'invalid tmpfs option "{key}"')
        merged.pop(kind, None)
        merged[kind] = word
    return [word for word in merged.values() if word != "defaults"]


def volume_options(host: HostConfig, point: MountPoint) -> VolumeOptions | None:
    """What `--mount type=volume` said about making the volume of this mount point: labels, driver and its options."""
    for mount in host.mounts or ():
        if mount.type == "volume" and clean(mount.target) == point.destination:
            return mount.volume_options
    return None
