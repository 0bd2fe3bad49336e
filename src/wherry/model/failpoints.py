"""Places where a test can kill the process, to prove that the next start repairs what was half done.

`WHERRY_FAILPOINT` names one; reaching it is `kill -9`. The places are named `service.verb.step-done`.
"""

import os
import signal

_armed = os.environ.get("WHERRY_FAILPOINT", "")


def failpoint(name: str) -> None:
    """Die here, as by `kill -9`, if the environment names this place."""
    if name == _armed:
        os.kill(os.getpid(), signal.SIGKILL)
