"""Pure rules of registries: challenges, scopes, error answers, proxies, endpoints, credentials, retries, search."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidParameter
from wherry.model import challenges, credentials, proxies, registry_errors
from wherry.model.challenges import Challenge, merge_scopes
from wherry.model.credentials import Credentials
from wherry.model.filters import Filters
from wherry.model.proxies import Proxies, proxy_for
from wherry.model.registry_hosts import (
    READING,
    certificates,
    default_endpoints,
    directory_names,
    is_insecure,
    parse_hosts,
    split_port,
)
from wherry.model.search import Found, check_limit, split_term, wanted
from wherry.registry.errors import RegistryError, Untrusted, redacted
from wherry.registry.hosts import is_named
from wherry.registry.logins import domain_of
from wherry.registry.retrying import Retries, retry_after
from wherry.registry.threads import Threads

PRINTED = st.characters(exclude_categories=("Cc", "Cs"))  # what a header may hold

# --- challenges


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Basic realm="x"', [Challenge("basic", {"realm": "x"})]),
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
            [
                Challenge(
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        (
            'Bearer realm="r" , error="insufficient_scope", Basic realm="b"',
            [Challenge("bearer", {"realm": "r", "error": "insufficient_scope"}), Challenge("basic", {"realm": "b"})],
        ),
        ('Bearer realm="a \\"quoted\\" word"', [Challenge("bearer", {"realm": 'a "quoted" word'})]),
        ("BEARER REALM=plain", [Challenge("bearer", {"realm": "plain"})]),
        ("Negotiate", [Challenge("negotiate", {})]),
        ("", []),
    ],
)
def test_challenges(header: str, found: list[Challenge]) -> None:
    assert challenges.parse([header]) == found


@given(st.lists(st.text(max_size=200), max_size=3))
def test_any_header_is_read_in_bounded_time(headers: list[str]) -> None:
    assert isinstance(challenges.parse(headers), list)


@given(st.dictionaries(st.sampled_from(["realm", "service", "scope", "error"]), st.text(PRINTED, max_size=30)))
def test_quoted_parameters_round_trip(parameters: dict[str, str]) -> None:
    quoted = ",".join(
        '{}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"')) for name, value in parameters.items()
    )
    (found,) = challenges.parse([f"Bearer {quoted}"])
    assert found.parameters == parameters


def test_scopes_of_one_resource_are_one() -> None:
    scopes = ["repository:b:pull", "repository:a:push,pull", "repository:b:pull,push", "nonsense"]
    assert merge_scopes(scopes) == ("repository:a:pull,push", "repository:b:pull,push")
    assert merge_scopes(["repository:host:5000/a:pull"]) == ("repository:host:5000/a:pull",)


# --- error answers


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (
            404,
            '{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}',
            "manifest unknown: manifest unknown",
        ),
        (404, '{"errors":[{"code":"NAME_UNKNOWN"}]}', "name unknown: repository name not known to registry"),
        (401, "nonsense", "unauthorized: authentication required"),
        (401, '{"details":"incorrect username or password"}', "unauthorized: incorrect username or password"),
        (
            403,
            '{"errors":[{"code":"DENIED","message":"no"},{"code":"X","message":"y"}]}',
            "errors:\ndenied: no\nx: y\n",
        ),
        (429, "slow down", "toomanyrequests: slow down"),
        (429, "", "toomanyrequests: too many requests"),
        (500, "whatever", "received unexpected HTTP status: 500 Internal Server Error"),
        (400, "<html>", "unknown: <html>"),
        (403, "go away", "denied: go away"),
        (404, "", "unknown: 404 Not Found"),
        (
            404,
            '{"errors":[]}',
            'error parsing HTTP 404 response body: no error details found in HTTP response body: "{\\"errors\\":[]}"',
        ),
    ],
)
def test_what_an_error_answer_says(status: int, body: str, words: str) -> None:
    assert registry_errors.words(registry_errors.problems(status, [], body.encode())) == words


def test_an_error_in_a_challenge_comes_first() -> None:
    challenge = Challenge("bearer", {"error": "insufficient_scope"})
    told = registry_errors.problems(401, [challenge], b'{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}')
    assert [problem.code for problem in told] == ["DENIED", "UNAUTHORIZED"]


@given(st.integers(100, 599), st.binary(max_size=300))
def test_any_answer_says_something(status: int, body: bytes) -> None:
    assert registry_errors.words(registry_errors.problems(status, [], body))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["errors", "code", "message"]), inner),
    max_leaves=8,
)


@given(json_values)
def test_any_json_says_something(value: object) -> None:
    assert registry_errors.words(registry_errors.problems(404, [], json.dumps(value).encode()))


def test_secrets_in_addresses_are_not_shown() -> None:
    url = "https://user:pass@store.example:8443/a/b?X-Amz-Signature=abc&ns=docker.io#x"
    assert redacted(url) == "https://store.example:8443/a/b?X-Amz-Signature=REDACTED&ns=docker.io"


# --- proxies


@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("", "example.org", False),
        ("example.org", "example.org", True),
        ("example.org", "sub.example.org", True),
        ("example.org", "badexample.org", False),
        (".example.org", "example.org", False),
        (".example.org", "sub.example.org", True),
        ("*.example.org", "sub.example.org", True),
        ("example.org:5000", "example.org", True),
        ("example.org:443", "example.org", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("2001:db8::/32", "2001:db8::1", True),
        ("[2001:db8::1]:5000", "2001:db8::1", True),
        ("*", "example.org", True),
        (" a , EXAMPLE.org ", "Example.Org", True),
        ("10.0.0.0/99,example.org", "example.org", True),
        ("", "localhost", True),
        ("", "127.0.0.9", True),
        ("", "::1", True),
    ],
)
def test_no_proxy(no_proxy: str, host: str, direct: bool) -> None:
    given = Proxies(https="http://proxy:3128", no_proxy=no_proxy)
    assert (proxy_for(given, "https", host, 5000) == "") is direct


def test_proxies_by_scheme() -> None:
    given = proxies.from_environment({"HTTP_PROXY": "plain:1", "https_proxy": "http://secure:2", "NO_PROXY": "x"})
    assert given == Proxies("plain:1", "http://secure:2", "x")
    assert proxy_for(given, "http", "a.b", 80) == "http://plain:1"
    assert proxy_for(given, "https", "a.b", 443) == "http://secure:2"
    assert proxies.from_environment({"HTTP_PROXY": "x", "REQUEST_METHOD": "GET"}).http == ""
    with pytest.raises(InvalidParameter, match="proxies of kind socks5 are not supported"):
        proxy_for(Proxies(https="socks5://x"), "https", "a.b", 443)


# --- endpoints


def test_endpoints_without_hosts_toml() -> None:
    (own,) = default_endpoints("registry.example:5000", mirrors={"https://m/": False})
    assert own.base == "https://registry.example:5000/v2" and own.tls.verify and not own.plain_base and own.origin
    (loose,) = default_endpoints("localhost:5000", insecure=True)
    assert (loose.plain_base, loose.tls.verify) == ("http://localhost:5000/v2", False)
    mirror, hub = default_endpoints("docker.io", mirrors={"https://m/sub/": False})
    assert (mirror.base, mirror.origin, mirror.capabilities) == ("https://m/sub/v2", False, READING)
    assert hub.base == "https://registry-1.docker.io/v2"


@pytest.mark.parametrize(
    ("host", "addresses", "names", "insecure"),
    [
        ("localhost:5000", ["127.0.0.1"], (), True),
        ("localhost", ["::1"], (), True),
        ("127.1.2.3:5000", [], (), True),
        ("[::1]:5000", [], (), True),
        ("a.b", ["127.0.0.1"], (), False),
        ("a.b", ["127.0.0.1", "192.0.2.1"], (), False),
        ("127.0.0.1.a.b", ["192.0.2.1"], (), False),
        ("a.b", ["192.0.2.1", "198.51.100.1"], ("192.0.2.0/24",), False),
        ("a.b", ["192.0.2.1"], (), False),
        ("a.b", ["192.0.2.1"], ("192.0.2.0/24",), True),
        ("a.b:5000", [], ("a.b:5000",), True),
        ("a.b:5000", [], ("a.b",), True),
        ("a.b:5001", [], ("a.b:5000",), False),
        ("a.b", ["fe80::1%eth0"], ("fe80::/10",), True),
    ],
)
def test_insecure(host: str, addresses: list[str], names: tuple[str, ...], insecure: bool) -> None:
    assert is_insecure(host, addresses, names) is insecure


def test_names_of_directories() -> None:
    assert directory_names("a.b") == ("a.b",)
    assert directory_names("a.b:5000") == ("a.b:5000", "a.b_5000_")
    assert directory_names("[::1]:5000") == ("[::1]:5000", "[::1]_5000_")
    assert split_port("[::1]:5000") == ("::1", "5000")


def test_docker_layout_of_certificates() -> None:
    found = certificates(Path("/c"), ["b.crt", "a.crt", "x.cert", "x.key", "README"])
    assert found.authorities == (Path("/c/a.crt"), Path("/c/b.crt"))
    assert found.clients == ((Path("/c/x.cert"), Path("/c/x.key")),)
    with pytest.raises(InvalidParameter, match=r"missing client certificate x\.cert for key x\.key"):
        certificates(Path("/c"), ["x.key"])


def test_hosts_toml() -> None:
    document = {
        "server": "https://real.example",
        "host": {
            "https://mirror.example/sub": {"client": [["c.pem", "k.pem"]], "ca": ["a", "/b"], "dial_timeout": "1.5s"},
            "mirror2.example:8443": {"capabilities": ["resolve"], "skip_verify": True},
            "https://real.example": {"capabilities": ["pull"]},
        },
    }
    first, second, third, own = parse_hosts(document, Path("/c"), "registry.example")
    assert first.base == "https://mirror.example/sub/v2" and first.namespace == "registry.example" and not first.origin
    assert first.tls.authorities == (Path("/c/a"), Path("/b"))
    assert first.tls.clients == ((Path("/c/c.pem"), Path("/c/k.pem")),) and first.connect_seconds == 1.5
    assert second.base == "https://mirror2.example:8443/v2" and not second.tls.verify
    assert third.origin and third.capabilities == {"pull"}  # the registry itself, by another entry
    assert own.base == "https://real.example/v2" and own.origin
    (loose,) = parse_hosts({}, Path("/c"), "localhost:5000", insecure=True)
    assert loose.plain_base == "http://localhost:5000/v2"


def test_headers_are_not_shown() -> None:
    (own,) = parse_hosts({"header": {"Authorization": "secret"}}, Path("/c"), "a.b")
    assert own.headers == (("Authorization", "secret"),) and "secret" not in repr(own)


# --- credentials


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def test_credentials_of_a_header() -> None:
    given = credentials.decode(encoded({"Username": "u", "password": "p", "serveraddress": "s", "email": "e"}))
    assert (given.username, given.password, given.server_address) == ("u", "p", "s")
    assert credentials.decode(encoded({"auth": base64.b64encode(b"u:p:q").decode()})).password == "p:q"
    assert (
        credentials.decode("") == credentials.decode(encoded({})) == credentials.decode(encoded(None)) == Credentials()
    )
    assert credentials.decode(encoded({"identitytoken": "t"})).given
    assert "secret" not in repr(Credentials(username="u", password="secret", identity_token="secret"))
    with pytest.raises(InvalidParameter, match="invalid X-Registry-Auth header"):
        credentials.decode("!!")
    with pytest.raises(InvalidParameter, match="invalid X-Registry-Auth header"):
        credentials.decode(encoded(["list"]))


def test_credentials_for_many() -> None:
    many = {"a.b": Credentials(username="u", password="p", server_address="a.b")}
    assert credentials.decode_many(credentials.encode_many(many)) == many
    assert credentials.decode_many("") == {}


@given(st.text(max_size=60))
def test_any_header_is_credentials_or_refused(text: str) -> None:
    try:
        assert isinstance(credentials.decode(text), Credentials)
    except InvalidParameter as error:
        assert "X-Registry-Auth" in str(error)


@given(st.builds(Credentials, username=st.text(), password=st.text(), identity_token=st.text()))
def test_credentials_round_trip(given: Credentials) -> None:
    assert credentials.decode(credentials.encode(given)) == given


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("localhost:5000", "localhost:5000"),
        ("http://a.b:5000/v2/", "a.b:5000"),
        ("https://user:secret@a.b/", "a.b"),
    ],
)
def test_registry_of_a_server_address(address: str, domain: str) -> None:
    assert domain_of(address) == domain


# --- retries


def test_pauses_grow_and_end() -> None:
    retries = Retries(most=5, first=1.0, longest=4.0)
    pauses = [retries.pause(failed, None) for failed in range(1, 6)]
    assert pauses[-1] is None
    for pause, most in zip(pauses[:-1], (1.0, 2.0, 4.0, 4.0), strict=True):
        assert pause is not None and most / 2 <= pause <= most


def test_what_is_repeated() -> None:
    retries = Retries(patience=10.0)
    assert retries.pause_after(1, RegistryError("x", retryable=True)) is not None
    assert retries.pause_after(1, RegistryError("x")) is None
    assert retries.pause_after(1, Untrusted("x", retryable=True)) is None
    assert retries.pause_after(1, RegistryError("x", status=429, retryable=True)) is None
    soon = retries.pause_after(1, RegistryError("x", status=429, retryable=True, retry_after=5.0))
    assert soon is not None and soon >= 5.0
    assert retries.pause_after(1, RegistryError("x", status=503, retryable=True, retry_after=3600.0)) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5.0),
        ("", None),
        ("nonsense", None),
        ("-5", None),
        ("9" * 30, None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert retry_after(text) == seconds


# --- search


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("mysql", ("docker.io", "mysql")),
        ("user/mysql", ("docker.io", "user/mysql")),
        ("docker.io/library/mysql", ("docker.io", "mysql")),
        ("localhost/x", ("localhost", "x")),
        ("127.0.0.1:5000/a/b", ("127.0.0.1:5000", "a/b")),
        ("127.0.0.1:5000/", ("127.0.0.1:5000", "")),
    ],
)
def test_where_a_term_is_searched(term: str, found: tuple[str, str]) -> None:
    assert split_term(term) == found


def test_a_term_with_a_scheme() -> None:
    with pytest.raises(InvalidParameter, match=r"repository name \(http://x/y\) should not have a scheme"):
        split_term("http://x/y")


def test_search_filters() -> None:
    all_found = [Found("a", stars=5, official=True), Found("b", stars=50), Found("c", stars=500)]

    def names(**fields: list[str]) -> list[str]:
        filters = Filters({name.replace("_", "-"): tuple(values) for name, values in fields.items()})
        return [found.name for found in wanted(filters).choose(all_found)]

    assert names() == ["a", "b", "c"]
    assert names(is_official=["true"]) == ["a"]
    assert names(is_official=["0"]) == ["b", "c"]
    assert names(stars=["10", "100"]) == ["c"]
    assert names(is_automated=["true"]) == []
    with pytest.raises(InvalidParameter, match=r"invalid filter 'is-official=\[x\]'"):
        names(is_official=["x"])
    with pytest.raises(InvalidParameter, match=r"invalid filter 'stars=x': strconv.Atoi"):
        names(stars=["x"])
    with pytest.raises(InvalidParameter, match="invalid filter 'nope'"):
        names(nope=["x"])


def test_search_limit() -> None:
    assert check_limit(0) == 25 and check_limit(100) == 100
    for limit in (-1, 101):
        with pytest.raises(InvalidParameter, match=rf"limit {limit} is outside the range of \[1, 100\]"):
            check_limit(limit)


@pytest.mark.parametrize(
    ("domain", "entries", "named"),
    [
        ("r.example:5000", ("r.example:5000",), True),
        ("r.example:5000", ("r.example",), False),
        ("127.0.0.1:5000", ("127.0.0.0/8",), True),
        ("127.0.0.1:5000", ("10.0.0.0/8", "fd00::/8"), False),
        ("nowhere.invalid", ("10.0.0.0/8",), False),
    ],
)
async def test_registries_named_by_host_or_network(domain: str, entries: tuple[str, ...], named: bool) -> None:
    threads = Threads()
    assert await is_named(domain, entries, threads) is named
    threads.close()
