"""What was built, as each output wants it: named in the store, pushed, an archive, or files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from wherry.engine.builds.attesting import Report, documents, statements
from wherry.engine.builds.dressing import Part, Style
from wherry.engine.builds.file_outputs import Folder
from wherry.engine.builds.service import Build, Builds
from wherry.engine.builds.shop import together
from wherry.engine.builds.trees import Tree
from wherry.errors import InvalidParameter
from wherry.model.annotations import Annotation
from wherry.model.attestations import PROVENANCE, Attested
from wherry.model.build_session import BuildOrder, Output
from wherry.model.image import Image
from wherry.model.layer_formats import layer_format
from wherry.model.manifests import Descriptor
from wherry.model.platforms import Platform
from wherry.model.reference import Reference


class Taking(Protocol):
    """Who takes outputs that leave the engine."""

    async def deliver(self, number: int, pieces: AsyncIterator[bytes]) -> None: ...


_TYPES = ("image", "docker", "oci", "tar")


def check(output: Output, *, several: bool, said: bool, epoch: int | None) -> None:
    """`several` platforms are built for; something is `said` of the image, beside it or in it; `epoch` is
    SOURCE_DATE_EPOCH. Raises InvalidParameter, NotSupported.
    """
    if output.type not in _TYPES:
        raise InvalidParameter(f"unknown type of output: {output.type}")
    if output.push and output.type != "image":
        raise InvalidParameter(f"an output of type {output.type} cannot be pushed")
    if output.push_by_digest and not output.push:
        raise InvalidParameter("push-by-digest is of an image that is pushed: push=true")
    if output.rewrite_timestamp and epoch is None:
        raise InvalidParameter("rewrite-timestamp needs the time: --build-arg SOURCE_DATE_EPOCH=SECONDS")
    if output.rewrite_timestamp is False and epoch is not None:
        raise InvalidParameter("rewrite-timestamp=false: no file is younger than SOURCE_DATE_EPOCH where it is given")
    if output.type == "tar":
        if output.packaged:
            raise InvalidParameter("compression and media types are of images: a tar or a directory of files has none")
        return
    if output.platform_split is not None or output.attestation_prefix:
        raise InvalidParameter("platform-split and attestation-prefix are of the outputs local and tar")
    if several and output.type == "docker":
        raise InvalidParameter("docker exporter does not currently support exporting manifest lists: use type=oci")
    layer_format(output.compression or "gzip", output.compression_level, forced=output.force_compression)
    if output.oci_mediatypes is False and (output.type == "oci" or said or output.compression == "zstd"):
        raise InvalidParameter(
            "oci-mediatypes=false: Docker's media types are for no OCI layout, zstd, annotation or attestation"
        )


@dataclass(frozen=True)
class Wanted:
    """The outputs of an order. `annotations` are those of each; `epoch` is SOURCE_DATE_EPOCH in seconds."""

    order: BuildOrder
    names: Sequence[Reference]
    annotations: Sequence[Sequence[Annotation]]
    inline_cache: bool
    epoch: int | None

    @property
    def outputs(self) -> list[Output]:
        return self.order.outputs or [Output()]

    def dressed(self, number: int, platforms: int) -> bool:
        """Whether the image of an output gets documents of its own."""
        output = self.outputs[number]
        return bool(platforms > 1 or self.annotations[number] or self.order.attestations or output.packaged)


@dataclass
class _Product:
    """What was built for one platform, as far as it was needed."""

    report: Report
    tree: Tree = field(default_factory=Tree)
    image: Image | None = None
    attested: Sequence[Attested] = ()

    @property
    def platform(self) -> Platform:
        return self.report.platform


async def deliver(
    builds: Builds, build: Build, wanted: Wanted, reports: Sequence[Report], client: Taking
) -> dict[str, Any]:
    """`reports` are of each platform's part of the build. What came of it, as the client is told."""
    products = [_Product(report) for report in reports]
    images = any(output.type != "tar" for output in wanted.outputs)
    before = builds.known()
    plain = any(
        output.type == "image" and not wanted.dressed(number, len(products))
        for number, output in enumerate(wanted.outputs)
    )

    async def make(product: _Product) -> None:
        target = product.report.plan.target
        if images:
            names = wanted.names if plain else ()
            product.image = await build.image(target, names, inline_cache=wanted.inline_cache)
            product.tree = Tree(product.image.chain_id, tuple(product.image.diff_ids))
        else:
            product.tree, _ = await build.solve(target)
        attestations = wanted.order.attestations
        name = wanted.names[0].familiar if wanted.names else ""
        product.attested = await build.attest(product.report, attestations, name)

    await together(make(product) for product in products)
    return await _Delivery(builds, build, wanted, products, client).run(before)


