"""The template language, against what Go's text/template prints for the same (each expectation was seen there)."""

from __future__ import annotations

from typing import Any

import pytest

from wherry.model.jsontext import Number
from wherry.model.template import TemplateError, parse

DATA: dict[str, Any] = {
    "Name": "web",
    "Count": 3,
    "Ratio": 1.5,
    "On": True,
    "Off": False,
    "Nothing": None,
    "Empty": "",
    "List": ["a", "b", "c"],
    "NoList": [],
    "Map": {"b": "2", "a": "1"},
    "Deep": {"Inner": {"Leaf": "x"}},
    "Ports": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "81/udp": None},
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "web"),
        ("{{ .Name }}-{{.Count}}", "web-3"),
        ("{{.Deep.Inner.Leaf}}", "x"),
        ("{{.Ratio}} {{.On}} {{.Off}}", "1.5 true false"),
        ("{{.List}} {{.Map}}", "[a b c] map[a:1 b:2]"),
        ("{{.Nothing}}|{{.Missing}}", "<no value>|<no value>"),
        ("{{.Ports}}", "map[80/tcp:[map[HostIp:127.0.0.1 HostPort:8080]] 81/udp:<nil>]"),
        ("a {{- .Name -}} b", "awebb"),
        ("a {{- /* note */ -}} b", "ab"),
        ("{{/* note */}}x", "x"),
        ("{{if .On}}y{{else}}n{{end}}", "y"),
        ("{{if .Off}}y{{else if .Name}}m{{else}}n{{end}}", "m"),
        ("{{if .NoList}}y{{end}}", ""),
        ("{{if and .On .Name}}y{{end}}{{if or .Off .Empty}}z{{end}}", "y"),
        ('{{and 1 0}} {{or 0 "x"}} {{not 0}}', "0 x true"),
        ("{{range .List}}{{.}},{{end}}", "a,b,c,"),
        ("{{range $i, $e := .List}}{{$i}}={{$e}};{{end}}", "0=a;1=b;2=c;"),
        ("{{range $k, $v := .Map}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
        ("{{range .NoList}}x{{else}}none{{end}}", "none"),
        ("{{range .Nothing}}x{{else}}none{{end}}", "none"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ('{{range .List}}{{if eq . "b"}}{{break}}{{end}}{{.}}{{end}}', "a"),
        ('{{range .List}}{{if eq . "b"}}{{continue}}{{end}}{{.}}{{end}}', "ac"),
        ("{{with .Deep}}{{.Inner.Leaf}}{{end}}{{with .Empty}}x{{else}}e{{end}}", "xe"),
        ("{{with $x := .Name}}{{$x}}{{$.Count}}{{end}}", "web3"),
        ("{{$x := 1}}{{if .On}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if .On}}{{$x := 2}}{{end}}{{$x}}", "1"),
        ('{{(index .Ports "80/tcp") | len}}', "1"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ('{{index .Map "a"}} {{index .Map "zz"}}|{{index .List 1}} {{index "abc" 1}}', "1 |b 98"),
        ("{{slice .Name 1 2}} {{slice .List 1}}", "e [b c]"),
        ("{{len .Name}} {{len .List}} {{len .Map}}", "3 3 2"),
        (
            '{{eq .Count 3}} {{ne .Name "x"}} {{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge 2.5 1.5}}',
            "true true true true false true",
        ),
        ('{{eq .Name "x" "web"}}', "true"),
        ("{{eq .Nothing nil}}", "true"),
        ('{{print 1 2 "a" "b" 3}}|{{println 1 2}}', "1 2ab3|1 2\n"),
        (
            '{{printf "%s %d %5.2f|%-4d|%04d|%x|%q|%v|%t" .Name .Count 3.14159 4 4 255 "a\\"b" nil true}}',
            'web 3  3.14|4   |0004|ff|"a\\"b"|<nil>|true',
        ),
        ('{{printf "%d" .Name}} {{printf "%s"}} {{printf "%d" 1 2}}', "%!d(string=web) %!s(MISSING) 1%!(EXTRA int=2)"),
        (
            '{{printf "%c%U %+d %6s|%-6s|%.2s %T %%" 65 65 3 .Name .Name .Name .Count}}',
            "AU+0041 +3    web|web   |we int %",
        ),
        ('{{.Name | upper | printf "%s-%s" "x"}}', "x-WEB"),
        ('{{upper .Name}} {{lower "AB"}} {{title "ab cd"}}', "WEB ab Ab Cd"),
        ('{{join (split "a_b_c" "_") "+"}} {{pad "x" 2 1}}| {{truncate "abcdef" 3}}', "a+b+c   x | abc"),
        (
            '{{json .Map}} {{json .Nothing}} {{json "a<b>&\\u00e9"}} {{json .List}}',
            '{"a":"1","b":"2"} null "a<b>&é" ["a","b","c"]',
        ),
        ('{{html "<a>&\'"}} {{js "a\'b"}} {{urlquery "a b&c"}}', "&lt;a&gt;&amp;&#39; a\\'b a+b%26c"),
        (
            "{{1.5e3}} {{0x1F}} {{1_000}} {{'a'}} {{true}} {{`raw\\n`}} {{\"tab\\t\"}}",
            "1500 31 1000 97 true raw\\n tab\t",
        ),
    ],
)
def test_renders(template: str, expected: str) -> None:
    assert parse(template).render(DATA) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{", "template: :1: unclosed action"),
        ("{{.Name", "template: :1: unclosed action"),
        ("{{.Name}", "template: :1: bad character U+007D '}'"),
        ("{{nope}}", 'template: :1: function "nope" not defined'),
        ("{{if}}", "template: :1: missing value for if"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{if .On}}x", "template: :1: unexpected EOF"),
        ("{{$y}}", 'template: :1: undefined variable "$y"'),
        ("{{.Name.}}", "template: :1: unexpected <.> in operand"),
        ("{{.Name | 3}}", "template: :1: non executable command in pipeline stage 2"),
        ("{{break}}", "template: :1: {{break}} outside {{range}}"),
        ('{{"a}}', "template: :1: unterminated quoted string"),
        ("a\n{{/* x", "template: :2: unclosed comment"),
        ("{{(.Name}}", "template: :1: unclosed left paren"),
        ("{{.Name)}}", "template: :1: unexpected right paren"),
    ],
)
def test_refuses_to_parse(template: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        parse(template)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.Name.X}}", 'template: :1:7: executing "" at <.Name.X>: can\'t evaluate field X in type string'),
        ("{{.Nothing.X}}", 'template: :1:10: executing "" at <.Nothing.X>: nil pointer evaluating interface {}.X'),
        (
            "\n {{index .List 9}}",
            'template: :2:3: executing "" at <index .List 9>: error calling index: index out of range: 9',
        ),
        (
            "{{index .List 3}}",
            'template: :1:2: executing "" at <index .List 3>: error calling index: reflect: slice index out of range',
        ),
        (
            '{{eq 1 "a"}}',
            'template: :1:2: executing "" at <eq 1 "a">: error calling eq: incompatible types for comparison',
        ),
        ("{{len 3}}", 'template: :1:2: executing "" at <len 3>: error calling len: len of type int'),
        (
            "{{truncate .Name}}",
            'template: :1:2: executing "" at <truncate>: wrong number of args for truncate: want 2 got 1',
        ),
        ("{{range .Name}}{{end}}", 'template: :1:8: executing "" at <.Name>: range can\'t iterate over web'),
        ("{{nil}}", 'template: :1:2: executing "" at <nil>: nil is not a command'),
        ("{{.Map.a 1}}", 'template: :1:6: executing "" at <.Map.a>: a is not a method but has arguments'),
    ],
)
def test_fails_to_execute(template: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        parse(template).render(DATA)
    assert str(caught.value) == message


def test_strict_names_the_missing_key() -> None:
    with pytest.raises(TemplateError, match=r'executing "" at <\.Deep\.No>: map has no entry for key "No"'):
        parse("{{.Deep.No}}").render(DATA, strict=True)


def test_exact_numbers_are_texts_to_printf() -> None:
    value = {"Memory": Number("67108864")}
    assert parse('{{.Memory}} {{printf "%d" .Memory}} {{json .Memory}}').render(value) == (
        "67108864 %!d(json.Number=67108864) 67108864"
    )


def test_name_of_the_template_is_in_errors() -> None:
    with pytest.raises(TemplateError, match="template: version:1: unclosed action"):
        parse("{{", name="version")
