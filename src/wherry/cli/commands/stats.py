"""`stats`: what containers use, once or live.

Every container has a stream of its own from the engine, a reading a second; one loop waits for all of them.
"""

from __future__ import annotations

import select
import sys
import time

from wherry.cli.context import describe
from wherry.cli.errors import Failure
from wherry.cli.humanize import bytes_size, human_size, short_id
from wherry.cli.listing import Listing
from wherry.cli.paths import container
from wherry.client.connection import ProtocolError
from wherry.client.engine import EngineError
from wherry.model import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.context import Context
    from wherry.client.connection import Response

    Frame = dict[str, Any]

HEADERS = {
    "BlockIO": "BLOCK I/O",
    "CPUPerc": "CPU %",
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "MemPerc": "MEM %",
    "MemUsage": "MEM USAGE / LIMIT",
    "Name": "NAME",
    "NetIO": "NET I/O",
    "PIDs": "PIDS",
}
COLUMNS = ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"]
REDRAWN = 1.0  # seconds
NEVER = "0001-01-01T00:00:00Z"


class Entry:
    """One container: as it was asked for, its stream, and the last reading; `frame` is None while there is none."""

    def __init__(self, asked: str, response: Response) -> None:
        self.asked = asked
        self.response = response
        self.frame: Frame | None = None
        self.id = self.name = ""
        self.ready = False
        self._waiting = b""

    def fileno(self) -> int:
        return self.response.connection.socket.fileno()

    def take(self) -> bool:
        """Read what has come; False at the end of the stream."""
        while True:
            try:
                data = self.response.piece()
            except (ProtocolError, ConnectionResetError):
                data = b""
            if not data:
                self.frame, self.ready = None, True
                return False
            *lines, self._waiting = (self._waiting + data).split(b"\n")
            for line in lines:
                self._show(jsontext.loads(line))
            if not self.response.connection.ahead:
                return True

    def _show(self, frame: Frame) -> None:
        self.frame, self.id, self.name = frame, frame.get("id", ""), frame.get("name", "")
        # The first reading of a running container has none before it, and so no share of the CPUs.
        self.ready = self.ready or frame["preread"] != NEVER or frame["read"] == NEVER


