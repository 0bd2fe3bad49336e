"""The classic builder's log, made from what is told of a build: steps in the order of the Dockerfile.

    log = ClassicLog(write, quiet=False, remove=True)
    log.plan(target, cached)             # once the steps are known
    log.tell(message)                    # everything that happens
    log.finish(...) or log.fail(...)

Steps run in an order of their own and side by side; what a later one writes waits until its turn in the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from wherry.engine.builds.progress import Ended, Message, Started, Written
from wherry.model.build_graph import SCRATCH, Exec, Step, Target, Vertex
from wherry.model.reference import short_id

Json = dict[str, Any]
_RED, _PLAIN = "\x1b[91m", "\x1b[0m"


def step_ids(target: Target) -> list[str]:
    """A name for the state after each step, the same whenever the same steps come to it."""
    found: list[str] = []
    before = ""
    stage = -1
    for step in target.steps:
        if step.stage != stage:
            before, stage = "", step.stage
        content = step.vertex.digest if step.vertex is not None else step.text
        before = hashlib.sha256(f"{before} {content} {step.text}".encode(errors="surrogateescape")).hexdigest()
        found.append(before)
    return found


class ClassicLog:
    """See the module. `write` sends one JSON message."""

    def __init__(self, write: Callable[[Json], None], *, remove: bool, force_remove: bool = False) -> None:
        self._write = write
        self._remove = remove
        self._force_remove = force_remove  # also of a step that failed
        self._steps: Sequence[Step] = ()
        self._names: list[str] = []
        self._known: Callable[[str], bool] = lambda name: False
        self._bases: dict[str, str] = {}
        self._place = 0
        self._headed = False
        self._anew = False  # a step of the stage did not come from the cache, so what stands on it does not either
        self._started: set[str] = set()  # vertices that run or ran
        self._ended: dict[str, Ended] = {}
        self._output: dict[str, list[Json]] = {}

    def plan(self, target: Target, known: Callable[[str], bool], bases: dict[str, str]) -> None:
        """`known` tells whether a state has been reached before; `bases` are image IDs by digest of their vertex."""
        self._steps = target.steps
        self._names = step_ids(target)
        self._known = known
        self._bases = bases
        self._advance()

    def _begun(self, vertex: Vertex) -> None:
        if isinstance(vertex.operation, Exec):
            self._running()
            for shown in self._output.pop(vertex.digest, []):
                self._write(shown)

    def tell(self, message: Message) -> None:
        if isinstance(message, Started):
            self._started.add(message.vertex)
            if self._headed and self._current(message.vertex):
                step = self._steps[self._place]
                assert step.vertex is not None
                self._begun(step.vertex)
        elif isinstance(message, Written):
            text = message.data.decode(errors="replace")
            shown = {"stream": text if message.stream == 1 else f"{_RED}{text}{_PLAIN}"}
            if self._headed and self._current(message.vertex):
                self._write(shown)
            else:
                self._output.setdefault(message.vertex, []).append(shown)
        elif isinstance(message, Ended):
            self._ended[message.vertex] = message
            self._advance()

    def finish(self) -> None:
        """The target is there, so what has not been told of was not needed: its results are in the cache."""
        self._advance(all_done=True)

    def fail(self, vertex: str) -> None:
        """The steps up to the one that failed."""
        while self._place < len(self._steps):
            step = self._steps[self._place]
            self._head(step)
            if step.vertex is not None and step.vertex.digest == vertex:
                if self._force_remove and isinstance(step.vertex.operation, Exec):
                    self._removed()
                return
            self._place, self._headed = self._place + 1, False

    def _current(self, vertex: str) -> bool:
        step = self._steps[self._place].vertex if self._place < len(self._steps) else None
        return step is not None and step.digest == vertex

    def _advance(self, *, all_done: bool = False) -> None:
        while self._place < len(self._steps):
            step = self._steps[self._place]
            self._head(step)
            ended = self._ended.get(step.vertex.digest) if step.vertex is not None else None
            if ended is not None and ended.error:
                return
            if step.vertex is not None and ended is None and not all_done and step.vertex.inputs:
                return
            self._tail(step, cached=step.vertex is not None and step.vertex.digest not in self._started)
            self._place, self._headed = self._place + 1, False

    def _head(self, step: Step) -> None:
        if self._headed:
            return
        self._headed = True
        self._write({"stream": f"Step {self._place + 1}/{len(self._steps)} : {step.text}"})
        self._write({"stream": "\n"})
        if step.vertex is not None and step.vertex.digest in self._started:
            self._begun(step.vertex)

    def _tail(self, step: Step, *, cached: bool) -> None:
        name = self._names[self._place]
        if self._place == 0 or step.stage != self._steps[self._place - 1].stage:
            self._anew = False
            self._arrow(self._base(step))
            return
        executed = step.vertex is not None and isinstance(step.vertex.operation, Exec)
        if cached or (step.vertex is None and not self._anew and self._known(name)):
            self._arrow("Using cache")
        else:
            self._anew = True
            if not step.text.upper().startswith(("COPY", "ADD")):
                if not executed:
                    self._running()
                if self._remove:
                    self._removed()
        self._arrow(name[:12])

    def _base(self, step: Step) -> str:
        """What a stage begins with: an image, the end of another stage, or nothing."""
        if step.vertex is None or step.vertex == SCRATCH:
            return ""
        if base := self._bases.get(step.vertex.digest):
            return short_id(base)
        for place in range(self._place - 1, -1, -1):
            if self._steps[place].vertex == step.vertex:
                return self._names[place][:12]
        return step.vertex.digest[7:19]

    def _running(self) -> None:
        self._arrow(f"Running in {self._container()}")

    def _removed(self) -> None:
        self._arrow(f"Removed intermediate container {self._container()}")

    def _container(self) -> str:
        """What runs has no name that could be used; the log's readers expect one."""
        return hashlib.sha256(self._names[self._place].encode()).hexdigest()[:12]

    def _arrow(self, text: str) -> None:
        self._write({"stream": f" ---> {text}\n"})
