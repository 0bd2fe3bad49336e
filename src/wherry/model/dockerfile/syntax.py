"""Bytes of a Dockerfile to instructions with their places: directives, comments, continued lines, here-documents.

What an instruction's words mean is not decided here (`instructions`), only how its text falls into them.
Source: Dockerfile reference, "Format", "Parser directives", "Here-Documents".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct, field

from wherry.model.dockerfile.expansion import Lexer
from wherry.model.dockerfile.source import BLANK, BLANKS, DockerfileError, Lines, left_trimmed, trimmed
from wherry.model.gotext import quote

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
DIRECTIVES = frozenset({"syntax", "escape", "check"})

_SPACES = re.compile(r"[\t\v\f\r ]+")
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*\Z")
_HEREDOC = re.compile(r"(\d*)<<(-?)[\t\n\f\r ]*([^<]*)", re.ASCII)
_LEADING_TABS = re.compile(r"^\t+", re.MULTILINE)
_WITH_HEREDOCS = frozenset({"add", "copy", "run"})


class Heredoc(Struct, frozen=True):
    """A here-document. `expand`: its word was not quoted; `chomp`: written `<<-`. `content` as it stands."""

    name: str
    content: str = ""
    expand: bool = True
    chomp: bool = False
    descriptor: int = 0

    @property
    def text(self) -> str:
        """The content, without leading tabs if so asked."""
        return _LEADING_TABS.sub("", self.content) if self.chomp else self.content


class Pair(Struct, frozen=True):
    """`key=value`; `legacy` if a blank stood for the `=`."""

    key: str
    value: str
    legacy: bool = False


class Arguments(Struct, frozen=True):
    """What follows an instruction's name and flags. Only one of the shapes is filled, by the instruction."""

    words: tuple[str, ...] = ()
    json: bool = False
    pairs: tuple[Pair, ...] = ()
    trigger: Node | None = None  # of ONBUILD


class Node(Struct, frozen=True):
    """One instruction. `name` as written, `original` the line with its continuations joined, `comments` those right
    before it."""

    name: str
    arguments: Arguments
    lines: Lines
    original: str = ""
    flags: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()

    @property
    def keyword(self) -> str:
        return self.name.lower()


class Document(Struct, frozen=True):
    """A Dockerfile as read. `directives` by name; `empty_continuations` are instructions with blank lines inside."""

    nodes: tuple[Node, ...]
    escape: str = "\\"
    directives: Mapping[str, str] = field(default_factory=dict)
    empty_continuations: tuple[Lines, ...] = ()


def decoded(data: bytes) -> str:
    """The text, bytes that are not UTF-8 kept as surrogates, so that a here-document comes out as it went in."""
    return data.removeprefix(BYTE_ORDER_MARK).decode("utf-8", "surrogateescape")


def parse(data: bytes) -> Document:
    """Raises DockerfileError."""
    return _Parser(decoded(data)).document()


def parse_trigger(text: str, lines: Lines) -> Node:
    """The one instruction that ONBUILD left in an image, placed at `lines`. Raises DockerfileError."""
    nodes = parse(text.encode("utf-8", "surrogateescape")).nodes
    if len(nodes) != 1:
        raise DockerfileError("onbuild trigger should be a single expression", lines)
    node = nodes[0]
    return Node(node.name, node.arguments, lines, node.original, node.flags, (), node.heredocs)


def parse_heredoc(word: str) -> Heredoc | None:
    """`[n]<<[-]NAME`, quotes around any part of the name; None if the word is something else."""
    match = _HEREDOC.fullmatch(word)
    if match is None or not match[3]:
        return None
    plain = Lexer(keep_unset=True).expand(match[3], {}).words
    if len(plain) != 1:
        return None
    raw = Lexer(keep_quotes=True, keep_unset=True).expand(match[3], {}).words
    if len(raw) != 1:
        raise DockerfileError(f"internal lexing of heredoc produced inconsistent results: {match[3]}")
    return Heredoc(
        plain[0], expand=_quotes(plain[0]) == _quotes(raw[0]), chomp=bool(match[2]), descriptor=_number(match[1])
    )


def _number(digits: str) -> int:
    return int(digits[:9] or "0")


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')


