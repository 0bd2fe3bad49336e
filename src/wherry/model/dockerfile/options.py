"""What a build is asked for beside the Dockerfile, and what planning asks of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

from msgspec import Struct, field

from wherry.model.build_graph import LocalSource, Ulimit, Vertex
from wherry.model.platforms import Platform

MAIN_CONTEXT = "context"
"""The name of the local source that is the build context."""


class ImageContext(Struct, frozen=True):
    """A named context that is an image."""

    reference: str


class LocalContext(Struct, frozen=True):
    """A directory of the client's: the name it offers it under, and the patterns of its ignore file."""

    name: str
    exclude: tuple[str, ...] = ()


class VertexContext(Struct, frozen=True):
    """A tree that some vertex makes, such as one from Git or the web; `path` is what of it."""

    vertex: Vertex


Context: TypeAlias = ImageContext | LocalContext | VertexContext


class BaseImage(Struct, frozen=True):
    """What the engine knows of an image that a stage begins with.

    `reference` is what `ImageSource` shall name, with its digest if it has one; `document` is the image configuration
    (OCI image-spec config.md), with its history.
    """

    reference: str
    document: Mapping[str, Any]


class BaseImages(Protocol):
    """Where configurations of base images come from."""

    async def base_image(self, reference: str, platform: Platform) -> BaseImage:
        """`reference` is canonical, with a tag or digest. Raises NotFound and what a registry says."""


class PlanOptions(Struct, frozen=True):
    """All options are as on the command line of `build`, read and checked.

    `no_cache_stages` None: the cache serves all; empty: none; else those stages are built anew. `epoch` in seconds is
    SOURCE_DATE_EPOCH. `main` is the build context. `name_platforms`: steps are named with their platforms.
    `allow` holds entitlements: "network.host".
    """

    host: Platform
    target: str = ""
    platform: Platform | None = None
    name_platforms: bool = False
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    no_cache_stages: frozenset[str] | None = None
    pull: bool = False
    network: str = ""
    extra_hosts: tuple[str, ...] = ()
    shm_size: int = 0
    ulimits: tuple[Ulimit, ...] = ()
    hostname: str = ""
    main: LocalContext | VertexContext = LocalContext(MAIN_CONTEXT)
    contexts: Mapping[str, Context] = field(default_factory=dict)
    epoch: int | None = None
    allow: frozenset[str] = frozenset()


def source_of(context: LocalContext | VertexContext, include: tuple[str, ...] = ()) -> Vertex:
    """The vertex of a context; of a local one only what is needed comes."""
    if isinstance(context, VertexContext):
        return context.vertex
    name = "[internal] load build context" if context.name == MAIN_CONTEXT else f"[context {context.name}] load"
    return Vertex(LocalSource(context.name, include=include, exclude=context.exclude), name=name)
