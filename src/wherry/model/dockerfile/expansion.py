"""Words of a Dockerfile: quotes, escapes, `$variables` and splitting (Dockerfile reference, "Environment replacement").

The rules are those of a POSIX shell as far as the reference has them; each step is one function named after what it
reads, over a cursor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from wherry.model.dockerfile.patterns import InvalidPattern, replaced, without_prefix, without_suffix
from wherry.model.dockerfile.source import BLANK, DockerfileError
from wherry.model.gotext import quote

_SPECIAL_PARAMETERS = "@*#?-$!0"
_DEEPEST = 100
"""Levels of `${a:-${b:-...}}`; deeper is refused rather than exhausting the stack."""


class Expansion(Struct):
    """What became of a text: whole, split into words, and the variables that had a value and those that had none."""

    text: str = ""
    words: list[str] = field(default_factory=list)
    matched: set[str] = field(default_factory=set)
    unmatched: set[str] = field(default_factory=set)


class Lexer(Struct, frozen=True):
    """How texts are read. `escape` is "\\\\" or "`".

    `keep_quotes` and `keep_escapes` leave those characters in; `plain_quotes` gives quotes no meaning; `keep_unset`
    leaves variables without a value as they were written.
    """

    escape: str = "\\"
    keep_quotes: bool = False
    keep_escapes: bool = False
    plain_quotes: bool = False
    keep_unset: bool = False

    def expand(self, text: str, variables: Mapping[str, str]) -> Expansion:
        """Raises DockerfileError in the reference's words."""
        reading = _Reading(self, text, variables)
        try:
            result, words = reading.until("", self.keep_escapes)
        except _Problem as problem:
            raise DockerfileError(f"failed to process {quote(text)}: {problem}") from None
        return Expansion(result, words, reading.matched, reading.unmatched)

    def word(self, text: str, variables: Mapping[str, str]) -> str:
        """The text as one word. Raises DockerfileError."""
        return self.expand(text, variables).text


def shown(lexer: Lexer, text: str, variables: Mapping[str, str]) -> str:
    """A text for people: known variables replaced, all else as written; the text itself if it cannot be read."""
    try:
        return replace(lexer, keep_quotes=True, keep_unset=True).word(text, variables)
    except DockerfileError:
        return text


class _Problem(Exception):
    """The reason, to be wrapped with the word it was found in."""


