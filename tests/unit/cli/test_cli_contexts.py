"""Contexts: which engine a command is for, and the files that tell."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from wherry.cli import contextfiles, contexts
from wherry.cli.endpoint import context_name, resolve
from wherry.cli.errors import Failure
from wherry.cli.flags import Flags, parse
from wherry.cli.main import main
from wherry.cli.table import GLOBAL_FLAGS

PEM = b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
ENVIRONMENT = (
    *("WHERRY_HOST", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"),
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "docker"
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    yield folder


def root(*words: str) -> Flags:
    return parse(GLOBAL_FLAGS, list(words), mixed=False)[0]


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["context", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_files_are_dockers(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ca").write_bytes(PEM)
    made = ask(capsys, "create", "foo", "--description", "a b", "--docker", f"host=tcp://h:1,ca={tmp_path / 'ca'}")
    assert made == (0, "foo\n", 'Successfully created context "foo"\n')
    digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
    meta = folder / "contexts" / "meta" / digest / "meta.json"
    assert meta.read_text() == (
        '{"Name":"foo","Metadata":{"Description":"a b"},'
        '"Endpoints":{"docker":{"Host":"tcp://h:1","SkipTLSVerify":false}}}'
    )
    key = folder / "contexts" / "tls" / digest / "docker" / "ca.pem"
    assert key.read_bytes() == PEM
    assert key.stat().st_mode & 0o777 == 0o600
    endpoint = resolve(root("--context", "foo"))
    assert endpoint.host == "tcp://h:1"
    assert endpoint.tls is not None
    assert (endpoint.tls.ca, endpoint.tls.cert, endpoint.tls.verify) == (str(key), "", True)


def test_which_context_counts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two", "three"):
        ask(capsys, "create", name, "--docker", f"host=tcp://{name}:1")
    assert (context_name(root()), resolve(root()).host) == ("default", "unix:///run/wherry/wherry.sock")
    assert ask(capsys, "use", "one") == (0, "one\n", 'Current context is now "one"\n')
    assert (context_name(root()), resolve(root()).host) == ("one", "tcp://one:1")
    monkeypatch.setenv("DOCKER_CONTEXT", "two")
    assert resolve(root()).host == "tcp://two:1"
    assert resolve(root("-c", "three")).host == "tcp://three:1"
    assert (context_name(root("-H", "tcp://x:2")), resolve(root("-H", "tcp://x:2")).host) == ("default", "tcp://x:2")
    monkeypatch.setenv("DOCKER_HOST", "tcp://y:3")
    assert resolve(root()).host == "tcp://y:3"
    monkeypatch.setenv("WHERRY_HOST", "tcp://z:4")
    assert resolve(root()).host == "tcp://z:4"
    assert "WHERRY_HOST environment variable overrides" in ask(capsys, "ls")[2]
    with pytest.raises(Failure, match="cannot specify both --host and --context"):
        resolve(root("-c", "one", "-H", "tcp://x:1"))
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.delenv("WHERRY_HOST")
    monkeypatch.delenv("DOCKER_CONTEXT")
    ask(capsys, "use", "default")
    assert context_name(root()) == "default"


def test_a_context_that_is_not_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failure, match='unable to resolve wherry endpoint: context "gone": context not found: open '):
        resolve(root("-c", "gone"))
    monkeypatch.setenv("DOCKER_CONTEXT", "gone")
    code, out, _ = ask(capsys, "ls")
    assert code == 0
    assert "gone *" in out
    assert 'context "gone": context not found' in out
    assert ask(capsys, "show")[1] == "gone\n"
    for words in (("use", "gone"), ("inspect", "gone"), ("update", "gone"), ("export", "gone")):
        code, _, err = ask(capsys, *words)
        assert code == 1
        assert err.startswith('context "gone": context not found: open ')


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("create", "default"), '"default" is a reserved context name'),
        (("create", "b d"), 'context name "b d" is invalid'),
        (("create", "taken"), 'context "taken" already exists'),
        (
            ("create", "xx", "--docker", "foo=bar"),
            "docker endpoint config: unrecognized config key: foo",
        ),
        (("create", "xx", "--docker", "host=tcp://x:1,ca=/nope"), "config: open /nope: no such file or directory"),
        (("create", "xx", "--docker", "skip-tls-verify=zz"), 'skip-tls-verify: parsing "zz": invalid syntax'),
        (("create", "xx", "--docker", "host=ssh://a:b@c"), "plain-text password is not supported"),
        (("create", "xx", "--docker", "host=tcp://x:1,ca=/etc/hostname"), "ca.pem seems invalid"),
        (("create", "xx", "--docker", "host"), "host must be formatted as key=value"),
        (("rm", "default"), 'context "default" cannot be removed'),
        (("rm", "nope"), 'context "nope" does not exist'),
        (("rm", "taken"), 'context "taken" is in use, set -f flag to force remove'),
        (("update", "default"), '"default" is a reserved context name'),
        (("import", "taken", "x"), 'context "taken" already exists'),
        (("import", "xx", "nope"), "open nope: no such file or directory"),
    ],
)
def test_what_is_refused(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str) -> None:
    ask(capsys, "create", "taken", "--docker", "host=tcp://x:1")
    ask(capsys, "use", "taken")
    code, _, err = ask(capsys, *words)
    assert code in (1, 125)
    assert message in err
    assert contexts.names() == ["taken"]


def test_listing_updating_and_removing(capsys: pytest.CaptureFixture[str]) -> None:
    ask(capsys, "create", "first", "--docker", "host=ssh://u@h")
    ask(capsys, "create", "copy", "--from", "first", "--description", "of the first")
    assert ask(capsys, "update", "first", "--description", "new")[0] == 0
    ask(capsys, "use", "first")
    assert ask(capsys, "ls")[1].splitlines() == [
        "NAME      DESCRIPTION                               DOCKER ENDPOINT                  ERROR",
        "copy      of the first                              ssh://u@h                        ",
        "default   Current DOCKER_HOST based configuration   unix:///run/wherry/wherry.sock   ",
        "first *   new                                       ssh://u@h                        ",
    ]
    assert ask(capsys, "ls", "-q")[1] == "copy\ndefault\nfirst\n"
    assert json.loads(ask(capsys, "ls", "--format", "json")[1].splitlines()[0]) == {
        "Current": False,
        "Description": "of the first",
        "DockerEndpoint": "ssh://u@h",
        "Error": "",
        "Name": "copy",
    }
    assert ask(capsys, "inspect", "-f", "{{.Name}} {{.Endpoints.docker.Host}}")[1] == "first ssh://u@h\n"
    (shown,) = json.loads(ask(capsys, "inspect", "copy")[1])
    assert (shown["Name"], shown["Metadata"], shown["TLSMaterial"]) == ("copy", {"Description": "of the first"}, {})
    assert ask(capsys, "rm", "-f", "first", "copy") == (0, "first\ncopy\n", "")
    assert ask(capsys, "show")[1] == "default\n"
    assert contexts.names() == []


def test_out_and_in_again(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path / "ca")
    client = authority.issue("client")
    docker = f"host=tcp://h:1,ca={authority.cert},cert={client.cert},key={client.key}"
    ask(capsys, "create", "whole", "--docker", docker)
    monkeypatch.chdir(tmp_path)
    assert ask(capsys, "export", "whole") == (0, "", 'Written file "whole.dockercontext"\n')
    assert (tmp_path / "whole.dockercontext").stat().st_mode & 0o777 == 0o600
    assert ask(capsys, "export", "whole")[2] == "open whole.dockercontext: file exists\n"
    assert ask(capsys, "import", "again", "whole.dockercontext")[:2] == (0, "again\n")
    before, after = contexts.load("whole"), contexts.load("again")
    assert (after.host, after.tls) == (before.host, before.tls)
    assert set(after.tls) == set(contexts.FILES)
    assert after.document["Name"] == "again"


def _tar(*entries: tuple[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, data in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()


META = b'{"Name":"x","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://h:1"}}}'


def test_a_zip_is_as_good() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("meta.json", META)
        archive.writestr("tls/docker/ca.pem", PEM)
    found = contextfiles.unpack("new", target.getvalue())
    assert (found.name, found.host, found.tls) == ("new", "tcp://h:1", {"ca.pem": PEM})


def test_a_tar_may_end_with_its_last_byte() -> None:
    """Docker writes neither the padding of the last file nor the end of the archive."""
    whole = _tar(("meta.json", META), ("tls/docker/ca.pem", PEM))
    cut = whole[: whole.index(PEM) + len(PEM)]
    assert contextfiles.unpack("new", cut).tls == {"ca.pem": PEM}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an exported context"),
        (b"PK\x03\x04nonsense", "not an exported context"),
        (b"x" * 2048, "not an exported context"),
        (_tar(), "no metadata found"),
        (_tar(("meta.json", b"[]")), "no metadata found"),
        (_tar(("meta.json", b"{")), "not an exported context"),
        (_tar(("meta.json", META), ("../../evil", b"x")), "unexpected file in the exported context: ../../evil"),
        (_tar(("meta.json", META), ("tls/docker/../x", b"x")), "unexpected file in the exported context"),
        (_tar(("meta.json", META), ("tls/docker/id_rsa", b"x")), "unexpected file in the exported context"),
        (b"x" * (contextfiles.MAX_SIZE + 1), "larger than"),
    ],
    ids=range(10),
)
def test_files_that_are_no_context(data: bytes, message: str) -> None:
    with pytest.raises(Failure) as caught:
        contextfiles.unpack("new", data)
    assert message in caught.value.text


def test_tls_by_flags_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(root()).tls is None
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    (certificates / "cert.pem").write_bytes(PEM)
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates))
    tls = resolve(root("--tlsverify", "--tlscacert", "/c")).tls
    assert tls is not None
    assert (tls.ca, tls.cert, tls.key, tls.verify) == ("/c", str(certificates / "cert.pem"), "", True)
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    tls = resolve(root()).tls
    assert tls is not None
    assert (tls.ca, tls.verify) == (str(certificates / "ca.pem"), True)
    tls = resolve(root("--tlsverify=false")).tls
    assert tls is not None
    assert not tls.verify


def test_an_address_that_is_none() -> None:
    with pytest.raises(Failure, match="invalid bind address format: foo://x"):
        resolve(root("-H", "foo://x"))
    with pytest.raises(Failure, match="Specify only one -H"):
        resolve(root("-H", "tcp://x:1", "-H", "tcp://y:1"))
