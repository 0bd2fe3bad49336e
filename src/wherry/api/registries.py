"""Routes that ask registries: `/auth`, `/images/search`, `/distribution`."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from wherry.api import decode
from wherry.api.app import Call, Route
from wherry.api.jsontext import encode
from wherry.api.server import Answer
from wherry.engine.registries import Registries
from wherry.errors import InvalidParameter, SystemFailure
from wherry.model import credentials
from wherry.model.credentials import Credentials
from wherry.model.filters import Filters
from wherry.model.search import check_limit, wanted


def given_credentials(call: Call) -> Credentials:
    """X-Registry-Auth. What cannot be read is as none, as in Docker: the registry then says what it wants."""
    try:
        return credentials.decode(call.headers.get("X-Registry-Auth", ""))
    except InvalidParameter:
        return Credentials()


def routes(registries: Registries) -> list[Route]:
    """The routes of this file."""

    async def auth(call: Call) -> Answer:
        data = await decode.bounded(call.content)
        if not data.strip():
            raise SystemFailure("EOF")
        try:
            given = credentials.from_json(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SystemFailure("unexpected EOF" if "truncated" in str(error) else str(error)) from None
        token = await call.while_connected(registries.log_in(given))
        return call.json({"IdentityToken": token, "Status": "Login Succeeded"})

    async def search(call: Call) -> Answer:
        filters = Filters.decode(call.query.text("filters"))
        try:
            limit = check_limit(call.query.integer("limit", 0) or 0)
        except InvalidParameter as error:
            raise InvalidParameter(
                f"invalid limit specified: {error}" if "strconv" in str(error) else str(error)
            ) from None
        found = await call.while_connected(
            registries.search(call.query.text("term"), limit, wanted(filters), given_credentials(call))
        )
        return call.json(
            [
                {
                    "star_count": each.stars,
                    "is_official": each.official,
                    "name": each.name,
                    "is_automated": False,
                    "description": each.description,
                }
                for each in found
            ]
        )

    async def distribution(call: Call) -> Answer:
        manifests = call.query.boolean("manifests")  # ours: the documents themselves, for `manifest inspect`
        found = await call.while_connected(
            registries.inspect(
                call.path["name"],
                given_credentials(call),
                members=manifests,
                insecure=call.query.boolean("insecure"),
            )
        )
        shown: dict[str, Any] = {"Descriptor": found.descriptor, "Platforms": found.platforms}
        if manifests:
            shown["Manifest"] = found.data
            if found.members is not None:
                shown["Manifests"] = [
                    {"Descriptor": descriptor, "Manifest": data} for descriptor, data in found.members
                ]
        return call.encoded(await asyncio.to_thread(encode, shown))  # the documents may have megabytes

    return [
        Route("POST", "/auth", auth),
        Route("GET", "/images/search", search),
        Route("GET", "/distribution/{name:.*}/json", distribution),
    ]
