"""Where credentials are kept: config.json, which other clients share, and helper programs."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from wherry.cli import credentials
from wherry.cli.credentials import HUB_KEY, HelperFailed, Store, hostname, key_of
from wherry.cli.errors import Failure

HELPER = """\
#!/bin/sh
# A helper whose keyring is a file: {keyring}
case $1 in
store) cat >{keyring} ;;
get) read -r key; [ -s {keyring} ] || {{ echo credentials not found in native keychain; exit 1; }}; cat {keyring} ;;
erase) cat >{keyring}.erased; : >{keyring} ;;
list) echo '{{"a.b:5000":"u"}}' ;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a helper named `test`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    found = tmp_path / "keyring"
    helper = programs / "docker-credential-test"
    helper.write_text(HELPER.format(keyring=found))
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return found


def write(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(text)


def read(folder: Path) -> str:
    return (folder / "config.json").read_text()


@pytest.mark.parametrize(
    ("server", "key"),
    [
        ("", HUB_KEY),
        ("docker.io", HUB_KEY),
        ("https://index.docker.io/v1/", HUB_KEY),
        ("localhost:5000", "localhost:5000"),
        ("http://a.b:5000/v2/", "a.b:5000"),
        ("a.b/v1/", "a.b"),
    ],
)
def test_keys(server: str, key: str) -> None:
    assert key_of(server) == key
    assert hostname(key) in (key, "index.docker.io")


def test_kept_and_forgotten(folder: Path) -> None:
    store = Store()
    assert store.get("a.b") == {}
    assert not store.put("a.b", "u", "p:q", "")
    assert json.loads(read(folder)) == {"auths": {"a.b": {"auth": base64.b64encode(b"u:p:q").decode()}}}
    assert stat.S_IMODE((folder / "config.json").stat().st_mode) == 0o600
    assert Store().get("a.b") == {"username": "u", "password": "p:q"}
    store.erase("a.b")
    assert json.loads(read(folder)) == {"auths": {}}
    assert os.listdir(folder) == ["config.json"]  # nothing half-written


def test_an_identity_token_takes_the_place_of_the_password(folder: Path) -> None:
    Store().put("a.b", "u", "secret", "token")
    assert Store().get("a.b") == {"username": "u", "identitytoken": "token"}
    assert b"secret" not in base64.b64decode(json.loads(read(folder))["auths"]["a.b"]["auth"])


def test_what_is_not_known_stays_to_the_digit(folder: Path) -> None:
    write(
        folder, '{"zeta":{"b":1.50,"a":[1e400,{"deep":null}]},"auths":{"c.d":{"auth":"eDp5","new":1}},"HttpHeaders":{}}'
    )
    Store().put("a.b", "u", "p", "")
    text = read(folder)
    assert "1.50" in text and "1e400" in text and '"new": 1' in text
    assert list(json.loads(text)) == ["zeta", "auths", "HttpHeaders"]
    assert text.startswith('{\n\t"zeta": {\n\t\t"b": 1.50')


def test_a_link_stays_a_link(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (tmp_path / "dotfiles").mkdir()
    (folder / "config.json").symlink_to(tmp_path / "dotfiles" / "docker.json")
    Store().put("a.b", "u", "p", "")
    assert (folder / "config.json").is_symlink()
    assert "a.b" in (tmp_path / "dotfiles" / "docker.json").read_text()


@pytest.mark.parametrize("text", ["nonsense", "[1]", '{"auths":'])
def test_a_broken_file_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    write(folder, text)
    assert Store().get("a.b") == {}
    assert "WARNING: Error loading config file" in capsys.readouterr().err
    with pytest.raises(Failure, match="Error loading config file"):
        Store().put("a.b", "u", "p", "")
    with pytest.raises(Failure, match="Error loading config file"):
        Store().erase("a.b")
    assert read(folder) == text


@pytest.mark.parametrize(
    "entry", ['{"auth":"!!"}', '{"auth":"dXNlcg=="}', "5", "null", "{}", '{"auth":"OnA="}', '{"auth":"/w=="}']
)
def test_entries_that_say_nothing(folder: Path, entry: str) -> None:
    write(folder, f'{{"auths":{{"a.b":{entry}}}}}')
    assert Store().get("a.b") == {}


def test_entries_of_old(folder: Path) -> None:
    write(folder, '{"auths":{"https://a.b/v1/":{"auth":"dTpw"},"c.d":{"username":"x","password":"y"}}}')
    assert Store().get("a.b") == {"username": "u", "password": "p"}
    assert Store().get("c.d") == {"username": "x", "password": "y"}
    assert set(Store().all()) == {"https://a.b/v1/", "c.d"}


def test_a_helper_keeps_them(folder: Path, keyring: Path) -> None:
    write(folder, '{"credsStore":"test"}')
    assert Store().get("a.b:5000") == {}
    assert Store().put("a.b:5000", "u", "p", "")
    assert json.loads(keyring.read_text()) == {"ServerURL": "a.b:5000", "Username": "u", "Secret": "p"}
    assert json.loads(read(folder)) == {"credsStore": "test", "auths": {"a.b:5000": {}}}
    assert Store().get("a.b:5000") == {"username": "u", "password": "p"}
    assert Store().all() == {"a.b:5000": {"username": "u", "password": "p", "serveraddress": "a.b:5000"}}
    Store().put("a.b:5000", "u", "p", "token")
    assert Store().get("a.b:5000") == {"identitytoken": "token"}
    Store().erase("a.b:5000")
    assert Store().get("a.b:5000") == {}
    assert Path(f"{keyring}.erased").read_text() == "https://a.b:5000"
    assert json.loads(read(folder))["auths"] == {}


def test_a_helper_for_one_registry(folder: Path, keyring: Path) -> None:
    write(folder, '{"credsStore":"absent","credHelpers":{"a.b":"test","c.d":""}}')
    assert Store().put("a.b", "u", "p", "")
    assert not Store().put("c.d", "x", "y", "")  # none for this one
    with pytest.raises(HelperFailed) as told:
        Store().put("e.f", "u", "p", "")
    assert str(told.value) == (
        'error storing credentials - err: exec: "docker-credential-absent": executable file not found in $PATH, out: ``'
    )
    assert "e.f" not in read(folder)


def test_a_helper_that_is_no_name_is_not_run(folder: Path, tmp_path: Path) -> None:
    program = tmp_path / "docker-credential-x"
    program.write_text("#!/bin/sh\ntouch ran\n")
    program.chmod(0o755)
    write(folder, json.dumps({"credsStore": f"../{tmp_path.name}/x"}))
    with pytest.raises(HelperFailed, match="is not the name of a program"):
        Store().get("a.b")


def test_headers(folder: Path, keyring: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store().put("a.b:5000", "u", "p", "")
    Store().put(HUB_KEY, "hub", "h", "")

    def decoded(header: dict[str, str], name: str = "X-Registry-Auth") -> object:
        return json.loads(base64.urlsafe_b64decode(header[name]))

    given = {"username": "u", "password": "p", "serveraddress": "a.b:5000"}
    hub = {"username": "hub", "password": "h", "serveraddress": HUB_KEY}
    assert decoded(credentials.header("a.b:5000/x/y:1")) == given
    assert decoded(credentials.header("mysql")) == decoded(credentials.header("user/name@sha256:" + "0" * 64)) == hub
    assert credentials.header("other.host/x") == credentials.header("NOT A NAME") == {}
    assert decoded(credentials.header_for_all(), "X-Registry-Config") == {"a.b:5000": given, HUB_KEY: hub}
    write(folder, '{"credsStore":"absent"}')
    assert credentials.header("a.b:5000/x") == {}
    assert "WARNING: error getting credentials" in capsys.readouterr().err