class _Words:
    """Words as they are found; a blank ends one only if it was not quoted."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._word: list[str] = []
        self._inside = False

    def add(self, text: str) -> None:
        for character in text:
            if not BLANK.match(character):
                self.add_raw(character)
            elif self._inside and self._word:
                self.close()

    def add_raw(self, text: str) -> None:
        if text:
            self._word.append(text)
        self._inside = True

    def close(self) -> list[str]:
        if self._word:
            self.found.append("".join(self._word))
            self._word = []
            self._inside = False
        return self.found


class _Reading:
    def __init__(self, lexer: Lexer, text: str, variables: Mapping[str, str]) -> None:
        self.lexer = lexer
        self.text = text
        self.position = 0
        self.variables = variables
        self.matched: set[str] = set()
        self.unmatched: set[str] = set()
        self.keep_escapes = lexer.keep_escapes
        self.depth = 0
        self._special: dict[str, Callable[[], str]] = {"$": self._dollar, "<": self._possible_heredoc}
        if not lexer.plain_quotes:
            self._special |= {"'": self._single_quoted, '"': self._double_quoted}

    def peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def next(self) -> str:
        character = self.peek()
        self.position += 1
        return character

    def until(self, stop: str, keep_escapes: bool) -> tuple[str, list[str]]:
        """Text and words up to the unquoted `stop`, which is consumed; "" is the end."""
        before, self.keep_escapes = self.keep_escapes, keep_escapes
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _Problem(f"substitutions nested deeper than {_DEEPEST}")
        try:
            return self._until(stop)
        finally:
            self.keep_escapes = before
            self.depth -= 1

    def _until(self, stop: str) -> tuple[str, list[str]]:
        result: list[str] = []
        words = _Words()
        while character := self.peek():
            if stop and character == stop:
                self.position += 1
                return "".join(result), words.close()
            special = self._special.get(character)
            if special is not None:
                part = special()
                result.append(part)
                if character == "$":
                    words.add(part)
                else:
                    words.add_raw(part)
                continue
            self.position += 1
            if character == self.lexer.escape:
                if self.keep_escapes:
                    words.add_raw(character)
                    result.append(character)
                character = self.next()
                if not character:
                    break
                words.add_raw(character)
            else:
                words.add(character)
            result.append(character)
        if stop:
            raise _Problem(f"unexpected end of statement while looking for matching {stop}")
        return "".join(result), words.close()

    def _single_quoted(self) -> str:
        """Everything up to the next one; nothing is special inside."""
        end = self.text.find("'", self.position + 1)
        if end < 0:
            self.position = len(self.text)
            raise _Problem("unexpected end of statement while looking for matching single-quote")
        kept = self.lexer.keep_quotes
        inside = self.text[self.position + (not kept) : end + kept]
        self.position = end + 1
        return inside

    def _double_quoted(self) -> str:
        """Up to the next one; `$` is special, and the escape character before `"`, `$` and itself."""
        result = [self.next()] if self.lexer.keep_quotes else []
        if not self.lexer.keep_quotes:
            self.position += 1
        while character := self.peek():
            if character == "$":
                result.append(self._dollar())
                continue
            self.position += 1
            if character == '"':
                if self.lexer.keep_quotes:
                    result.append(character)
                return "".join(result)
            if character == self.lexer.escape:
                if self.keep_escapes:
                    result.append(character)
                if not self.peek():
                    continue
                if self.peek() in ('"', "$", self.lexer.escape):
                    character = self.next()
            result.append(character)
        raise _Problem("unexpected end of statement while looking for matching double-quote")

    def _possible_heredoc(self) -> str:
        """`<<` keeps the blanks after it, so that the word which ends the document stays with it."""
        self.position += 1
        if self.peek() != "<":
            return "<"
        self.position += 1
        start = self.position
        while self.peek() and self.peek() in "\t\r\n ":
            self.position += 1
        return "<<" + self.text[start : self.position]

    def _value(self, name: str) -> str | None:
        value = self.variables.get(name)
        (self.unmatched if value is None else self.matched).add(name)
        return value

    def _name(self) -> str:
        """Letters, digits and `_`; digits first are a name by themselves, and so is one special character."""
        start = self.position
        first = self.peek()
        if first.isdecimal():
            while self.peek().isdecimal():
                self.position += 1
        elif first and first in _SPECIAL_PARAMETERS:
            self.position += 1
        else:
            while (character := self.peek()) and (character.isalpha() or character.isdecimal() or character == "_"):
                self.position += 1
        return self.text[start : self.position]

    def _dollar(self) -> str:
        self.position += 1
        if self.peek() == "{":
            self.position += 1
            return self._braced()
        name = self._name()
        if not name:
            return "$"
        value = self._value(name)
        if value is None:
            return "$" + name if self.lexer.keep_unset else ""
        return value

    def _braced(self) -> str:
        match self.peek():
            case "":
                raise _Problem("syntax error: missing '}'")
            case "{" | "}" | ":":
                raise _Problem("syntax error: bad substitution")
        name = self._name()
        operator = self.next()
        match operator:
            case "}":
                value = self._value(name)
                if value is None:
                    return "${" + name + "}" if self.lexer.keep_unset else ""
                return value
            case ":":
                return self._modified(name, ":", self.next())
            case "+" | "-" | "?" | "#" | "%":
                return self._modified(name, "", operator)
            case "/":
                return self._substituted(name)
            case "":
                raise _Problem("syntax error: missing '}'")
            case _:
                raise _Problem(f"unsupported modifier ({operator}) in substitution")

    def _operand(self, stop: str, keep_escapes: bool, missing: str) -> str:
        try:
            return self.until(stop, keep_escapes)[0]
        except _Problem:
            if not self.peek():
                raise _Problem(missing) from None
            raise

    def _modified(self, name: str, colon: str, operator: str) -> str:
        trims = operator in ("#", "%")
        word = self._operand("}", trims, "syntax error: missing '}'")
        value = self._value(name)
        if value is None and self.lexer.keep_unset:
            return "${" + name + colon + operator + word + "}"
        absent = value is None or (bool(colon) and value == "")
        match operator:
            case "-":
                return word if absent else value or ""
            case "+":
                return "" if absent else word
            case "?":
                if absent:
                    state = "unset" if value is None else "empty"
                    raise _Problem(f"{name}: {word or f'is not allowed to be {state}'}")
                return value or ""
            case "#" | "%":
                longest = word.startswith(operator)
                cut = without_prefix if operator == "#" else without_suffix
                return _patterned(word, cut, value or "", word[longest:], longest)
        raise _Problem(f"unsupported modifier ({colon}{operator}) in substitution")

    def _substituted(self, name: str) -> str:
        everywhere = self.peek() == "/"
        self.position += everywhere
        pattern = self._operand("/", True, "syntax error: missing '/' in ${}")
        replacement = self._operand("}", True, "syntax error: missing '}'")
        value = self._value(name)
        if value is None and self.lexer.keep_unset:
            return "${" + name + "/" + "/" * everywhere + pattern + "/" + replacement + "}"
        return _patterned(pattern, replaced, value or "", pattern, replacement, everywhere)


def _patterned(pattern: str, function: Callable[..., str], *arguments: object) -> str:
    try:
        return function(*arguments)
    except InvalidPattern as problem:
        raise _Problem(f"invalid pattern ({pattern}) in substitution: {problem}") from None
