"""`-v`, `--mount`, `--tmpfs` and volumes: Docker's grammar and precedence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidParameter, SystemFailure
from wherry.model.config import BindOptions, HostConfig, Mount, TmpfsOptions, VolumeOptions
from wherry.model.container import MountPoint
from wherry.model.mounts import (
    COPY_MODES,
    LABEL_MODES,
    PROPAGATION_MODES,
    RW_MODES,
    check_mount,
    check_options_fit,
    merge_tmpfs_options,
    parse_bind,
    parse_mode,
    parse_volumes_from,
    resolve,
    tmpfs_data,
    volume_options,
)

ROOT = "/var/lib/wherry"

one_of = [st.sampled_from(["", *sorted(kind)]) for kind in (RW_MODES, LABEL_MODES, PROPAGATION_MODES, COPY_MODES)]


def points(host: HostConfig, image_volumes: tuple[str, ...] = (), **rest: object) -> dict[str, MountPoint]:
    return {p.destination: p for p in resolve(image_volumes, host, data_root=ROOT, **rest)}  # type: ignore[arg-type]


@given(st.tuples(*one_of), st.randoms())
def test_a_mode_takes_one_word_of_each_kind_in_any_order(words: tuple[str, ...], random: object) -> None:
    given_words = [word for word in words if word]
    random.shuffle(given_words)  # type: ignore[attr-defined]
    mode = parse_mode(",".join(given_words))
    assert mode is not None
    assert (mode.read_only, mode.label, mode.propagation, mode.no_copy) == (
        words[0] == "ro",
        words[1],
        words[2],
        words[3] == "nocopy",
    )


@pytest.mark.parametrize("text", ["x", "ro,rw", "z,Z", "rslave,rshared", "ro,", "RO", "ro,ro"])
def test_invalid_modes(text: str) -> None:
    assert parse_mode(text) is None


def test_a_bind() -> None:
    point = parse_bind("/a/../b:/m/:Z,ro")
    assert (point.type, point.source, point.destination, point.mode) == ("bind", "/b", "/m", "Z,ro")
    assert (point.read_write, point.propagation, point.create_source) == (False, "rprivate", True)


def test_volumes_by_name_and_without() -> None:
    named = parse_bind("vol:/m:nocopy")
    assert (named.type, named.name, named.mode, named.no_copy, named.anonymous) == (
        "volume",
        "vol",
        "nocopy",
        True,
        False,
    )
    bare = parse_bind("/m")
    assert (bare.type, bare.name, bare.mode, bare.anonymous) == ("volume", "", "z", True)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("", "invalid volume specification: ''"),
        (":/m", "invalid volume specification: ':/m'"),
        ("/a:", "invalid volume specification: '/a:'"),
        ("/a:ro", "invalid volume specification: '/a:ro'"),
        ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
        ("/a:/m:nonsense", "invalid mode: nonsense"),
        (
            "/a:rel",
            "invalid volume specification: '/a:rel': invalid mount config for type \"bind\": "
            "invalid mount path: 'rel' mount path must be absolute",
        ),
        (
            "/a:/..",
            "invalid volume specification: '/a:/..': invalid mount config for type \"bind\": "
            "invalid specification: destination can't be '/'",
        ),
        (
            "vol:/m:rslave",
            "invalid volume specification: 'vol:/m:rslave': invalid mount config for type \"volume\": "
            "field BindOptions must not be specified",
        ),
    ],
)
def test_bad_binds(raw: str, message: str) -> None:
    with pytest.raises(SystemFailure) as refused:
        parse_bind(raw)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (Mount("bind"), "field Target must not be empty"),
        (Mount("zip", target="/m"), "mount type unknown"),
        (Mount("bind", target="/m"), "field Source must not be empty"),
        (Mount("bind", "/nope", "/m"), "bind source path does not exist: /nope"),
        (Mount("bind", "/nope", "/"), "invalid specification: destination can't be '/'"),
        (Mount("bind", "/there", "/m", bind_options=BindOptions("x")), "invalid propagation mode: x"),
        (Mount("volume", "", "/m", read_only=True), "must not set ReadOnly mode when using anonymous volumes"),
        (
            Mount("volume", "v", "/m", volume_options=VolumeOptions(subpath="a/../../b")),
            "subpath must be a relative path within the volume",
        ),
        (Mount("tmpfs", "x", "/m"), "field Source must not be specified"),
    ],
)
def test_bad_mounts(mount: Mount, message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        check_mount(mount, lambda path: path == "/there")
    assert str(refused.value) == f'invalid mount config for type "{mount.type}": {message}'


def test_a_missing_source_that_is_to_be_made_is_no_mistake() -> None:
    mount = Mount("bind", "/nope", "/m", bind_options=BindOptions(create_mountpoint=True))
    check_mount(mount, lambda path: False)
    assert points(HostConfig(mounts=[mount]))["/m"].create_source


def test_options_of_another_type() -> None:
    with pytest.raises(InvalidParameter, match=r'^VolumeOptions must not be specified on mount type "bind"$'):
        check_options_fit(Mount("bind", "/a", "/m", volume_options=VolumeOptions()))


@pytest.mark.parametrize(
    "host",
    [
        HostConfig(binds=["/a:/m", "/b:/m/"]),
        HostConfig(binds=["/a:/m"], tmpfs={"/m": ""}),
        HostConfig(binds=["/a:/m"], mounts=[Mount("tmpfs", target="/m")]),
        HostConfig(mounts=[Mount("tmpfs", target="/m"), Mount("volume", target="/m")]),
    ],
)
def test_two_mounts_at_one_place(host: HostConfig) -> None:
    with pytest.raises(InvalidParameter, match=r"^Duplicate mount point: /m$"):
        points(host)


def test_what_is_asked_beats_the_images_volumes() -> None:
    host = HostConfig(binds=["/a:/m/"], tmpfs={"/t": ""})
    found = points(host, ("/m", "/t", "/v/../w"))
    assert {place: point.type for place, point in found.items()} == {"/m": "bind", "/w": "volume"}
    assert found["/w"].anonymous and found["/w"].mode == ""


def test_volumes_from_another_container_come_first_and_may_turn_read_only() -> None:
    other = [
        MountPoint(type="volume", name="v", source="/x/v", destination="/v", mode="z"),
        MountPoint(type="bind", source="/b", destination="/b"),
    ]
    host = HostConfig(volumes_from=["other:ro"], binds=["/mine:/b"])
    found = points(host, mounts_of=lambda name: other if name == "other" else [])
    assert (found["/v"].name, found["/v"].read_write, found["/v"].anonymous) == ("v", False, False)
    assert (found["/b"].source, found["/b"].read_write) == ("/mine", True)


@pytest.mark.parametrize(
    ("spec", "message"),
    [("", "volumes-from specification cannot be an empty string"), ("x:rslave", "invalid mode: rslave")],
)
def test_bad_volumes_from(spec: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^{message}$"):
        parse_volumes_from(spec)


@pytest.mark.parametrize("source", ["/", "/var", "/var/lib/wherry", "/var/lib/wherry/containers"])
def test_a_bind_around_the_engines_folder_follows_its_mounts(source: str) -> None:
    assert points(HostConfig(binds=[f"{source}:/m"]))["/m"].propagation == "rslave"
    with pytest.raises(InvalidParameter, match='must use either propagation mode "rslave" or "rshared"'):
        points(HostConfig(binds=[f"{source}:/m:rprivate"]))


@pytest.mark.parametrize("source", ["/varnish", "/var/lib/wherry2", "/home"])
def test_other_binds_are_private(source: str) -> None:
    assert points(HostConfig(binds=[f"{source}:/m"]))["/m"].propagation == "rprivate"


def test_options_of_tmpfs() -> None:
    assert tmpfs_data(TmpfsOptions(1 << 20, 0o700), True) == "ro,mode=700,size=1m"
    assert tmpfs_data(TmpfsOptions(1025), False) == "size=1025"
    assert merge_tmpfs_options("") == ["noexec", "nosuid", "nodev", "rprivate"]
    merged = merge_tmpfs_options("size=1m,mode=1770,noexec,exec,size=2m,private,defaults")
    assert merged == ["nosuid", "nodev", "mode=1770", "exec", "size=2m", "private"]


@pytest.mark.parametrize("option", ["nope", "huge=always", "noexec=1", "size", "bind", "remount"])
def test_bad_options_of_tmpfs(option: str) -> None:
    with pytest.raises(SystemFailure, match=f'^invalid tmpfs option "{option.partition("=")[0]}"$'):
        merge_tmpfs_options(option)


def test_how_a_volume_is_to_be_made() -> None:
    options = VolumeOptions(labels={"a": "b"})
    host = HostConfig(mounts=[Mount("volume", "v", "/m/", volume_options=options)])
    assert volume_options(host, points(host)["/m"]) is options


@given(st.text(alphabet="/:ab.ro,", max_size=12))
def test_any_bind_is_understood_or_refused(raw: str) -> None:
    try:
        point = parse_bind(raw)
    except SystemFailure:
        return
    assert point.destination.startswith("/") and point.destination != "/" and "//" not in point.destination
