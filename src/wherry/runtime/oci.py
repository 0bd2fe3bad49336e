"""The OCI runtime's verbs (opencontainers/runtime-spec runtime.md), and its failures in Docker's words."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from wherry.errors import StartFailed, SystemFailure
from wherry.linux import processes

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass(frozen=True)
class Runtime:
    """One runtime program and the directory in which it keeps its state.

    `program` is what is executed where that is not `path` itself. `familiar` is crun of a version whose internals have
    been tried: its first process waits on STATE/ID/exec.fifo, and STATE/ID with the cgroup is all that `delete` removes
    of a container that has ended. `takes_bpf`: it accepts a compiled seccomp filter as an annotation. `hierarchies` are
    those of cgroup v1 that its processes can enter by themselves, by way of the script `entering`
    (`wherry.runtime.entering`); without any, the runtime moves them.
    """

    name: str
    path: Path
    state: Path
    program: Path | None = None
    arguments: tuple[str, ...] = ()  # of the program, before everything else
    familiar: bool = False
    takes_bpf: bool = False
    hierarchies: tuple[str, ...] = ()
    entering: Path | None = None

    @property
    def executable(self) -> Path:
        return self.program or self.path

    async def start(self, container_id: str) -> None:
        """Let the created container's process run. Raises SystemFailure."""
        if self.familiar and self._open_gate(container_id):
            return
        await self._must("start", container_id)

    def _open_gate(self, container_id: str) -> bool:
        """What `crun start` does: a byte into the FIFO that the container's first process waits on, then unlink it."""
        fifo = self.state / container_id / "exec.fifo"
        try:
            gate = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # nobody waits there (yet): the program knows better
            return False
        with contextlib.closing(os.fdopen(gate, "wb", buffering=0)) as file:
            file.write(b"0")
        fifo.unlink()
        return True

    async def pause(self, container_id: str) -> None:
        self._name_cgroup(container_id)
        await self._must("pause", container_id)

    async def resume(self, container_id: str) -> None:
        self._name_cgroup(container_id)
        await self._must("resume", container_id)

    async def kill_all(self, container_id: str, number: int) -> None:
        """Signal every process of the container, for those that share the host's PID namespace."""
        self._name_cgroup(container_id)
        await self._must("kill", "--all", container_id, str(number))

    async def delete(self, container_id: str) -> None:
        """Remove the container, its processes and its cgroup, whatever state it is in; one unknown is fine."""
        if (self.state / container_id).exists():
            self._name_cgroup(container_id)
            await self._call("delete", "--force", container_id)

    def _name_cgroup(self, container_id: str) -> None:
        """Note in the state of a container whose process has entered its cgroup by itself which one that is.

        The runtime was told to leave cgroups alone when it made the container; what it does later it does there.
        """
        if not self.hierarchies:
            return
        folder = self.state / container_id
        with contextlib.suppress(FileNotFoundError, ValueError):  # it died before it wrote them
            status = json.loads((folder / "status").read_bytes())
            if not status["cgroup-path"]:
                config = json.loads((folder / "config.json").read_bytes())
                whole = folder / "status.new"
                whole.write_text(json.dumps({**status, "cgroup-path": config["linux"]["cgroupsPath"]}))
                whole.replace(folder / "status")

    def forget(self, container_id: str) -> None:
        """Of a familiar runtime: drop the state of a container that has ended and whose cgroup is gone (blocking)."""
        shutil.rmtree(self.state / container_id, ignore_errors=True)

    async def status(self, container_id: str) -> str | None:
        """`creating`, `created`, `running`, `stopped`, `paused`; None if the runtime does not know it."""
        self._name_cgroup(container_id)
        finished = await self._call("state", container_id)
        if finished.code != 0:
            return None
        return str(json.loads(finished.output)["status"])

    async def _call(self, *words: str) -> processes.Finished:
        return await processes.run(
            [str(self.executable), *self.arguments, "--root", str(self.state), *words], environment=ENVIRONMENT
        )

    async def _must(self, *words: str) -> None:
        finished = await self._call(*words)
        if finished.code != 0:
            said = finished.errors.decode(errors="replace").strip()
            raise SystemFailure(f"{self.name} {' '.join(words)}: {said or f'exit code {finished.code}'}")


# crun 1.8.1, crun 1.21, runc
_DIRECTORY = ("open executable: operation not permitted", "is not a regular file", "is a directory")
_PASSED_OVER = ("not found", "permission denied", "not executable", *_DIRECTORY)  # in a search of $PATH
_UNREACHABLE = ("too many levels of symbolic links", "not a directory")
_ADVICE = {  # what Docker adds to these
    "not a directory": ": Are you trying to mount a directory onto a file (or vice-versa)? "
    "Check if the specified host path exists and is the expected type",
    "is a directory": ": permission denied",
}
_SYSCTL = re.compile(r"(open|write)(?: to)? `?(/proc/sys/[^`:]+)`?: (.+)")  # crun's words
_WRONG_DIRECTORY = re.compile(r"chdir (?:to )?`([^`]*)`: (.+)")  # crun's words


def start_failure(said: str, argv0: str, *, verb: str, runtime: str = "") -> StartFailed:
    """A runtime's refusal to start a process, as Docker tells it.

    `said` is the message of the runtime named; `argv0` what was to run; `verb` "create" for a container, "exec" for an
    exec.
    Clients take exit code 127 from "executable file not found" and "no such file or directory", 126 from
    "permission denied" and "is a directory".
    """
    message, code = _in_dockers_words(said.strip(), argv0)
    lower = message.lower()
    advice = next((words for reason, words in _ADVICE.items() if reason in lower), "")
    if verb == "exec":
        prefix = "OCI runtime exec failed: exec failed: "
    else:
        prefix = "failed to create task for container: failed to create shim task: OCI runtime create failed: "
        prefix += f"{runtime} create failed: "
    return StartFailed(f"{prefix}{message}: unknown{advice}", code)


def _in_dockers_words(said: str, argv0: str) -> tuple[str, int]:
    directory = _WRONG_DIRECTORY.search(said)
    if directory is not None and not directory[1].startswith("/"):
        return "Cwd must be an absolute path", 126
    message, code = _of_the_process(said, argv0)
    return f"unable to start container process: {message}", code


def _of_the_process(said: str, argv0: str) -> tuple[str, int]:
    lower = said.lower()
    command = f"exec: {json.dumps(argv0, ensure_ascii=False)}"
    if (directory := _WRONG_DIRECTORY.search(said)) is not None:
        return f'chdir to cwd ("{directory[1]}") set in config.json failed: {directory[2].lower()}', 126
    if (setting := _SYSCTL.search(said)) is not None:
        reason = setting[3].lower()
        return (
            f"error during container init: {setting[1]} {setting[2]}: {reason}",
            127 if reason == "no such file or directory" else 128,
        )
    if "mount" in lower or not (argv0 in said or "exec" in lower):
        return said, 128
    if "/" not in argv0 and (not argv0 or any(words in lower for words in _PASSED_OVER)):
        return f"{command}: executable file not found in $PATH", 127
    if "not found" in lower or "no such file or directory" in lower:
        return f"{command}: stat {argv0}: no such file or directory", 127
    if (reason := next((words for words in _UNREACHABLE if words in lower), "")) and argv0:
        return f"{command}: stat {argv0}: {reason}", 127 if reason == "not a directory" else 128
    if any(words in lower for words in _DIRECTORY):
        return f"{command}: is a directory", 126
    if "permission denied" in lower or "not executable" in lower:
        return f"{command}: permission denied", 126
    return said, 128