class _Parser:
    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        if self._lines[-1] == "":
            self._lines.pop()
        self._current = 0  # how many lines have been read
        self._escape = "\\"
        self._continued = _continuation(self._escape)
        self._directives: dict[str, str] = {}
        self._directives_over = False
        self._empty: list[Lines] = []

    def document(self) -> Document:
        nodes = tuple(self._nodes())
        if not nodes:
            raise DockerfileError("file with no instructions", Lines(max(self._current, 1), max(self._current, 1)))
        return Document(nodes, self._escape, self._directives, tuple(self._empty))

    def _nodes(self) -> Iterator[Node]:
        comments: list[str] = []
        while self._current < len(self._lines):
            raw = self._lines[self._current]
            self._current += 1
            line = left_trimmed(_without_return(raw))
            if self._directive(line):
                continue
            if line.startswith("#"):
                comment = trimmed(line[1:])
                comments = [*comments, comment] if comment else []
                continue
            first = self._current
            line, complete = self._joined(line)
            if complete and not line:
                comments = []
                continue
            if not complete:
                line = self._rest(line, first)
            yield self._node(line, first, tuple(comments))
            comments = []

    def _directive(self, line: str) -> bool:
        """Whether the line is one, which it is then no comment."""
        if self._directives_over:
            return False
        match = _DIRECTIVE.match(line)
        name = match[1].lower() if match else ""
        if match is None or name not in DIRECTIVES:
            self._directives_over = True
            return False
        here = Lines(self._current, self._current)
        if name in self._directives:
            raise DockerfileError(f"only one {name} parser directive can be used", here)
        self._directives[name] = match[2]
        if name == "escape":
            if match[2] not in ("\\", "`"):
                raise DockerfileError(f"invalid escape token '{match[2]}' does not match ` or \\", here)
            self._escape = match[2]
            self._continued = _continuation(match[2])
        return True

    def _joined(self, line: str) -> tuple[str, bool]:
        """The line without the sign that it goes on, and whether it ends here."""
        match = self._continued.search(line)
        return (line[: match.start(1)], False) if match else (line, True)

    def _rest(self, line: str, first: int) -> str:
        """The line with those that continue it; comments between are dropped, blank lines too but remembered."""
        parts = [line]
        empty = complete = False
        while not complete and self._current < len(self._lines):
            following = _without_return(self._lines[self._current])
            self._current += 1
            self._directives_over = True
            stripped = left_trimmed(following)
            if stripped.startswith("#"):
                continue
            if not stripped:
                empty = True
                continue
            part, complete = self._joined(following)
            parts.append(part)
        if empty:
            self._empty.append(Lines(first, self._current))
        return "".join(parts)

    def _node(self, line: str, first: int, comments: tuple[str, ...]) -> Node:
        try:
            name, flags, arguments = _instruction(line, self._escape)
            heredocs = tuple(self._heredocs(name, arguments, line, first))
        except DockerfileError as error:
            raise error.at(Lines(first, self._current)) from None
        return Node(name, arguments, Lines(first, self._current), line, flags, comments, heredocs)

    def _heredocs(self, name: str, arguments: Arguments, line: str, first: int) -> Iterator[Heredoc]:
        if name.lower() == "onbuild" and arguments.trigger is not None:
            name, arguments = arguments.trigger.name, arguments.trigger.arguments
        if name.lower() not in _WITH_HEREDOCS or arguments.json or "<<" not in line:
            return
        for heredoc in _heredocs_of(line):
            content: list[str] = []
            while self._current < len(self._lines):
                raw = self._lines[self._current]
                self._current += 1
                ending = _without_return(raw)
                if (ending.lstrip("\t") if heredoc.chomp else ending) == heredoc.name:
                    break
                content.append(raw + "\n")
            else:
                raise DockerfileError("unterminated heredoc", Lines(first, self._current))
            yield Heredoc(heredoc.name, "".join(content), heredoc.expand, heredoc.chomp, heredoc.descriptor)


def _without_return(line: str) -> str:
    return line.rstrip("\r")


def _continuation(escape: str) -> re.Pattern[str]:
    """The escape character as the last one that is no blank, and not itself escaped."""
    sign = re.escape(escape)
    return re.compile(rf"(?:(?<=[^{sign}])|\A)({sign}[ \t]*)\Z", re.DOTALL)


def _heredocs_of(line: str) -> list[Heredoc]:
    try:
        words = Lexer(keep_quotes=True, keep_escapes=True, keep_unset=True).expand(line, {}).words
    except DockerfileError:
        return []
    return [found for found in map(parse_heredoc, words) if found is not None]


def _instruction(line: str, escape: str) -> tuple[str, tuple[str, ...], Arguments]:
    name, _, rest = _partitioned(trimmed(line))
    rest, flags = _flags(rest)
    return name, flags, _ARGUMENTS.get(name.lower(), _ignored)(trimmed(rest), escape)


def _partitioned(text: str) -> tuple[str, str, str]:
    match = _SPACES.search(text)
    return (text[: match.start()], match[0], text[match.end() :]) if match else (text, "", "")


def _flags(line: str) -> tuple[str, tuple[str, ...]]:
    """Words that begin with `--`, quotes and escapes resolved, up to the first other word or a lone `--`."""
    flags: list[str] = []
    position = 0
    while True:
        while position < len(line) and BLANK.match(line[position]):
            position += 1
        if not line.startswith("--", position):
            return line[position:], tuple(flags)
        word, position = _flag(line, position)
        if word == "--":
            return line[position:], tuple(flags)
        flags.append(word)


