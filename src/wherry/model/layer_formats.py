"""How layers are compressed on their way out of the engine, as the options of outputs and caches say it."""

from __future__ import annotations

from msgspec import Struct

from wherry.errors import InvalidParameter, NotSupported

LEVELS = {"gzip": range(10), "zstd": range(1, 23)}
"""What `compression-level` may be (zlib.h, deflateInit2; zstd(1))."""


class LayerFormat(Struct, frozen=True):
    """`kind` is "gzip", "zstd" or "" (not compressed); `level` None is the engine's own choice, a fast one.

    `forced`: layers that came compressed are compressed again, if they are of another kind.
    """

    kind: str = "gzip"
    level: int | None = None
    forced: bool = False

    @property
    def usual(self) -> bool:
        """What comes of it is what any push makes."""
        return self.kind == "gzip" and self.level is None


USUAL = LayerFormat()


def layer_format(compression: str, level: int | None, *, forced: bool) -> LayerFormat:
    """From the options `compression`, `compression-level`, `force-compression`. Raises InvalidParameter."""
    if compression == "estargz":
        raise NotSupported("compression=estargz is not supported: gzip, zstd or uncompressed")
    if compression not in ("gzip", "zstd", "uncompressed"):
        raise InvalidParameter(f"unsupported layer compression type {compression}: gzip, zstd or uncompressed")
    if level is not None:
        within = LEVELS.get(compression)
        if within is None:
            raise InvalidParameter("compression-level needs compression=gzip or zstd")
        if level not in within:
            raise InvalidParameter(
                f"compression-level={level}: {compression} has levels {within.start} to {within.stop - 1}"
            )
    return LayerFormat("" if compression == "uncompressed" else compression, level, forced)
