"""Bodies as Go's encoding/json reads them; the messages are a real engine's, taken down from one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.api import decode, gojson
from wherry.errors import InvalidParameter
from wherry.model.config import Config, ExecConfig, HostConfig

JSON = "application/json"

WRONG_TYPES = [
    ('{"Cmd":5}', "number into Go struct field ContainerConfigWrapper.Config.Cmd of type string"),
    ('{"Cmd":[5]}', "array into Go struct field ContainerConfigWrapper.Config.Cmd of type string"),
    ('{"Entrypoint":true}', "bool into Go struct field ContainerConfigWrapper.Config.Entrypoint of type string"),
    ('{"Image":5}', "number into Go struct field ContainerConfigWrapper.Config.Image of type string"),
    ('{"Env":"x"}', "string into Go struct field ContainerConfigWrapper.Config.Env of type []string"),
    ('{"Env":[5]}', "number into Go struct field ContainerConfigWrapper.Config.Env of type string"),
    ('{"Labels":["x"]}', "array into Go struct field ContainerConfigWrapper.Config.Labels of type map[string]string"),
    ('{"Labels":{"x":5}}', "number into Go struct field ContainerConfigWrapper.Config.Labels of type string"),
    ('{"Tty":1}', "number into Go struct field ContainerConfigWrapper.Config.Tty of type bool"),
    (
        '{"ExposedPorts":["x"]}',
        "array into Go struct field ContainerConfigWrapper.Config.ExposedPorts of type nat.PortSet",
    ),
    (
        '{"ExposedPorts":{"80":5}}',
        "number into Go struct field ContainerConfigWrapper.Config.ExposedPorts of type struct {}",
    ),
    (
        '{"Volumes":["x"]}',
        "array into Go struct field ContainerConfigWrapper.Config.Volumes of type map[string]struct {}",
    ),
    ('{"StopTimeout":"x"}', "string into Go struct field ContainerConfigWrapper.Config.StopTimeout of type int"),
    (
        '{"Healthcheck":{"Interval":"5s"}}',
        "string into Go struct field HealthcheckConfig.Config.Healthcheck.Interval of type time.Duration",
    ),
    ('{"HostConfig":[]}', "array into Go struct field ContainerConfigWrapper.HostConfig of type container.HostConfig"),
    (
        '{"HostConfig":{"Memory":"x"}}',
        "string into Go struct field HostConfig.HostConfig.Resources.Memory of type int64",
    ),
    (
        '{"HostConfig":{"Memory":1.5}}',
        "number 1.5 into Go struct field HostConfig.HostConfig.Resources.Memory of type int64",
    ),
    (
        '{"HostConfig":{"BlkioWeight":70000}}',
        "number 70000 into Go struct field HostConfig.HostConfig.Resources.BlkioWeight of type uint16",
    ),
    (
        '{"HostConfig":{"PortBindings":{"80/tcp":5}}}',
        "number into Go struct field HostConfig.HostConfig.PortBindings of type []nat.PortBinding",
    ),
    (
        '{"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":80}]}}}',
        "number into Go struct field PortBinding.HostConfig.PortBindings.HostPort of type string",
    ),
    (
        '{"HostConfig":{"RestartPolicy":"always"}}',
        "string into Go struct field HostConfig.HostConfig.RestartPolicy of type container.RestartPolicy",
    ),
    (
        '{"HostConfig":{"Ulimits":[{"Soft":"x"}]}}',
        "string into Go struct field Ulimit.HostConfig.Resources.Ulimits.Soft of type int64",
    ),
    (
        '{"HostConfig":{"Mounts":[{"BindOptions":{"Propagation":5}}]}}',
        "number into Go struct field BindOptions.HostConfig.Mounts.BindOptions.Propagation of type mount.Propagation",
    ),
    (
        '{"HostConfig":{"ConsoleSize":[-1,2]}}',
        "number -1 into Go struct field HostConfig.HostConfig.ConsoleSize of type uint",
    ),
    (
        '{"HostConfig":{"DeviceRequests":[{"Capabilities":["x"]}]}}',
        "string into Go struct field DeviceRequest.HostConfig.Resources.DeviceRequests.Capabilities of type []string",
    ),
    (
        '{"NetworkingConfig":{"EndpointsConfig":[]}}',
        "array into Go struct field NetworkingConfig.NetworkingConfig.EndpointsConfig of type "
        "map[string]*network.EndpointSettings",
    ),
    (
        '{"NetworkingConfig":{"EndpointsConfig":{"x":{"IPAMConfig":{"IPv4Address":5}}}}}',
        "number into Go struct field EndpointIPAMConfig.NetworkingConfig.EndpointsConfig.IPAMConfig.IPv4Address "
        "of type string",
    ),
    ("[]", "array into Go value of type runconfig.ContainerConfigWrapper"),
    ('"x"', "string into Go value of type runconfig.ContainerConfigWrapper"),
]

BAD_SYNTAX = [
    ("{", "unexpected EOF"),
    ('{"Image":"a', "unexpected EOF"),
    ('{"Image":"x",}', "invalid character '}' looking for beginning of object key string"),
    ('{"Image":"x" "y":1}', "invalid character '\"' after object key:value pair"),
    ("{Image:1}", "invalid character 'I' looking for beginning of object key string"),
    ('{"Image":"x\\u12"}', "invalid character '\"' in \\u hexadecimal character escape"),
    ('{"Image":tru}', "invalid character '}' in literal true (expecting 'e')"),
    ('{"Image":01}', "invalid character '1' after object key:value pair"),
    ('{"Image":-}', "invalid character '}' in numeric literal"),
    ('{"Image":1.}', "invalid character '}' after decimal point in numeric literal"),
    ('{"Env":[1 2]}', "invalid character '2' after array element"),
    ('{"Image" 1}', "invalid character '1' after object key"),
    ("x", "invalid character 'x' looking for beginning of value"),
    ('{"X":' + "[" * 300, "invalid character '[' exceeded max depth"),
]

CONTENT_TYPES = [
    ("text/plain", "unsupported Content-Type header (text/plain): must be 'application/json'"),
    ("x", "unsupported Content-Type header (x): must be 'application/json'"),
    ("/", "malformed Content-Type header (/): mime: no media type"),
    ("", "malformed Content-Type header (): mime: no media type"),
    (
        "application/json;charset",
        "malformed Content-Type header (application/json;charset): mime: invalid media parameter",
    ),
]


@pytest.mark.parametrize(("body", "message"), WRONG_TYPES)
def test_wrong_types_are_told_in_the_real_engines_words(body: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        decode.create_body(JSON, body.encode())
    assert str(caught.value) == f"invalid JSON: json: cannot unmarshal {message}"


@pytest.mark.parametrize(("body", "message"), BAD_SYNTAX)
def test_bad_syntax_is_told_in_gos_words(body: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        decode.create_body(JSON, body.encode())
    assert str(caught.value) == f"invalid JSON: {message}"


@pytest.mark.parametrize(("header", "message"), CONTENT_TYPES)
def test_content_types(header: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        decode.create_body(header, b"{}")
    assert str(caught.value) == message


@pytest.mark.parametrize("header", ["application/json", "APPLICATION/JSON", "application/json; charset=utf-8"])
def test_content_types_that_are_json(header: str) -> None:
    assert decode.create_body(header, b'{"Image":"x"}')[0] == Config(image="x")


def test_nothing_of_a_config() -> None:
    assert decode.create_body(JSON, b"{}") == (None, None, None)
    assert decode.create_body(JSON, b"null") == (None, None, None)
    assert decode.create_body(JSON, b'{"HostConfig":{}}') == (None, HostConfig(), None)


def test_trailing_content() -> None:
    for data in (b'{"Image":"x"} x', b'{"Image":"x"}{}'):
        with pytest.raises(InvalidParameter, match=r"^unexpected content after JSON$"):
            decode.create_body(JSON, data)


def test_absent_body() -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid JSON: got EOF while reading request body$"):
        decode.create_body(None, b"")
    assert decode.body(ExecConfig, None, b"", optional=True) == ExecConfig()


def test_keys_match_whatever_their_case_and_the_last_counts() -> None:
    config, host, _ = decode.create_body(
        JSON, b'{"image":"a","IMAGE":"b","cmd":"x","hostconfig":{"memory":5,"consolesize":[1]},"Unknown":[1]}'
    )
    assert config == Config(image="b", cmd=["x"])
    assert host == HostConfig(memory=5, console_size=(1, 0))


def test_null_leaves_the_default() -> None:
    config, host, networking = decode.create_body(
        JSON,
        b'{"Image":"a","Tty":null,"Cmd":null,"Env":[null],"HostConfig":{"Memory":null,"Ulimits":[null]},'
        b'"NetworkingConfig":{"EndpointsConfig":{"x":null}}}',
    )
    assert config is not None
    assert (config.tty, config.cmd, config.env) == (False, None, [""])
    assert host is not None
    assert host.memory == 0
    assert networking is not None
    assert networking.endpoints_config == {"x": None}


def test_a_body_that_is_any_object() -> None:
    assert decode.body(dict[str, Any], JSON, b'{"a":[1]}') == {"a": [1]}
    assert decode.body(dict[str, Any], JSON, b"null") == {}
    with pytest.raises(InvalidParameter, match="cannot unmarshal array into Go value of type map"):
        decode.body(dict[str, Any], JSON, b"[]")


def test_text_that_is_not_utf8_is_repaired() -> None:
    config, _, _ = decode.create_body(JSON, b'{"Image":"a\xff"}')
    assert config == Config(image="a�")


def test_half_of_a_surrogate_pair_is_repaired() -> None:
    config, _, _ = decode.create_body(JSON, rb'{"Image":"a\ud800b \ud83d\ude00 \\ud800"}')
    assert config == Config(image="a\ufffdb \U0001f600 \\ud800")


@pytest.mark.parametrize(
    "part", ['"Env":["A=\\u0000b"]', '"HostConfig":{"Binds":["/a\\u0000:/b"]}', '"Labels":{"\\u0000":""}']
)
def test_text_with_a_nul_is_refused(part: str) -> None:
    with pytest.raises(InvalidParameter, match="no text may contain a NUL"):
        decode.create_body(JSON, f'{{"Image":"a",{part}}}'.encode())
    assert decode.create_body(JSON, rb'{"Image":"\\u0000"}')[0] == Config(image="\\u0000")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(VALUES, st.sampled_from(["", " ", "\n\t "]))
def test_the_scanner_accepts_all_of_json_and_ends_where_it_ends(value: object, blank: str) -> None:
    data = f"{blank}{json.dumps(value)}".encode()
    assert gojson._scan(data + blank.encode() + b"1") == len(data) or isinstance(value, int | float)
    assert gojson.loads(data + blank.encode()) == json.loads(data)


@given(st.binary(max_size=60))
def test_no_bytes_break_it(data: bytes) -> None:
    try:
        decode.create_body(JSON, data)
    except InvalidParameter as error:
        assert str(error)


@given(
    st.recursive(VALUES, lambda inner: st.dictionaries(st.sampled_from(["HostConfig", "Env", "Cmd", "memory"]), inner))
)
def test_whatever_the_types_it_is_a_config_or_a_message(value: object) -> None:
    try:
        decode.create_body(JSON, json.dumps(value).encode())
    except InvalidParameter as error:
        assert str(error).startswith("invalid JSON: ")


async def test_a_body_that_breaks_off_is_no_json() -> None:
    class Broken:
        async def read(self) -> bytes:
            raise InvalidParameter("unexpected EOF")

    with pytest.raises(InvalidParameter, match=r"^invalid JSON: unexpected EOF$"):
        await decode.bounded(Broken())
