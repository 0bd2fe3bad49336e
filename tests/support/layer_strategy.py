"""Random layers, for comparing what different programs make of them."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterable

from hypothesis import strategies as st

from tests.support.images import Entry

NAME = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=9
)
_FILE_NAME = st.one_of(NAME, st.sampled_from(["n" * 101, "long-" * 40, "käse", "a b", "-x"])).filter(
    lambda name: name not in (".", "..") and not name.startswith(".wh.") and len(name.encode()) < 250
)
_IDS = st.sampled_from([0, 1000, 65_535, 65_536, 2_097_151, 2_097_152, 3_000_000_000, 4_294_967_294])
_MODES = st.sampled_from([0, 0o400, 0o644, 0o755, 0o4755, 0o2711, 0o1777, 0o7777])
_TIMES = st.sampled_from([0, 1, 1_700_000_000, 2_147_483_648, 8_589_934_592, -1, -1_000_000])
_CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0).decode("latin-1")
_CONTENT = st.one_of(st.binary(max_size=40), st.sampled_from([b"x" * 511, b"y" * 512, b"z" * 513, b"w" * 200_000]))


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    """Members in an order that any program understands: folders before what is in them, files before links to them."""
    folders, files, found = [""], [], []
    taken: set[str] = set()
    for _ in range(draw(st.integers(1, 12))):
        name = draw(st.sampled_from(folders)) + draw(_FILE_NAME)
        if name in taken:
            continue
        taken.add(name)
        kind = draw(st.sampled_from("ddfffflsbcp"))
        about = {"mode": draw(_MODES), "uid": draw(_IDS), "gid": draw(_IDS), "mtime": draw(_TIMES)}
        if kind == "d":
            found.append(Entry(name, kind=tarfile.DIRTYPE, **about))
            folders.append(f"{name}/")
        elif kind == "f":
            pax = draw(st.sampled_from([{}, {"SCHILY.xattr.security.capability": _CAPABILITY}]))
            found.append(Entry(name, draw(_CONTENT), pax=pax, **about))
            files.append(found[-1])
        elif kind == "l" and files:
            first = draw(st.sampled_from(files))
            same = {"mode": first.mode, "uid": first.uid, "gid": first.gid, "mtime": first.mtime}
            found.append(Entry(name, kind=tarfile.LNKTYPE, link=first.name, **same))
        elif kind == "s":
            found.append(Entry(name, kind=tarfile.SYMTYPE, link=draw(_FILE_NAME), **{**about, "mode": 0o777}))
        elif kind in "bc":
            type_ = tarfile.BLKTYPE if kind == "b" else tarfile.CHRTYPE
            device = draw(st.sampled_from([(1, 3), (8, 0), (259, 1000)]))
            found.append(Entry(name, kind=type_, device=device, **about))
        elif kind == "p":
            found.append(Entry(name, kind=tarfile.FIFOTYPE, **about))
    return found


def packed(members: Iterable[Entry], form: int) -> bytes:
    """A tar in PAX or GNU format; GNU's has no place for extended attributes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for entry in members:
            info = tarfile.TarInfo(entry.name)
            info.type, info.mode, info.uid, info.gid = entry.kind, entry.mode, entry.uid, entry.gid
            info.linkname, info.mtime, info.size = entry.link, entry.mtime, len(entry.data)
            info.devmajor, info.devminor = entry.device
            data = stream_of(info, entry) if form == tarfile.PAX_FORMAT and entry.pax else None
            if data is not None:
                archive.fileobj.write(data)  # type: ignore[union-attr]
                archive.offset += len(data)
            archive.addfile(info, io.BytesIO(entry.data))
    return stream.getvalue()


def stream_of(info: tarfile.TarInfo, entry: Entry) -> bytes | None:
    """PAX records whose values are bytes, which Python's tarfile would write as UTF-8."""
    records = b""
    for key, value in entry.pax.items():
        body = b" " + key.encode() + b"=" + value.encode("latin-1") + b"\n"
        length = len(body)
        while len(str(length)) + len(body) != length:
            length = len(str(length)) + len(body)
        records += str(length).encode() + body
    if len(entry.name.encode()) > 100 or max(entry.uid, entry.gid) > 0o7777777 or not 0 <= entry.mtime < 8**11:
        return None  # a second extended header would replace this one
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    return header.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)
