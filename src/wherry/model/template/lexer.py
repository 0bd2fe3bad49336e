"""Words of a template: text, and inside actions the tokens of Go's template language."""

from __future__ import annotations

from wherry.model.template.errors import TemplateError

KEYWORDS = frozenset({"if", "else", "end", "range", "with", "break", "continue", "define", "template", "block"})


class Token:
    """`kind` is text, left, right, space, keyword, identifier, field, variable, string, char, number, bool, nil, dot,
    pipe, declare, assign, comma, open, close or eof; `value` its text; `at` its offset."""

    __slots__ = ("at", "kind", "value")

    def __init__(self, kind: str, value: str, at: int) -> None:
        self.kind = kind
        self.value = value
        self.at = at


def line_of(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def tokens(text: str, name: str) -> list[Token]:
    """All of them, ending in eof. Raises TemplateError."""
    found: list[Token] = []
    at = 0
    trim = False
    while True:
        left = text.find("{{", at)
        literal = text[at:left] if left >= 0 else text[at:]
        start = at
        if trim:
            stripped = literal.lstrip(" \t\r\n")
            start += len(literal) - len(stripped)
            literal = stripped
        inside = left + 2
        if left >= 0 and text[inside : inside + 1] == "-" and text[inside + 1 : inside + 2] in " \t\r\n":
            literal = literal.rstrip(" \t\r\n")
            inside += 2
        if literal:
            found.append(Token("text", literal, start))
        if left < 0:
            found.append(Token("eof", "", len(text)))
            return found
        body = inside
        while text[body : body + 1] and text[body] in " \t\r\n":
            body += 1
        if text.startswith("/*", body):
            at, trim = _comment(text, body, name)
            continue
        found.append(Token("left", "{{", left))
        at, trim = _Action(text, inside, name, found).scan()


def _comment(text: str, at: int, name: str) -> tuple[int, bool]:
    end = text.find("*/", at)
    if end < 0:
        raise TemplateError(f"template: {name}:{line_of(text, at)}: unclosed comment")
    end += 2
    if text.startswith("}}", end):
        return end + 2, False
    if text[end : end + 1] in " \t\r\n" and text.startswith("-}}", end + 1):
        return end + 4, True
    raise TemplateError(f"template: {name}:{line_of(text, at)}: comment ends before closing delimiter")


_SIGNS = {"|": "pipe", ",": "comma"}


class _Action:
    """The scan of one action, from after its left delimiter."""

    def __init__(self, text: str, at: int, name: str, found: list[Token]) -> None:
        self.text = text
        self.at = at
        self.name = name
        self.found = found
        self.depth = 0

    def fail(self, message: str) -> TemplateError:
        return TemplateError(f"template: {self.name}:{line_of(self.text, self.at)}: {message}")

    def emit(self, kind: str, end: int) -> None:
        self.found.append(Token(kind, self.text[self.at : end], self.at))
        self.at = end

    def scan(self) -> tuple[int, bool]:
        """(where the text goes on, whether its leading space is trimmed)."""
        text = self.text
        while True:
            ahead = self.at
            while ahead < len(text) and text[ahead] in " \t\r\n":
                ahead += 1
            if ahead > self.at and text.startswith("-}}", ahead):
                return self._close(ahead, 3)
            if text.startswith("}}", self.at):
                return self._close(self.at, 2)
            if ahead > self.at:
                self.emit("space", ahead)
                continue
            if self.at >= len(text):
                raise self.fail("unclosed action")
            self._one(text[self.at])

    def _close(self, at: int, length: int) -> tuple[int, bool]:
        if self.depth:
            raise self.fail("unclosed left paren")
        self.at = at
        self.found.append(Token("right", "}}", at))
        return at + length, length == 3

    def _one(self, char: str) -> None:
        text, at = self.text, self.at
        following = text[at + 1 : at + 2]
        if char == '"':
            self._quoted('"', "string", "unterminated quoted string")
        elif char == "`":
            end = text.find("`", at + 1)
            if end < 0:
                raise self.fail("unterminated raw quoted string")
            self.emit("string", end + 1)
        elif char == "'":
            self._quoted("'", "char", "unterminated character constant")
        elif char == ":":
            if following != "=":
                raise self.fail("expected :=")
            self.emit("declare", at + 2)
        elif char == "=":
            self.emit("assign", at + 1)
        elif char in _SIGNS:
            self.emit(_SIGNS[char], at + 1)
        elif char == "(":
            self.depth += 1
            self.emit("open", at + 1)
        elif char == ")":
            self.depth -= 1
            if self.depth < 0:
                raise self.fail("unexpected right paren")
            self.emit("close", at + 1)
        elif char == "." and not (following.isascii() and following.isdigit()):
            end = self._word(at + 1)
            self.emit("dot" if end == at + 1 else "field", end)
        elif char == "$":
            self.emit("variable", self._word(at + 1))
        elif char in "+-." or (char.isascii() and char.isdigit()):
            self._number()
        elif char.isalnum() or char == "_":
            self._identifier()
        else:
            raise self.fail(f"unexpected bad character U+{ord(char):04X} {char!r} in command".replace(" bad", ""))

    def _word(self, at: int) -> int:
        while at < len(self.text) and (self.text[at].isalnum() or self.text[at] == "_"):
            at += 1
        if at < len(self.text) and not self._ends(at):
            self.at = at
            raise self.fail(f"bad character U+{ord(self.text[at]):04X} {self.text[at]!r}")
        return at

    def _ends(self, at: int) -> bool:
        return self.text[at] in " \t\r\n.,|:=()" or self.text.startswith("}}", at)

    def _identifier(self) -> None:
        end = self._word(self.at)
        word = self.text[self.at : end]
        if word in KEYWORDS:
            self.emit("keyword", end)
        elif word in ("true", "false"):
            self.emit("bool", end)
        elif word == "nil":
            self.emit("nil", end)
        else:
            self.emit("identifier", end)

    def _quoted(self, mark: str, kind: str, problem: str) -> None:
        end = self.at + 1
        while True:
            char = self.text[end : end + 1]
            if char in ("", "\n"):
                raise self.fail(problem)
            if char == "\\":
                end += 2
                continue
            end += 1
            if char == mark:
                self.emit(kind, end)
                return

    def _number(self) -> None:
        end = self.at + 1
        while end < len(self.text) and (
            self.text[end].isalnum()
            or self.text[end] in "._"
            or (self.text[end] in "+-" and self.text[end - 1] in "eEpP" and self.text[self.at : self.at + 2] != "0x")
        ):
            end += 1
        word = self.text[self.at : end]
        try:
            number(word)
        except ValueError:
            raise self.fail(f'bad number syntax: "{word}"') from None
        self.emit("number", end)


def number(word: str) -> int | float:
    """The value of a number literal. Raises ValueError."""
    body = word.lstrip("+-")
    if len(word) - len(body) > 1 or not body or body[0] == "_":
        raise ValueError(word)
    if len(body) > 1 and body[0] == "0" and body[1] in "01234567":
        value: int | float = int(body, 8)
    else:
        try:
            value = int(body, 0)
        except ValueError:
            value = float(body)
    return -value if word[0] == "-" else value
