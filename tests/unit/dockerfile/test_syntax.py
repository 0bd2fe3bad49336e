"""Text to instructions: lines, comments, directives, here-documents, and no crash whatever the bytes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wherry.model.dockerfile.checks import Checks
from wherry.model.dockerfile.source import DockerfileError, Lines, frame, nearest
from wherry.model.dockerfile.stages import arrange
from wherry.model.dockerfile.syntax import Heredoc, Pair, parse, parse_heredoc


def words(text: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(node.name, node.arguments.words) for node in parse(text.encode()).nodes]


def test_an_instruction_goes_on_where_a_line_ends_in_the_escape_character() -> None:
    text = "RUN a \\\n  # a comment\n\n  b \\  \n c\nENV x=1"
    assert words(text) == [("RUN", ("a   b  c",)), ("ENV", ())]
    document = parse(text.encode())
    assert [node.lines for node in document.nodes] == [Lines(1, 5), Lines(6, 6)]
    assert document.empty_continuations == (Lines(1, 5),)


def test_the_escape_character_can_be_chosen() -> None:
    assert words("# escape=`\nRUN a `\n b\\\nRUN c") == [("RUN", ("a  b\\",)), ("RUN", ("c",))]


def test_an_escaped_escape_character_does_not_continue() -> None:
    assert words("RUN a\\\\\nRUN b") == [("RUN", ("a\\\\",)), ("RUN", ("b",))]


def test_directives_end_with_the_first_line_that_is_none() -> None:
    document = parse(b"# syntax=a/b:1\n#check = skip=X; error=true \n# other\n# escape=`\nFROM x")
    assert document.directives == {"syntax": "a/b:1", "check": "skip=X; error=true"}
    assert document.escape == "\\"


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("# escape=x\nFROM a", "invalid escape token 'x' does not match ` or \\", 1),
        ("# check=a\n# check=b\nFROM a", "only one check parser directive can be used", 2),
        ("# nothing\n\n", "file with no instructions", 2),
        ("FROM a\nRUN <<EOF\nx\n", "unterminated heredoc", 2),
        ("FROM a\nCMD [1]", "when using JSON array syntax, arrays must be comprised of strings only", 2),
    ],
)
def test_errors_tell_their_line(text: str, message: str, line: int) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(text.encode())
    assert str(caught.value) == message
    assert caught.value.lines is not None and caught.value.lines.first == line


def test_windows_line_ends_and_a_byte_order_mark_are_not_part_of_it() -> None:
    assert words("\ufeffFROM a\r\nRUN b \\\r\n c\r\n") == [("FROM", ("a",)), ("RUN", ("b  c",))]


def test_comments_before_an_instruction_are_its_own_until_an_empty_line() -> None:
    document = parse(b"# one\n\n# two\n#three\nFROM a\n# four\n#\nRUN b")
    assert [node.comments for node in document.nodes] == [("two", "three"), ()]


def test_here_documents_are_read_in_the_order_of_their_words() -> None:
    (node,) = parse(b"COPY <<A <<-\"B\" 3<<'C D' /x\nfirst $x\nA\n\tsecond\n\tB\nthird\nC D\n").nodes
    assert node.heredocs == (
        Heredoc("A", "first $x\n", True, False, 0),
        Heredoc("B", "\tsecond\n", False, True, 0),
        Heredoc("C D", "third\n", False, False, 3),
    )
    assert node.heredocs[1].text == "second\n"
    assert node.lines == Lines(1, 7)


@pytest.mark.parametrize(
    "text", ['RUN ["a", "<<EOF"]', "ENV a=<<EOF", "RUN echo '<<EOF'", "RUN a <<<EOF", "CMD x <<EOF"]
)
def test_what_only_looks_like_a_here_document(text: str) -> None:
    (node,) = parse(text.encode()).nodes
    assert node.heredocs == ()


def test_bytes_of_a_here_document_come_out_as_they_went_in() -> None:
    (node,) = parse(b"COPY <<E /\n\xff\xfe\r\n\nE\n").nodes
    assert node.heredocs[0].content.encode("utf-8", "surrogateescape") == b"\xff\xfe\r\n\n"


def test_pairs_keep_quotes_and_know_the_old_form() -> None:
    first, second = parse(b"ENV a='x y' b=\\ c\nLABEL a b  c ").nodes
    assert first.arguments.pairs == (Pair("a", "'x y'"), Pair("b", "\\ c"))
    assert second.arguments.pairs == (Pair("a", "b  c", legacy=True),)


@pytest.mark.parametrize(
    ("text", "flags", "rest"),
    [
        ("RUN --a --b=c d", ("--a", "--b=c"), ("d",)),
        ("RUN --a='x y' \"--b\" c", ("--a=x y",), ('"--b" c',)),
        ("RUN --a -- --b", ("--a",), ("--b",)),
        ("RUN -a", (), ("-a",)),
        ("RUN --a\\ b=c d", ("--a b=c",), ("d",)),
    ],
)
def test_flags_come_first(text: str, flags: tuple[str, ...], rest: tuple[str, ...]) -> None:
    (node,) = parse(text.encode()).nodes
    assert (node.flags, node.arguments.words) == (flags, rest)


def test_json_is_a_list_of_strings_or_it_is_a_text() -> None:
    texts = ['["a", "b\\u00e9"]', "[a]", '["a"', '{"a": 1}', "[NaN]", "[" * 5000, '["a"] x']
    nodes = [parse(f"RUN {text}".encode()).nodes[0] for text in texts]
    assert [node.arguments.json for node in nodes] == [True, False, False, False, False, False, True]
    assert nodes[0].arguments.words == ("a", "bé")


def test_a_trigger_is_an_instruction_of_its_own() -> None:
    (node,) = parse(b"ONBUILD COPY --from=x <<E /\nx\nE\n").nodes
    assert node.arguments.trigger is not None
    assert node.arguments.trigger.flags == ("--from=x",)
    assert node.heredocs[0].name == "E"


@given(st.binary(max_size=300))
@example(b"FROM a\nRUN <<\n")
@example(b"ONBUILD ONBUILD ONBUILD\n")
@example(b"ENV \\")
@example(b"HEALTHCHECK\n")
@example(b"\x00 \xff\n")
@example(b"RUN " + b"[" * 2000)
@example(b"ENV a=" + b"${a:-" * 1000)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        arrange(parse(data), Checks())
    except DockerfileError as error:
        assert str(error)
        assert error.framed("Dockerfile", data.decode("utf-8", "surrogateescape"))


_PIECES = [
    "FROM a", "RUN", "COPY", "ADD", "ENV", "ONBUILD", "HEALTHCHECK", "--mount=", "--from=", "<<EOF", "<<-'E'", "EOF",
    "\n", " ", "\\", "\\\n", '"', "'", "[", "]", '["a"]', "a=b", "$a", "${a", "}", "#", "# escape=`\n", "`", "\t", "x",
    "CMD", "--interval=5s", "type=cache,", "\r\n", "é",
]  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES), max_size=30).map("".join))
def test_any_arrangement_of_its_parts_is_read_or_refused(text: str) -> None:
    try:
        arrange(parse(text.encode()), Checks())
    except DockerfileError as error:
        assert str(error)


def test_heredoc_words() -> None:
    assert parse_heredoc("<<EOF") == Heredoc("EOF")
    assert parse_heredoc("2<<-'E O'") == Heredoc("E O", expand=False, chomp=True, descriptor=2)
    assert parse_heredoc("<<a b") is None
    assert parse_heredoc("<<<EOF") is None
    assert parse_heredoc("EOF") is None


def test_a_frame_shows_what_is_around() -> None:
    text = "\n".join("abcdefg")
    assert frame("f", text, Lines(4, 4)).split("\n") == [
        "f:4",
        "-" * 20,
        "   2 |     b",
        "   3 |     c",
        "   4 | >>> d",
        "   5 |     e",
        "   6 |     f",
        "-" * 20,
    ]
    assert frame("f", text, Lines(1, 2)).count("\n") == 5


@pytest.mark.parametrize(
    ("word", "found"), [("RUNN", "RUN"), ("COPI", "COPY"), ("RUN", ""), ("REPORT", ""), ("ENC", "ENV")]
)
def test_suggestions_are_at_most_two_edits_away(word: str, found: str) -> None:
    assert nearest(word, ["RUN", "COPY", "ENV", "EXPOSE"]) == found
