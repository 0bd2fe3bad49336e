"""The tree of a template, and the parser that makes it. Each node knows its offset and writes itself as Go does."""

from __future__ import annotations

from wherry.model.gotext import quote, unquote
from wherry.model.template.errors import TemplateError
from wherry.model.template.lexer import Token, line_of, number, tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container


class Node:
    at = 0


class TextNode(Node):
    def __init__(self, at: int, text: str) -> None:
        self.at, self.text = at, text

    def __str__(self) -> str:
        return self.text


class DotNode(Node):
    def __init__(self, at: int) -> None:
        self.at = at

    def __str__(self) -> str:
        return "."


class NilNode(Node):
    def __init__(self, at: int) -> None:
        self.at = at

    def __str__(self) -> str:
        return "nil"


class LiteralNode(Node):
    """A string, number, character or bool; `source` is how it was written."""

    def __init__(self, at: int, value: str | int | float | bool, source: str) -> None:
        self.at, self.value, self.source = at, value, source

    def __str__(self) -> str:
        return self.source


class FieldNode(Node):
    """.A.B.C"""

    def __init__(self, at: int, names: list[str]) -> None:
        self.at, self.names = at, names

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


class VariableNode(Node):
    """$x.A.B"""

    def __init__(self, at: int, name: str, names: list[str]) -> None:
        self.at, self.name, self.names = at, name, names

    def __str__(self) -> str:
        return self.name + "".join(f".{name}" for name in self.names)


class ChainNode(Node):
    """(pipeline).A.B"""

    def __init__(self, at: int, base: Node, names: list[str]) -> None:
        self.at, self.base, self.names = at, base, names

    def __str__(self) -> str:
        base = f"({self.base})" if isinstance(self.base, PipeNode) else str(self.base)
        return base + "".join(f".{name}" for name in self.names)


class IdentifierNode(Node):
    """A function."""

    def __init__(self, at: int, name: str) -> None:
        self.at, self.name = at, name

    def __str__(self) -> str:
        return self.name


class CommandNode(Node):
    def __init__(self, at: int, words: list[Node]) -> None:
        self.at, self.words = at, words

    def __str__(self) -> str:
        return " ".join(f"({word})" if isinstance(word, PipeNode) else str(word) for word in self.words)


class PipeNode(Node):
    def __init__(self, at: int, variables: list[VariableNode], assigns: bool, commands: list[CommandNode]) -> None:
        self.at, self.variables, self.assigns, self.commands = at, variables, assigns, commands

    def __str__(self) -> str:
        head = ", ".join(str(variable) for variable in self.variables)
        head += (" = " if self.assigns else " := ") if self.variables else ""
        return head + " | ".join(str(command) for command in self.commands)


class ActionNode(Node):
    def __init__(self, at: int, pipe: PipeNode) -> None:
        self.at, self.pipe = at, pipe


class BranchNode(Node):
    """if, with or range."""

    def __init__(self, at: int, kind: str, pipe: PipeNode, body: ListNode, otherwise: ListNode | None) -> None:
        self.at, self.kind, self.pipe, self.body, self.otherwise = at, kind, pipe, body, otherwise


class JumpNode(Node):
    """break or continue."""

    def __init__(self, at: int, kind: str) -> None:
        self.at, self.kind = at, kind


class ListNode(Node):
    def __init__(self, items: list[Node]) -> None:
        self.items = items


def parse_tree(text: str, functions: Container[str], name: str) -> ListNode:
    """The tree of `text`. Raises TemplateError."""
    parser = _Parser(text, functions, name)
    body, end = parser.body()
    if end is not None:
        raise parser.fail(f"unexpected {_action(end)}")
    return body


def _action(word: str) -> str:
    return "{{" + word + "}}"


