"""nftables in process: libnftables with one context for as long as it is used (libnftables(3)).

A context is not for two threads at once, and talks to the network namespace in which it was made.
"""

from __future__ import annotations

import ctypes
import errno
import json
import socket
import struct
from typing import Any

from wherry.linux.netlink import SOL_NETLINK

_NETLINK_NETFILTER = 12
_NETLINK_ADD_MEMBERSHIP = 1
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port

_JSON = 1 << 4  # NFT_CTX_OUTPUT_JSON
_HANDLE = 1 << 3  # NFT_CTX_OUTPUT_HANDLE


class NftablesError(Exception):
    """What libnftables said about a command that did not go through; nothing of it was done."""


class Nftables:
    """The firewall of one namespace. Raises OSError where libnftables is missing.

    nft = Nftables()
    nft.run("add table ip example; add chain ip example c")     # one transaction: all or nothing
    nft.objects("list chain ip example c")
    nft.close()
    """

    def __init__(self) -> None:
        try:
            self._library = library = ctypes.CDLL("libnftables.so.1")
        except OSError as error:
            raise OSError(f"the nftables library is missing (apt-get install nftables): {error}") from error
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        for name in ("nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
            getattr(library, name).restype = ctypes.c_char_p
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self._context = library.nft_ctx_new(0)
        if not self._context:
            raise OSError("libnftables gives no context")
        library.nft_ctx_output_set_flags(self._context, _JSON | _HANDLE)
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)

    def close(self) -> None:
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None

    def run(self, script: str) -> str:
        """Do all of it in one transaction; what it prints. Raises NftablesError."""
        failed = self._library.nft_run_cmd_from_buffer(self._context, script.encode())
        printed = self._library.nft_ctx_get_output_buffer(self._context) or b""
        said = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if failed:
            raise NftablesError(said.decode(errors="replace").strip() or "nftables failed without a word")
        return bytes(printed).decode(errors="replace")

    def objects(self, command: str) -> list[dict[str, Any]]:
        """What a `list` command shows, as libnftables-json(5) has it; empty if there is no such thing."""
        try:
            printed = self.run(command)
        except NftablesError as error:
            if "No such file or directory" in str(error):
                return []
            raise
        found: list[dict[str, Any]] = json.loads(printed)["nftables"] if printed else []
        return [entry for entry in found if "metainfo" not in entry]


class Changes:
    """Tells when somebody changes tables, chains or rules, ours included; elements of maps do not count.

    `socket` is non-blocking and readable when there is news. See nfnetlink's group NFNLGRP_NFTABLES in
    <linux/netfilter/nfnetlink.h> and the messages in <linux/netfilter/nf_tables.h>.
    """

    _GROUP = 7  # NFNLGRP_NFTABLES
    _SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
    _INTERESTING = frozenset((0, 2, 3, 5, 6, 8))  # new and deleted tables, chains and rules

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self.socket = socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER)
        try:
            self.socket.bind((0, 0))
            self.socket.setsockopt(SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, self._GROUP)
        except BaseException:
            self.socket.close()
            raise

    def close(self) -> None:
        self.socket.close()

    def seen(self) -> bool:
        """Read what has arrived; whether it may matter. News that were lost may."""
        matters = False
        while True:
            try:
                data = self.socket.recv(1 << 16)
            except BlockingIOError:
                return matters
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                matters = True
                continue
            at = 0
            while at + _HEADER.size <= len(data):
                length, type, *_ = _HEADER.unpack_from(data, at)
                matters = matters or (type >> 8 == self._SUBSYSTEM and type & 0xFF in self._INTERESTING)
                at += max((length + 3) & ~3, _HEADER.size)
