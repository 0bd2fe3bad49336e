"""Users and groups by the text of an image's own files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import SystemFailure
from wherry.model.users import MAX_ID, ResolvedUser, parse_group, parse_passwd, resolve

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
u:x:1000:1000::/home/u:/bin/sh

broken
overflow:x:99999999999:0::/:/bin/sh
none:x:::/
u:x:7:7::/second:/bin/sh
1234:x:5:5::/named-like-a-number:
"""
GROUP = """\
root:x:0:
u:x:1000:
extra:x:2000:u,someone
more:x:2001:u
nogroup:x:65534:
"""


@pytest.mark.parametrize(
    ("spec", "uid", "gid", "groups", "home"),
    [
        ("", 0, 0, (0,), "/root"),
        ("0", 0, 0, (0,), "/root"),
        ("u", 1000, 1000, (1000, 2000, 2001), "/home/u"),
        ("1000", 1000, 1000, (1000, 2000, 2001), "/home/u"),
        ("u:", 1000, 1000, (1000, 2000, 2001), "/home/u"),
        ("u:extra", 1000, 2000, (2000,), "/home/u"),
        ("u:77", 1000, 77, (77,), "/home/u"),
        ("4242", 4242, 0, (0,), "/"),
        ("4242:5", 4242, 5, (5,), "/"),
        (":extra", 0, 2000, (2000,), "/root"),
        ("u:extra:ignored", 1000, 2000, (2000,), "/home/u"),
        ("1234", 1234, 0, (0,), "/"),
    ],
)
def test_resolution(spec: str, uid: int, gid: int, groups: tuple[int, ...], home: str) -> None:
    found = resolve(spec, None, PASSWD, GROUP)
    assert (found.uid, found.gid, found.groups, found.home) == (uid, gid, groups, home)


def test_added_groups_by_name_and_number() -> None:
    assert resolve("u:extra", ["nogroup", "77", "2000"], PASSWD, GROUP).groups == (2000, 65534, 77)


@pytest.mark.parametrize(
    ("spec", "add", "message"),
    [
        ("ghost", None, "unable to find user ghost: no matching entries in passwd file"),
        ("overflow", None, "unable to find user overflow: no matching entries in passwd file"),
        ("u:ghosts", None, "unable to find group ghosts: no matching entries in group file"),
        ("u", ["ghosts"], "Unable to find group ghosts: no matching entries in group file"),
        ("-1", None, "uids and gids must be in range 0-2147483647"),
        ("2147483648", None, "uids and gids must be in range 0-2147483647"),
        ("u:-5", None, "uids and gids must be in range 0-2147483647"),
        ("u", ["99999999999"], "uids and gids must be in range 0-2147483647"),
        ("0x10", None, "unable to find user 0x10: no matching entries in passwd file"),
    ],
)
def test_refusals(spec: str, add: list[str] | None, message: str) -> None:
    with pytest.raises(SystemFailure) as refused:
        resolve(spec, add, PASSWD, GROUP)
    assert str(refused.value) == message


def test_without_files_numbers_work() -> None:
    assert resolve("12:34", ["5"], "", "") == ResolvedUser(12, 34, (34, 5), "/")


@given(st.text(), st.text())
def test_whatever_the_files_say_an_identity_is_in_range(passwd: str, group: str) -> None:
    for user in parse_passwd(passwd):
        assert 0 <= user.uid <= MAX_ID and 0 <= user.gid <= MAX_ID
    for found in parse_group(group):
        assert 0 <= found.gid <= MAX_ID