def cpu_percent(frame: Frame) -> float:
    """The share of one CPU that was used between the two readings of a frame."""
    now, before = frame["cpu_stats"], frame["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    cpus = now.get("online_cpus") or len(now["cpu_usage"].get("percpu_usage") or ())
    return float(used / passed * cpus * 100) if used > 0 and passed > 0 else 0.0


def memory_used(frame: Frame) -> int:
    """Bytes in use without the page cache that the kernel would give up first."""
    memory = frame["memory_stats"]
    usage = int(memory.get("usage", 0))
    told = memory.get("stats") or {}
    for name in ("total_inactive_file", "inactive_file"):
        if told.get(name, usage) < usage:
            return usage - int(told[name])
    return usage


def _memory_percent(frame: Frame) -> float:
    limit = frame["memory_stats"].get("limit", 0)
    return memory_used(frame) / limit * 100 if limit else 0.0


def _memory(frame: Frame) -> str:
    return f"{bytes_size(memory_used(frame))} / {bytes_size(frame['memory_stats'].get('limit', 0))}"


def _network(frame: Frame) -> str:
    counted = (frame.get("networks") or {}).values()
    return _pair(*(sum(counts[key] for counts in counted) for key in ("rx_bytes", "tx_bytes")))


def _block_io(frame: Frame) -> str:
    entries = frame["blkio_stats"].get("io_service_bytes_recursive") or ()
    return _pair(*(sum(entry["value"] for entry in entries if entry["op"][:1] in letters) for letters in ("rR", "wW")))


def _pair(first: int, second: int) -> str:
    return f"{human_size(first, 3)} / {human_size(second, 3)}"


def listing(whole: bool) -> Listing:
    """The list of entries; `whole` is --no-trunc."""

    def known(function: Any, otherwise: str = "--") -> Any:
        return lambda entry: otherwise if entry.frame is None else function(entry.frame)

    fields = {
        "BlockIO": known(_block_io),
        "CPUPerc": known(lambda frame: f"{cpu_percent(frame):.2f}%"),
        "Container": lambda entry: entry.asked,
        "ID": lambda entry: entry.id if whole else short_id(entry.id),
        "MemPerc": known(lambda frame: f"{_memory_percent(frame):.2f}%"),
        "MemUsage": known(_memory, "-- / --"),
        "Name": lambda entry: entry.name[1:] or "--",
        "NetIO": known(_network),
        "PIDs": known(lambda frame: str(frame["pids_stats"].get("current", 0))),
    }
    return Listing("*container.statsContext", HEADERS, fields)


class Board:
    """The containers that are shown, their streams, and, where all are shown, the engine's events."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._poll = select.poll()
        self._by_descriptor: dict[int, Entry] = {}
        self._events: Response | None = None
        self._waiting = b""
        self._everything = context.flags.on("all")
        self.entries: dict[str, Entry] = {}

    def add(self, names: list[str]) -> list[EngineError]:
        """Begin to watch containers; what the engine refused."""
        new = [name for name in dict.fromkeys(names) if name not in self.entries]
        answers = self._context.engine.open_each([container(name, "stats") for name in new], {"stream": True})
        refusals = []
        for name, answer in zip(new, answers, strict=True):
            if isinstance(answer, EngineError):
                refusals.append(answer)
                continue
            entry = Entry(name, answer)
            self.entries[name] = self._by_descriptor[entry.fileno()] = entry
            self._poll.register(entry, select.POLLIN)
        return refusals

    def add_all(self, *, live: bool) -> None:
        """Watch every container, and with `live` those that are to come."""
        engine = self._context.engine
        if live:
            self._events = engine.open("GET", "/events", {"filters": {"type": {"container": True}}}, private=True)
            self._poll.register(self._events.connection.socket, select.POLLIN)
        found = engine.get("/containers/json", {"all": True if self._everything else None}) or ()
        self.add([summary["Id"] for summary in found])  # one that is refused has gone meanwhile

    @property
    def ready(self) -> bool:
        return all(entry.ready for entry in self.entries.values())

    @property
    def followed(self) -> bool:
        """Whether anything can still change."""
        return bool(self._by_descriptor) or self._events is not None

    def wait(self, seconds: float) -> None:
        """Take what comes, for at most so long."""
        for descriptor, _ in self._poll.poll(max(0.0, seconds) * 1000):
            entry = self._by_descriptor.get(descriptor)
            if entry is None:
                self._hear()
            elif not entry.take():
                self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        self._poll.unregister(entry)
        self._by_descriptor.pop(entry.fileno(), None)
        entry.response.connection.close()

    def _hear(self) -> None:
        assert self._events is not None
        data = self._events.piece()
        if not data:
            self._poll.unregister(self._events.connection.socket)
            self._events = None
        *lines, self._waiting = (self._waiting + data).split(b"\n")
        for line in lines:
            event = jsontext.loads(line)
            action, identifier = event["Action"], event["Actor"]["ID"]
            if action == "start" or (action == "create" and self._everything):
                self.add([identifier])
            elif action == ("destroy" if self._everything else "die"):
                entry = self.entries.pop(identifier, None)
                if entry is not None and entry.fileno() in self._by_descriptor:
                    self._forget(entry)


def run(context: Context) -> int:
    flags = context.flags
    shown = listing(flags.on("no-trunc"))
    form = flags.text("format")
    live = not flags.on("no-stream")
    board = Board(context)
    if context.arguments:
        if refusals := board.add(context.arguments):
            raise Failure("\n".join([describe(refusal, context.host) or "" for refusal in refusals]))
    else:
        board.add_all(live=live)
    while not board.ready:
        board.wait(REDRAWN)
    if not live:
        sys.stdout.write(_text(shown, board, form))
        return 0
    sys.stdout.write("\033[2J")
    due = time.monotonic()
    while True:
        lines = _text(shown, board, form).split("\n")
        sys.stdout.write("\033[H" + "\n".join([f"{line}\033[K" for line in lines]) + "\033[J")
        sys.stdout.flush()
        if not board.followed:
            return 0
        due = max(due + REDRAWN, time.monotonic())
        while (left := due - time.monotonic()) > 0 and board.followed:
            board.wait(left)


def _text(shown: Listing, board: Board, form: str) -> str:
    entries = list(board.entries.values())
    try:
        return shown.text(entries, COLUMNS, form)
    except Failure as failure:
        for verb in ("parse", "execute"):
            failure.text = failure.text.replace(f"failed to {verb} template: ", "template parsing error: ", 1)
        raise
