"""Running a template's tree on a value, with Go's rules and Go's words for what goes wrong."""

from __future__ import annotations

from wherry.model.gotext import quote
from wherry.model.template.errors import TemplateError
from wherry.model.template.functions import CallError
from wherry.model.template.lexer import line_of
from wherry.model.template.nodes import (
    ActionNode,
    BranchNode,
    ChainNode,
    CommandNode,
    DotNode,
    FieldNode,
    IdentifierNode,
    JumpNode,
    ListNode,
    LiteralNode,
    NilNode,
    Node,
    PipeNode,
    TextNode,
    VariableNode,
)
from wherry.model.template.values import MISSING, Missing, Nil, Typed, is_true, text, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from wherry.model.template.functions import Function


class _Jump(Exception):
    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


_NOTHING = object()


class Evaluation:
    """One run of a template."""

    def __init__(self, source: str, name: str, functions: dict[str, Function], *, strict: bool) -> None:
        self._source = source
        self._name = name
        self._functions = functions
        self._strict = strict
        self._out: list[str] = []
        self._scope: list[tuple[str, Any]] = []
        self._node: Node = TextNode(0, "")

    def render(self, tree: ListNode, value: Any) -> str:
        self._scope = [("$", value)]
        self._walk(tree, value)
        return "".join(self._out)

    def _fail(self, message: str) -> TemplateError:
        at = self._node.at
        column = at - (self._source.rfind("\n", 0, at) + 1)
        place = f"{self._name}:{line_of(self._source, at)}:{column}"
        return TemplateError(f"template: {place}: executing {quote(self._name)} at <{self._node}>: {message}")

    def _walk(self, node: Node, dot: Any) -> None:
        if isinstance(node, ListNode):
            for item in node.items:
                self._walk(item, dot)
        elif isinstance(node, TextNode):
            self._out.append(node.text)
        elif isinstance(node, ActionNode):
            value = self._pipe(dot, node.pipe)
            if not node.pipe.variables:
                self._out.append(text(value, top=True))
        elif isinstance(node, BranchNode):
            kept = len(self._scope)
            if node.kind == "range":
                self._range(node, dot)
            else:
                self._condition(node, dot)
            del self._scope[kept:]
        elif isinstance(node, JumpNode):
            raise _Jump(node.kind)

    def _condition(self, node: BranchNode, dot: Any) -> None:
        value = self._pipe(dot, node.pipe)
        if is_true(value):
            self._walk(node.body, value if node.kind == "with" else dot)
        elif node.otherwise is not None:
            self._walk(node.otherwise, dot)

    def _range(self, node: BranchNode, dot: Any) -> None:
        value = self._pipe(dot, node.pipe, declare=False)
        ran = False
        variables = node.pipe.variables
        for key, item in self._items(node, value):
            ran = True
            kept = len(self._scope)
            pairs = [(variables[-1].name, item)] if variables else []
            if len(variables) > 1:
                pairs.insert(0, (variables[0].name, key))
            for name, given in pairs:
                if node.pipe.assigns:
                    self._assign(name, given)
                else:
                    self._scope.append((name, given))
            try:
                self._walk(node.body, item)
            except _Jump as jump:
                if jump.kind == "break":
                    break
            finally:
                del self._scope[kept:]
        if not ran and node.otherwise is not None:
            self._walk(node.otherwise, dot)

    def _items(self, node: BranchNode, value: Any) -> Iterator[tuple[Any, Any]]:
        if value is None or isinstance(value, (Missing, Nil)):
            return iter(())
        if isinstance(value, list):
            return iter(enumerate(value))
        if isinstance(value, dict):
            return iter(sorted(value.items()))
        if isinstance(value, int) and not isinstance(value, bool):
            return ((number, number) for number in range(value))
        self._node = node.pipe
        raise self._fail(f"range can't iterate over {text(value)}")

    def _assign(self, name: str, value: Any) -> None:
        for index in range(len(self._scope) - 1, -1, -1):
            if self._scope[index][0] == name:
                self._scope[index] = (name, value)
                return

    def _variable(self, name: str) -> Any:
        for known, value in reversed(self._scope):
            if known == name:
                return value
        raise self._fail(f"undefined variable: {name}")

    def _pipe(self, dot: Any, pipe: PipeNode, *, declare: bool = True) -> Any:
        self._node = pipe
        value: Any = _NOTHING
        for command in pipe.commands:
            value = self._command(dot, command, value)
        for variable in pipe.variables if declare else ():
            if pipe.assigns:
                self._assign(variable.name, value)
            else:
                self._scope.append((variable.name, value))
        return value

    def _command(self, dot: Any, command: CommandNode, final: Any) -> Any:
        first = command.words[0]
        arguments = command.words[1:]
        if isinstance(first, FieldNode):
            self._node = first
            return self._fields(dot, dot, first.names, arguments, final, first)
        if isinstance(first, ChainNode):
            self._node = first
            base = self._argument(dot, first.base)
            return self._fields(dot, base, first.names, arguments, final, first)
        if isinstance(first, IdentifierNode):
            return self._call(dot, command, first, arguments, final)
        if isinstance(first, VariableNode):
            self._node = first
            value = self._variable(first.name)
            if not first.names:
                self._no_arguments(first, arguments, final)
                return value
            return self._fields(dot, value, first.names, arguments, final, first)
        self._node = first
        self._no_arguments(first, arguments, final)
        if isinstance(first, PipeNode):
            return self._pipe(dot, first)
        if isinstance(first, DotNode):
            return dot
        if isinstance(first, NilNode):
            raise self._fail("nil is not a command")
        assert isinstance(first, LiteralNode)
        return first.value

    def _no_arguments(self, first: Node, arguments: list[Node], final: Any) -> None:
        if arguments or final is not _NOTHING:
            raise self._fail(f"can't give argument to non-function {first}")

    def _argument(self, dot: Any, node: Node) -> Any:
        self._node = node
        if isinstance(node, DotNode):
            return dot
        if isinstance(node, NilNode):
            return None
        if isinstance(node, LiteralNode):
            return node.value
        if isinstance(node, PipeNode):
            return self._pipe(dot, node)
        if isinstance(node, IdentifierNode):
            return self._call(dot, CommandNode(node.at, [node]), node, [], _NOTHING)
        return self._command(dot, CommandNode(node.at, [node]), _NOTHING)

    def _call(self, dot: Any, command: CommandNode, node: IdentifierNode, words: list[Node], final: Any) -> Any:
        name = node.name
        self._node = node
        if name in ("and", "or"):
            return self._logic(dot, name, words, final)
        values = [self._argument(dot, word) for word in words]
        if final is not _NOTHING:
            values.append(final)
        values = [None if isinstance(value, Missing) else value for value in values]
        self._node = command if words else node
        function, least, most = self._functions[name]
        if len(values) < least or 0 <= most < len(values):
            self._node = node
            wanted = f"at least {least}" if most < 0 else str(least)
            raise self._fail(f"wrong number of args for {name}: want {wanted} got {len(values)}")
        try:
            return function(*values)
        except CallError as error:
            self._node = node if error.plain else command
            raise self._fail(str(error) if error.plain else f"error calling {name}: {error}") from None

    def _logic(self, dot: Any, name: str, words: list[Node], final: Any) -> Any:
        """`and` and `or` stop at the first argument that decides."""
        if not words and final is _NOTHING:
            raise self._fail(f"wrong number of args for {name}: want at least 1 got 0")
        value: Any = None
        for word in words:
            value = self._argument(dot, word)
            if is_true(value) == (name == "or"):
                return value
        return value if final is _NOTHING else final

    def _fields(self, dot: Any, value: Any, names: list[str], words: list[Node], final: Any, node: Node) -> Any:
        for name in names[:-1]:
            value = self._field(value, name, [], node)
        arguments = [self._argument(dot, word) for word in words]
        if final is not _NOTHING:
            arguments.append(final)
        self._node = node
        return self._field(value, names[-1], arguments, node)

    def _field(self, value: Any, name: str, arguments: list[Any], node: Node) -> Any:
        self._node = node
        if isinstance(value, Typed):
            if not value.has_field(name):
                raise self._fail(f"can't evaluate field {name} in type {value.type_name}")
            if arguments and not value.is_method(name):
                raise self._fail(f"{name} has arguments but cannot be invoked as function")
            try:
                return value.field(name, arguments)
            except TypeError:
                if value.is_method(name):
                    raise self._fail(f"wrong number of args for {name}: want 1 got {len(arguments)}") from None
                raise
        if isinstance(value, dict):
            if arguments:
                raise self._fail(f"{name} is not a method but has arguments")
            if name in value:
                return value[name]
            if self._strict:
                raise self._fail(f"map has no entry for key {quote(name)}")
            return MISSING
        if isinstance(value, Nil) and value.kind == "map":
            return MISSING
        if isinstance(value, Missing):
            if self._strict:
                raise self._fail(f"nil data; no entry for key {quote(name)}")
            return MISSING
        if value is None:
            raise self._fail(f"nil pointer evaluating interface {{}}.{name}")
        if isinstance(value, Nil) and value.kind == "pointer":
            raise self._fail(f"nil pointer evaluating {value.type_name}.{name}")
        raise self._fail(f"can't evaluate field {name} in type {type_name(value)}")
