"""`wherry build` over its session: what is sent, secrets, agents, contexts, outputs, and the same image twice."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import msgspec
import pytest

from tests.build.client import SOURCE, Client, dockerfile
from tests.support.daemon import Wherryd, temporary_folder
from tests.support.engine import eventually
from tests.support.images import base_tar, config_json, docker_archive
from wherry.model.file_list import DIGEST_SIZE


def contents(daemon: Wherryd) -> set[bytes]:
    """Digests of what clients have sent, be it in the store or in the first layer that needed it."""
    root = daemon.data / "builds" / "contents"
    moved = [msgspec.msgpack.decode(path.read_bytes()) for path in daemon.data.glob("snapshots/layers/*/contents")]
    return {bytes.fromhex(path.parent.name + path.name) for path in root.glob("??/*")}.union(
        *(known.values() for known in moved)
    )


def test_an_image(client: Client, folder: Path) -> None:
    dockerfile(folder, "FROM wt-base\nCOPY f /f\nRUN cat /f > /g\n")
    (folder / "f").write_text("sent\n")
    client.build(folder, "-t", "wt-session", "--iidfile", f"{folder}/id", "--metadata-file", f"{folder}/metadata")
    assert client.run("wt-session", "cat", "/f", "/g") == "sent\nsent\n"
    image = (folder / "id").read_text()
    assert json.loads((folder / "metadata").read_text())["containerimage.config.digest"] == image
    assert client.build(folder, "-q").stdout == f"{image}\n"


def test_only_what_is_needed_and_not_there_is_sent(client: Client, folder: Path) -> None:
    dockerfile(folder, "FROM wt-base\nCOPY used /used\n")
    (folder / "used").mkdir()
    for number in range(5):
        (folder / "used" / str(number)).write_text(f"used {number} {folder}")
    (folder / "unused").write_text(f"unused {folder}")
    before = contents(client.daemon)
    client.build(folder)
    first = contents(client.daemon) - before
    assert len(first) == 5 and all(len(digest) == DIGEST_SIZE for digest in first)
    (folder / "used" / "3").write_text(f"changed {folder}")
    client.build(folder, "-t", "wt-changed")
    assert len(contents(client.daemon) - before - first) == 1
    assert client.run("wt-changed", "cat", "/used/3") == f"changed {folder}"


def test_what_is_in_a_layer_is_not_sent_again_until_that_is_gone(client: Client, folder: Path) -> None:
    dockerfile(folder, "FROM wt-base\nCOPY used /used\n")
    (folder / "used").mkdir(mode=0o755)
    (folder / "used" / "file").write_text(f"moved {folder}")
    (folder / "used" / "same").write_text(f"moved {folder}")  # moved once, copied once
    (folder / "used" / "same").chmod(0o700)
    client.build(folder, "-t", "wt-moved")
    look = ["wt-moved", "sh", "-c", "cat /used/*; stat -c '%a %u %g %h' /used/*"]
    looked = client.run(*look)
    assert looked == f"moved {folder}" * 2 + "644 0 0 1\n700 0 0 1\n"
    dockerfile(folder, "FROM wt-base\nCOPY used /elsewhere\nRUN cat /elsewhere/file > /copy\n")
    client.build(folder, "-t", "wt-elsewhere")
    assert client.run("wt-elsewhere", "cat", "/copy", "/elsewhere/same") == f"moved {folder}" * 2
    client("rmi", "--force", "wt-moved", "wt-elsewhere")
    client("builder", "prune", "--all", "--force")
    dockerfile(folder, "FROM wt-base\nCOPY used /used\n")
    client.build(folder, "-t", "wt-moved")
    assert client.run(*look) == looked


def test_stages_that_need_the_same_content_at_once_all_get_it(client: Client, folder: Path) -> None:
    stages = [f"FROM wt-base AS s{number}\nCOPY big /big{number}\n" for number in range(4)]
    copies = [f"COPY --from=s{number} /big{number} /\n" for number in range(4)]
    dockerfile(folder, "".join([*stages, "FROM wt-base\n", *copies, "RUN cat /big? | sha256sum > /sum\n"]))
    data = os.urandom(3 << 20)
    (folder / "big").write_bytes(data)
    client.build(folder, "-t", "wt-shared")
    assert client.run("wt-shared", "cat", "/sum").split()[0] == hashlib.sha256(data * 4).hexdigest()


def test_a_step_that_fails_leaves_the_contents_to_others(client: Client, folder: Path) -> None:
    dockerfile(folder, "FROM wt-base\nCOPY file other /etc/passwd/\n")
    for name in ("file", "other"):
        (folder / name).write_text(f"{name} {folder}")
    client.build(folder, code=1)
    dockerfile(folder, "FROM wt-base\nCOPY file other /there/\n")
    client.build(folder, "-t", "wt-left")
    assert client.run("wt-left", "cat", "/there/file") == f"file {folder}"


def test_a_symlink_that_is_copied_brings_what_it_leads_to(client: Client, folder: Path) -> None:
    dockerfile(folder, "FROM wt-base\nCOPY link /f\nCOPY dir/inner /g\n")
    (folder / "real").mkdir()
    (folder / "real" / "file").write_text("behind\n")
    (folder / "real" / "inner").write_text("inside\n")
    (folder / "link").symlink_to("real/file")
    (folder / "dir").symlink_to("real")
    client.build(folder, "-t", "wt-linked")
    assert client.run("wt-linked", "cat", "/f", "/g") == "behind\ninside\n"


def test_ignored_files_stay(client: Client, folder: Path) -> None:
    dockerfile(folder, "FROM wt-base\nCOPY . /all\n")
    (folder / ".dockerignore").write_text("*.log\n!keep.log\nsub\n!sub/kept\n")
    (folder / "sub").mkdir()
    for name in ("a.log", "keep.log", "b", "sub/kept", "sub/left"):
        (folder / name).write_text(name)
    client.build(folder, "-t", "wt-ignored")
    assert client.run("wt-ignored", "sh", "-c", "cd /all && find . -type f | sort | tr '\\n' ' '") == (
        "./.dockerignore ./Dockerfile ./b ./keep.log ./sub/kept "
    )


def test_secrets_reach_the_step_and_nothing_else(client: Client, folder: Path) -> None:
    dockerfile(
        folder,
        "FROM wt-base\n"
        "RUN --mount=type=secret,id=one,target=/run/secrets/one,required,uid=1000,mode=0440 "
        "test $(cat /run/secrets/one) = 'hidden-by-file' && stat -c '%u %a' /run/secrets/one > /how\n"
        "RUN --mount=type=secret,id=two,env=TWO test $TWO = hidden-by-variable\n"
        "RUN --mount=type=secret,id=none test ! -e /run/secrets/none\n",
    )
    secret = folder.parent / "secret"
    secret.write_text("hidden-by-file")
    client.build(
        folder, "-t", "wt-secret", "--secret", f"id=one,src={secret}", "--secret", "id=two,env=GIVEN",
        GIVEN="hidden-by-variable",
    )  # fmt: skip
    assert client.run("wt-secret", "cat", "/how") == "1000 440\n"
    assert client.run("wt-secret", "sh", "-c", "ls -d /run/secrets 2>&1 || true").endswith(
        "No such file or directory\n"
    )
    for root in (client.daemon.data, client.daemon.run):
        found = subprocess.run(["grep", "-rlE", "hidden-by-(file'? *$|variable'? *$)", str(root)], capture_output=True)
        assert not [line for line in found.stdout.splitlines() if not line.endswith((b".db", b"-wal"))]
    with pytest.raises(AssertionError):  # a required one that is not given
        client.build(folder, "--no-cache", GIVEN="x")


def test_an_agent_of_the_client_answers_inside(client: Client, folder: Path) -> None:
    """Whoever listens behind SSH_AUTH_SOCK at the client is who the step talks to."""
    path = folder.parent / "agent"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"answer to " + connection.recv(100))

    threading.Thread(target=serve, daemon=True).start()
    dockerfile(folder, "FROM wt-base\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK && exec sleep 765432\n")
    command = [
        sys.executable,
        "-m",
        "wherry.cli.main",
        "-H",
        f"unix://{client.daemon.socket}",
        "build",
        "--ssh=default",
    ]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "SSH_AUTH_SOCK": str(path)}
    build = subprocess.Popen([*command, "--ssh=default", str(folder)], env=environment, stderr=subprocess.PIPE)
    try:
        step = eventually(lambda: _running(b"sleep\x00765432\x00"), what="the start of the step")
        inside = socket.socket(socket.AF_UNIX)
        with inside:
            inside.connect(f"/proc/{step}/root/run/buildkit/ssh_agent.0")
            inside.sendall(b"question")
            assert inside.recv(100) == b"answer to question"
    finally:
        build.kill()
        build.communicate()
        listening.close()
    eventually(lambda: not _running(b"sleep\x00765432\x00"), what="the end of the step")


def test_named_contexts(client: Client, folder: Path) -> None:
    other = folder.parent / "other"
    other.mkdir()
    (other / "f").write_text("from the other\n")
    dockerfile(folder, "FROM start\nCOPY --from=other f /f\nRUN --mount=from=other,target=/o cat /o/f > /g\n")
    client.build(
        folder, "-t", "wt-named", "--build-context", f"other={other}", "--build-context", "start=docker-image://wt-base"
    )
    assert client.run("wt-named", "cat", "/f", "/g") == "from the other\n" * 2


def test_outputs(client: Client, folder: Path, tmp_path: Path) -> None:
    dockerfile(folder, "FROM scratch\nCOPY d /\n")
    (folder / "d").mkdir()
    (folder / "d" / "f").write_text("put out\n")
    (folder / "d" / "l").symlink_to("f")
    client.build(folder, "-o", str(tmp_path / "out"))
    assert (tmp_path / "out" / "f").read_text() == "put out\n"
    assert os.readlink(tmp_path / "out" / "l") == "f"
    client.build(folder, "-o", f"type=tar,dest={tmp_path}/out.tar")
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert sorted(archive.getnames()) == ["f", "l"]
    before = {image["Id"] for image in client.engine.http.get("/images/json", all=1).json()}
    client.build(folder, "--label", f"once={folder}", "-t", "wt-oci:1", "-o", f"type=oci,dest={tmp_path}/oci.tar")
    with tarfile.open(tmp_path / "oci.tar") as archive:
        assert {"oci-layout", "index.json"} <= set(archive.getnames())
    assert {image["Id"] for image in client.engine.http.get("/images/json", all=1).json()} == before


def test_a_cache_mount_is_found_again(client: Client, folder: Path) -> None:
    dockerfile(folder, "FROM wt-base\nARG N\nRUN --mount=type=cache,target=/c echo $N >> /c/n && cp /c/n /n\n")
    client.build(folder, "--build-arg", "N=1")
    client.build(folder, "--build-arg", "N=2", "-t", "wt-cached")
    assert client.run("wt-cached", "cat", "/n") == "1\n2\n"
    kinds = [item["Type"] for item in client.engine.http.get("/system/df").json()["BuildCache"]]
    assert "exec.cachemount" in kinds


def test_locked_and_private_cache_mounts(client: Client, folder: Path) -> None:
    """Steps that share a locked one take turns; a private one is never seen by two at once."""
    step = (
        "RUN --mount=type=cache,target=/c,id=wt-{0},sharing={0} mkdir /c/in && sleep 0.3 && rmdir /c/in && touch /{1}"
    )
    stages = [f"FROM wt-base AS {kind}{n}\n{step.format(kind, n)}\n" for kind in ("locked", "private") for n in "ab"]
    copies = [f"COPY --from={kind}{n} /{n} /{kind}{n}\n" for kind in ("locked", "private") for n in "ab"]
    dockerfile(folder, "".join([*stages, "FROM scratch\n", *copies]))
    client.build(folder, "--no-cache")


def test_the_same_twice_with_a_date(client: Client, folder: Path, tmp_path: Path) -> None:
    archive = docker_archive([base_tar()], ["wt-fixed:1"], config_json([base_tar()], Env=["PATH=/bin"]))
    assert client.engine.load(archive).status == 200
    dockerfile(folder, "FROM wt-fixed:1\nWORKDIR /w\nCOPY f .\nRUN echo made > made && mkdir d\nENV A=1\n")
    (folder / "f").write_text("f\n")
    first = client.build(folder, "-q", SOURCE_DATE_EPOCH="1700000000").stdout
    other = Wherryd(temporary_folder())
    other.start()
    try:
        elsewhere = Client(other, tmp_path / "home2")
        assert elsewhere.engine.load(archive).status == 200
        assert elsewhere.build(folder, "-q", SOURCE_DATE_EPOCH="1700000000").stdout == first
    finally:
        other.dispose()


def test_from_standard_input(client: Client, folder: Path) -> None:
    client("build", "-q", "-t", "wt-stdin:1", "-", stdin=b"FROM wt-base\nRUN echo 1 > /n\n")
    assert client.run("wt-stdin:1", "cat", "/n") == "1\n"
    (folder / "f").write_text("2\n")
    client("build", "-q", "-t", "wt-stdin:2", "-f", "-", str(folder), stdin=b"FROM wt-base\nCOPY f /n\n")
    assert client.run("wt-stdin:2", "cat", "/n") == "2\n"
    dockerfile(folder, "FROM wt-base\nCOPY f /n\nRUN echo 3 >> /n\n")
    archive = subprocess.run(["tar", "-c", "."], cwd=folder, capture_output=True, check=True).stdout
    client("build", "-q", "-t", "wt-stdin:3", "-", stdin=archive)
    assert client.run("wt-stdin:3", "cat", "/n") == "2\n3\n"


def test_what_failed_is_shown(client: Client, folder: Path) -> None:
    dockerfile(folder, "FROM wt-base\nRUN echo hint; exit 3\n")
    said = client.build(folder, code=1).stderr
    assert "hint" in said.partition("------")[2]
    assert said.endswith(
        'failed to solve: process "/bin/sh -c echo hint; exit 3" did not complete successfully: exit code: 3\n'
    ) or said.endswith("exit code: 3")
    dockerfile(folder, "FROM wt-base\nNONSENSE\n")
    said = client.build(folder, code=1).stderr
    assert ">>> NONSENSE" in said and "unknown instruction: NONSENSE" in said
    dockerfile(folder, "FROM wt-base\nCOPY missing /\n")
    assert '"/missing": not found' in client.build(folder, code=1).stderr
    (folder / "dangling").symlink_to("nowhere")
    dockerfile(folder, "FROM wt-base\nCOPY dangling /\n")
    assert '"/nowhere": not found' in client.build(folder, code=1).stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--squash",),
        ("--cache-to", "type=gha"),
        ("--cache-from", "type=s3,bucket=b"),
    ],
)
def test_what_is_not_done_is_refused(client: Client, folder: Path, words: tuple[str, ...]) -> None:
    dockerfile(folder, "FROM wt-base\n")
    assert "supported" in client.build(folder, *words, code=1).stderr


def test_a_client_that_dies_takes_its_build_along(client: Client, folder: Path) -> None:
    dockerfile(folder, "FROM wt-base\nRUN echo begun; exec sleep 876543\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "wherry.cli.main", "-H", f"unix://{client.daemon.socket}", "build", str(folder)],
        env={"PATH": os.environ["PATH"], "HOME": str(client.home), "PYTHONPATH": str(SOURCE)},
        stderr=subprocess.PIPE,
    )
    eventually(lambda: _running(b"sleep\x00876543\x00"), what="the start of the step")
    process.kill()
    process.communicate()
    eventually(lambda: not _running(b"sleep\x00876543\x00"), what="the end of the step")


def _running(command: bytes) -> int:
    """PID of a process of that command line; 0 if there is none."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == command:
                return int(path.parent.name)
        except OSError:
            continue
    return 0


def test_a_mount_below_a_file_is_refused_with_the_file(client: Client, folder: Path) -> None:
    for kind in ("tmpfs", "cache", "bind"):
        dockerfile(folder, f"FROM wt-base\nRUN --mount=type={kind},target=/etc/passwd/x true\n")
        assert "/etc/passwd/x: /etc/passwd is not a directory" in client.build(folder, code=1).stderr