class _Delivery:
    """Once everything is built."""

    def __init__(self, builds: Builds, build: Build, wanted: Wanted, products: list[_Product], client: Taking) -> None:
        self._builds = builds
        self._build = build
        self._wanted = wanted
        self._products = products
        self._client = client
        self._images = {product.platform: product.image for product in products if product.image is not None}

    async def run(self, before: set[str]) -> dict[str, Any]:
        """`before` are the IDs of the images that were there."""
        wanted = self._wanted
        told: dict[str, Any] = {}
        kept = any(output.type == "image" for output in wanted.outputs)
        if self._images:
            told["image"] = self._meant().id
            told["names"] = [name.canonical for name in wanted.names] if kept else []
        for number, output in enumerate(wanted.outputs):
            if output.type == "tar":
                await self._client.deliver(number, self._builds.packed(await self._folders(output)))
            elif wanted.dressed(number, len(self._products)):
                told["descriptor"] = await self._dressed(number, output)
            elif output.type != "image":
                await self._client.deliver(number, self._builds.saved(self._meant(), wanted.names))
        if any(output.push for output in wanted.outputs):
            by_digest = all(output.push_by_digest for output in wanted.outputs if output.push)
            told["digest"] = [await self._build.push(name, by_digest=by_digest) for name in wanted.names][-1]
        for image in self._images.values():
            if not kept and image.id not in before:
                await self._builds.forget(image)
        return told | self._provenance()

    def _meant(self) -> Image:
        """The image that a name means by itself: the one that runs best here, else the first."""
        best = next((found for each in self._builds.platform.runs() if (found := self._images.get(each))), None)
        return best or next(iter(self._images.values()))

    async def _dressed(self, number: int, output: Output) -> Descriptor:
        wanted = self._wanted
        parts = [
            Part(
                product.image,
                await self._build.below(product.report.plan.target),
                partial(statements, product.attested, product.image, wanted.names),
            )
            for product in self._products
            if product.image is not None
        ]
        form = layer_format(output.compression or "gzip", output.compression_level, forced=output.force_compression)
        style = Style(wanted.annotations[number], form, output.oci_mediatypes is not False)
        meant = self._meant()
        if output.type == "image":
            return await self._build.dressed(parts, meant, wanted.names, style)
        top = await self._build.dressed(parts, meant, (), style)
        await self._client.deliver(number, self._builds.saved_dressed(meant, top, wanted.names))
        return top

    async def _folders(self, output: Output) -> list[Folder]:
        several = len(self._products) > 1
        split = several if output.platform_split is None else output.platform_split
        if several and not split:
            await self._builds.refuse_conflicts({str(each.platform): each.tree for each in self._products})
        epoch = self._wanted.epoch
        time_ns = epoch * 10**9 if epoch is not None else self._products[0].report.started_ns
        folders = []
        for product in self._products:
            named = str(product.platform).replace("/", "_")
            beside = await self._beside(
                product, output.attestation_prefix, f".{named}" if several and not split else ""
            )
            folders.append(Folder(product.tree, named if split else "", beside, time_ns))
        return folders

    async def _beside(self, product: _Product, prefix: str, suffix: str) -> dict[str, bytes]:
        """The documents beside files: what is attested of each of them."""
        shown = [each for each in product.attested if not each.inline]
        if not shown:
            return {}
        digests = await self._builds.file_digests(product.tree)
        return documents(shown, digests, prefix, suffix)

    def _provenance(self) -> dict[str, Any]:
        """By platform where there are several."""
        several = len(self._products) > 1
        return {
            f"provenance/{product.platform}" if several else PROVENANCE: each.predicate
            for product in self._products
            for each in product.attested
            if each.kind == PROVENANCE
        }
