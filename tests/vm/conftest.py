"""The tests in guest/ are for the virtual machine that test_machine.py boots."""

import os

if "WHERRY_IN_VM" in os.environ:
    collect_ignore = ["test_machine.py"]
else:
    collect_ignore = ["guest"]
