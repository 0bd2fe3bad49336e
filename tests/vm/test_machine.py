"""Boots the virtual machine once and has it pass the tests in guest/: limits, pause and OOM with cgroup v2 alone."""

import re

from tools import vm

LONGEST = 420.0
"""Seconds; a boot that has not ended by then is ended."""


def test_the_engine_on_a_machine_with_cgroup_v2_alone() -> None:
    outcome = vm.boot(vm.prepare(), ["tests/vm/guest", "-rA", "-q"], LONGEST)
    print(outcome.console)
    assert outcome.code == 0, "the tests in the virtual machine failed; its console is above"
    assert re.search(r"^[1-9]\d* passed", outcome.console, re.MULTILINE)