class _Parser:
    def __init__(self, text: str, functions: Container[str], name: str) -> None:
        self.text = text
        self.name = name
        self.functions = functions
        self.tokens = tokens(text, name)
        self.position = 0
        self.variables = ["$"]
        self.loops = 0

    def fail(self, message: str) -> TemplateError:
        at = self.tokens[max(0, self.position - 1)].at
        return TemplateError(f"template: {self.name}:{line_of(self.text, at)}: {message}")

    def next(self) -> Token:
        token = self.tokens[self.position]
        self.position = min(self.position + 1, len(self.tokens) - 1)
        return token

    def peek(self) -> Token:
        return self.tokens[self.position]

    def solid(self) -> Token:
        """The next token that is not space."""
        while self.peek().kind == "space":
            self.next()
        return self.next()

    def peek_solid(self) -> Token:
        while self.peek().kind == "space":
            self.next()
        return self.peek()

    def unexpected(self, token: Token, context: str) -> TemplateError:
        if token.kind == "eof":
            return self.fail("unexpected EOF")
        shown = f"<{token.value}>" if token.kind in ("keyword", "dot", "nil") else quote(token.value)
        return self.fail(f"unexpected {shown} in {context}")

    def body(self) -> tuple[ListNode, str | None]:
        """A list up to its {{end}} or {{else}} (returned, with what follows else yet to be read), or to the end."""
        items: list[Node] = []
        while True:
            token = self.next()
            if token.kind == "eof":
                return ListNode(items), None
            if token.kind == "text":
                items.append(TextNode(token.at, token.value))
                continue
            word = self.solid()
            if word.kind == "keyword" and word.value in ("end", "else"):
                if word.value == "end":
                    self._close("end")
                return ListNode(items), word.value
            items.append(self._action(word))

    def _close(self, context: str) -> None:
        token = self.solid()
        if token.kind != "right":
            raise self.unexpected(token, context)

    def _action(self, word: Token) -> Node:
        if word.kind == "keyword":
            if word.value in ("if", "with", "range"):
                return self._branch(word)
            if word.value in ("break", "continue"):
                if not self.loops:
                    raise self.fail(f"{_action(word.value)} outside {_action('range')}")
                self._close(_action(word.value))
                return JumpNode(word.at, word.value)
            raise self.fail(f"{_action(word.value)} is not supported here")
        self.position -= 1
        return ActionNode(word.at, self._pipeline("command", "right"))

    def _branch(self, word: Token) -> BranchNode:
        known = len(self.variables)
        kind = word.value
        pipe = self._pipeline(kind, "right")
        if kind == "range":
            self.loops += 1
        body, end = self.body()
        if kind == "range":
            self.loops -= 1
        otherwise = None
        if end == "else":
            otherwise = self._else(kind)
        elif end is None:
            raise self.fail("unexpected EOF")
        del self.variables[known:]
        return BranchNode(pipe.at, kind, pipe, body, otherwise)

    def _else(self, kind: str) -> ListNode:
        token = self.peek_solid()
        if token.kind == "keyword" and token.value == kind and kind in ("if", "with"):
            return ListNode([self._branch(self.next())])
        self._close("else")
        body, end = self.body()
        if end == "else":
            raise self.fail("expected end; found {{else}}")
        if end is None:
            raise self.fail("unexpected EOF")
        return body

    def _pipeline(self, context: str, close: str) -> PipeNode:
        at = self.peek_solid().at
        variables, assigns = self._declarations(context)
        commands: list[CommandNode] = []
        while True:
            token = self.solid()
            if token.kind == close:
                if not commands:
                    raise self.fail(f"missing value for {context}")
                self._check(commands, context)
                self.variables += [variable.name for variable in variables if not assigns]
                return PipeNode(at, variables, assigns, commands)
            if token.kind not in _OPERANDS:
                raise self.unexpected(token, context)
            self.position -= 1
            commands.append(self._command())

    def _declarations(self, context: str) -> tuple[list[VariableNode], bool]:
        variables: list[VariableNode] = []
        while True:
            mark = self.position
            token = self.peek_solid()
            if token.kind != "variable":
                self.position = mark
                return variables, False
            self.next()
            after = self.solid()
            if after.kind in ("declare", "assign"):
                variables.append(VariableNode(token.at, token.value, []))
                return variables, after.kind == "assign"
            if after.kind == "comma" and context == "range" and len(variables) < 2:
                variables.append(VariableNode(token.at, token.value, []))
                if len(variables) == 2:
                    raise self.fail("too many declarations in range")
                continue
            self.position = mark
            return variables, False

    def _check(self, commands: list[CommandNode], context: str) -> None:
        for index, command in enumerate(commands[1:], 2):
            if isinstance(command.words[0], (LiteralNode, DotNode, NilNode)):
                raise self.fail(f"non executable command in pipeline stage {index}")

    def _command(self) -> CommandNode:
        words: list[Node] = []
        at = self.peek_solid().at
        while True:
            self.peek_solid()
            operand = self._operand()
            if operand is not None:
                words.append(operand)
            token = self.next()
            if token.kind == "space":
                continue
            if token.kind in ("right", "close"):
                self.position -= 1
            elif token.kind != "pipe":
                raise self.unexpected(token, "operand")
            elif self.peek_solid().kind in ("right", "close"):
                raise self.fail("missing value for command")
            if not words:
                raise self.fail("empty command")
            return CommandNode(at, words)

    def _operand(self) -> Node | None:
        node = self._term()
        if node is None or self.peek().kind != "field":
            return node
        at = self.peek().at
        names = []
        while self.peek().kind == "field":
            names.append(self.next().value[1:])
        if isinstance(node, FieldNode):
            return FieldNode(at, node.names + names)
        if isinstance(node, VariableNode):
            return VariableNode(at, node.name, node.names + names)
        if isinstance(node, (LiteralNode, NilNode, DotNode)):
            raise self.fail(f"unexpected . after term {quote(str(node))}")
        return ChainNode(at, node, names)

    def _term(self) -> Node | None:
        token = self.solid()
        kind, value, at = token.kind, token.value, token.at
        if kind == "identifier":
            if value not in self.functions:
                raise self.fail(f"function {quote(value)} not defined")
            return IdentifierNode(at, value)
        if kind == "dot":
            return DotNode(at)
        if kind == "nil":
            return NilNode(at)
        if kind == "variable":
            if value not in self.variables:
                raise self.fail(f"undefined variable {quote(value)}")
            return VariableNode(at, value, [])
        if kind == "field":
            return FieldNode(at, [value[1:]])
        if kind == "bool":
            return LiteralNode(at, value == "true", value)
        if kind == "number":
            return LiteralNode(at, number(value), value)
        if kind in ("string", "char"):
            try:
                text = unquote(value)
            except ValueError:
                raise self.fail("invalid syntax") from None
            if kind == "string":
                return LiteralNode(at, text, value)
            if len(text) != 1:
                raise self.fail(f"malformed character constant: {value}")
            return LiteralNode(at, ord(text), value)
        if kind == "open":
            return self._pipeline("parenthesized pipeline", "close")
        self.position -= 1
        return None


_OPERANDS = frozenset({"identifier", "dot", "nil", "variable", "field", "bool", "number", "string", "char", "open"})
