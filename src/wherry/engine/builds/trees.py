"""What vertices come to, and what builds need of the rest of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from wherry.errors import WherryError
from wherry.model.config import HostConfig
from wherry.model.credentials import Credentials
from wherry.model.file_list import FileList
from wherry.model.reference import Reference
from wherry.registry.logins import domain_of


@dataclass(frozen=True)
class Tree:
    """A chain of layers: "" and none for an empty tree."""

    chain_id: str = ""
    diff_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Files:
    """Files whose contents are in the store of contents. `described` is their digest, times included."""

    files: FileList
    described: str = field(default="", compare=False)


Result = Tree | Files


Connect = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Carries one connection, to its end."""


class Client(Protocol):
    """Who asked for a build, and has what only it has."""

    async def files(self, name: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> FileList:
        """A directory, its contents in the store when this returns. Raises NotFound."""

    async def secret(self, id: str) -> bytes | None:
        """None where the client has none of that name."""

    async def agent(self, id: str) -> Connect | None:
        """Carries a connection to an SSH agent; None where the client offers none of that name."""


@dataclass(frozen=True)
class Settings:
    """How a build runs, without being part of what it is. `limits` are a container's resources."""

    limits: HostConfig = field(default_factory=HostConfig)
    epoch: int | None = None  # SOURCE_DATE_EPOCH: seconds; no file of a layer is younger
    network: str = ""  # of processes that ask for the default
    pull: bool = False  # base images anew, also those that are here
    credentials: Mapping[str, Credentials] = field(default_factory=dict)  # by registry, as clients keep them
    known_hosts: str = ""  # for SSH, as the client has them

    def credentials_for(self, reference: Reference) -> Credentials | None:
        """What the client gave for the reference's registry."""
        return next((held for at, held in self.credentials.items() if domain_of(at) == reference.domain), None)


class ProcessFailed(WherryError):
    """A process of the build ended with another exit code than 0. `advice` is what may help."""

    def __init__(self, args: tuple[str, ...], exit_code: int, advice: str = "") -> None:
        self.command = " ".join(args)
        self.exit_code = exit_code
        super().__init__(f'process "{self.command}" did not complete successfully: exit code: {exit_code}{advice}')