def _flag(line: str, position: int) -> tuple[str, int]:
    word: list[str] = []
    quoting = ""
    while position < len(line):
        character = line[position]
        position += 1
        if character == "\\":
            word.append(line[position : position + 1])
            position += 1
        elif quoting:
            if character == quoting:
                quoting = ""
            else:
                word.append(character)
        elif BLANK.match(character):
            break
        elif character in "'\"":
            quoting = character
        else:
            word.append(character)
    return "".join(word), position


def words_of(text: str, escape: str) -> list[str]:
    """Split at blanks outside quotes; quotes and escapes stay in."""
    words: list[str] = []
    word: list[str] = []
    quoting = ""
    quoted = False  # an empty pair of quotes is a word too
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if not quoting and BLANK.match(character):
            if word or quoted:
                words.append("".join(word))
            word, quoted = [], False
            continue
        if character == escape and quoting != "'":
            if position == len(text):
                break
            word += [character, text[position]]
            position += 1
            continue
        if quoting:
            if character == quoting:
                quoting = ""
        elif character in "'\"":
            quoting, quoted = character, True
        word.append(character)
    if word or quoted:
        words.append("".join(word))
    return words


def _ignored(rest: str, escape: str) -> Arguments:
    return Arguments()


def _whole(rest: str, escape: str) -> Arguments:
    return Arguments((rest,) if rest else ())


def _split(rest: str, escape: str) -> Arguments:
    return Arguments(tuple(_SPACES.split(rest)) if rest else ())


def _lexed(rest: str, escape: str) -> Arguments:
    return Arguments(tuple(words_of(rest, escape)))


def _json_or_whole(rest: str, escape: str) -> Arguments:
    listed = _listed(rest) if rest else None
    return Arguments(listed, json=True) if listed is not None else _whole(rest, escape)


def _json_or_split(rest: str, escape: str) -> Arguments:
    listed = _listed(rest)
    return Arguments(listed, json=True) if listed is not None else _split(rest, escape)


def _listed(rest: str) -> tuple[str, ...] | None:
    """The strings of a JSON list; None if it is no JSON list. Raises DockerfileError if it holds other things."""
    rest = left_trimmed(rest)
    if not rest.startswith("["):
        return None
    try:
        value, _ = _JSON.raw_decode(rest)  # what comes behind it counts for nothing
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list):
        return None
    if not all(isinstance(item, str) for item in value):
        raise DockerfileError("when using JSON array syntax, arrays must be comprised of strings only")
    return tuple(value)


def _no_constant(name: str) -> None:
    """NaN and Infinity are Python's, not JSON's."""
    raise ValueError(name)


_JSON = json.JSONDecoder(parse_constant=_no_constant)


def _health(rest: str, escape: str) -> Arguments:
    match = BLANKS.search(rest)
    if match is None:
        return _whole(rest, escape)
    command = _json_or_whole(rest[match.end() :], escape)
    return Arguments((rest[: match.start()], *command.words), json=command.json)


def _triggered(rest: str, escape: str) -> Arguments:
    if not rest:
        return Arguments()
    name, flags, arguments = _instruction(rest, escape)
    words = (name, *arguments.words, *(part for pair in arguments.pairs for part in (pair.key, pair.value)))
    return Arguments(words, trigger=Node(name, arguments, Lines(0, 0), rest, flags))


def _pairs_of(keyword: str) -> Callable[[str, str], Arguments]:
    def pairs(rest: str, escape: str) -> Arguments:
        words = words_of(rest, escape)
        if not words:
            return Arguments()
        if "=" not in words[0]:
            key, blanks, value = _partitioned(rest)
            if not blanks:
                raise DockerfileError(f"{keyword} must have two arguments")
            return Arguments(pairs=(Pair(key, value, legacy=True),))
        found = []
        for word in words:
            key, equals, value = word.partition("=")
            if not equals:
                raise DockerfileError(
                    f"Syntax error - can't find = in {quote(word)}. Must be of the form: name=value",
                )
            found.append(Pair(key, value))
        return Arguments(pairs=tuple(found))

    return pairs


_ARGUMENTS: dict[str, Callable[[str, str], Arguments]] = {
    "add": _json_or_split,
    "arg": _lexed,
    "cmd": _json_or_whole,
    "copy": _json_or_split,
    "entrypoint": _json_or_whole,
    "env": _pairs_of("ENV"),
    "expose": _split,
    "from": _split,
    "healthcheck": _health,
    "label": _pairs_of("LABEL"),
    "maintainer": _whole,
    "onbuild": _triggered,
    "run": _json_or_whole,
    "shell": _json_or_whole,
    "stopsignal": _whole,
    "user": _whole,
    "volume": _json_or_split,
    "workdir": _whole,
}
KEYWORDS = tuple(sorted(_ARGUMENTS))
