"""What crun 1.8.1, crun 1.21 and runc 1.1.5 say when they cannot start a process, as Docker tells it."""

import pytest

from wherry.runtime.oci import start_failure

SAID = [
    ("executable file `nosuch` not found in $PATH: No such file or directory", "nosuch", "not found in $PATH", 127),
    ("executable file `nosuch` not found: No such file or directory", "nosuch", "not found in $PATH", 127),
    ('exec: "nosuch": executable file not found in $PATH', "nosuch", "not found in $PATH", 127),
    ("executable file `/no/such` not found: No such file or directory", "/no/such", "no such file or directory", 127),
    ("open executable: Operation not permitted", "/etc", "is a directory", 126),
    ("the path `/etc` is not a regular file: Operation not permitted", "/etc", "is a directory", 126),
    ("the path `/etc` exists but it is not executable", "/etc", "permission denied", 126),
    ("open executable: Operation not permitted", "", "executable file not found in $PATH", 127),
    ("open executable: Permission denied", "/etc/passwd", "permission denied", 126),
    ('exec: "/etc/passwd": permission denied', "/etc/passwd", "permission denied", 126),
    ("open executable: Permission denied", "noexec", "executable file not found in $PATH", 127),
    ("open executable: Operation not permitted", "adir", "executable file not found in $PATH", 127),
    (
        "open executable: Too many levels of symbolic links",
        "/loop",
        "stat /loop: too many levels of symbolic links: unknown",
        128,
    ),
    (
        "open executable: Not a directory",
        "/bin/true/x",
        "stat /bin/true/x: not a directory: unknown: Are you trying to mount a directory onto a file",
        127,
    ),
    ("open executable: Operation not permitted", "/etc", "is a directory: unknown: permission denied", 126),
    ("chdir `/nowhere`: No such file or directory", "true", "no such file or directory", 126),
]


@pytest.mark.parametrize(("said", "command", "words", "code"), SAID)
def test_in_dockers_words(said: str, command: str, words: str, code: int) -> None:
    failure = start_failure(said, command, verb="create", runtime="crun")
    message = str(failure)
    assert message.startswith(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: "
        "crun create failed: unable to start container process: "
    )
    assert words in message
    assert failure.exit_code == code
    if "chdir" not in said:
        assert f'exec: "{command}": ' in message


def test_anything_else_is_told_as_it_is() -> None:
    failure = start_failure("mount `/x` to `/y`: Permission denied", "true", verb="create", runtime="crun")
    assert "mount `/x` to `/y`: Permission denied" in str(failure)
    assert failure.exit_code == 128


@pytest.mark.parametrize(
    ("said", "words", "code"),
    [
        (
            "open /proc/sys/net/nope: No such file or directory",
            "open /proc/sys/net/nope: no such file or directory",
            127,
        ),
        (
            "open `/proc/sys/net/nope`: No such file or directory",
            "open /proc/sys/net/nope: no such file or directory",
            127,
        ),
        ("write to /proc/sys/kernel/shmmax: Invalid argument", "write /proc/sys/kernel/shmmax: invalid argument", 128),
        (
            "write to `/proc/sys/kernel/shmmax`: Invalid argument",
            "write /proc/sys/kernel/shmmax: invalid argument",
            128,
        ),
    ],
)
def test_settings_of_the_kernel(said: str, words: str, code: int) -> None:
    failure = start_failure(said, "true", verb="create", runtime="crun")
    assert f"unable to start container process: error during container init: {words}: unknown" in str(failure)
    assert failure.exit_code == code


def test_execs_have_words_of_their_own() -> None:
    failure = start_failure(SAID[0][0], "nosuch", verb="exec")
    assert str(failure) == (
        "OCI runtime exec failed: exec failed: unable to start container process: "
        'exec: "nosuch": executable file not found in $PATH: unknown'
    )
