"""What ps prints, cut down to one container."""

from __future__ import annotations

import pytest

from wherry.errors import SystemFailure
from wherry.model.pslist import ProcessList, check_arguments, select

OUTPUT = """UID          PID    PPID CMD
root           7       1 sh -c  echo
root           8       7 sleep 5
root           9       1 other
"""


def test_the_last_column_takes_the_rest() -> None:
    assert select(OUTPUT, {7, 8}) == ProcessList(
        ["UID", "PID", "PPID", "CMD"], [["root", "7", "1", "sh -c echo"], ["root", "8", "7", "sleep 5"]]
    )
    assert select(OUTPUT, set()).processes is None


def test_threads_belong_to_the_process_above() -> None:
    output = "PID TID COMMAND\n7 - sh\n- 7 -\n- 10 -\n9 - other\n- 9 -\n"
    assert select(output, {7}).processes == [["7", "-", "sh"], ["-", "7", "-"], ["-", "10", "-"]]


def test_without_pids() -> None:
    with pytest.raises(SystemFailure, match="Couldn't find PID field in ps output"):
        select("COMMAND\nsh\n", {7})
    with pytest.raises(SystemFailure, match="Unexpected pid 'x'"):
        select("PID COMMAND\nx sh\n", {7})


def test_no_other_column_may_be_called_pid() -> None:
    check_arguments("-o pid=PID,comm")
    check_arguments("aux")
    with pytest.raises(SystemFailure, match='specifying "comm=PID" is not allowed'):
        check_arguments("-o comm=PID")
