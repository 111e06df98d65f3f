"""Child processes that end with their parent, even if that is killed, without polling."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

VARIABLE = "NT_FAILURES_LIFELINE"
"""Environment variable of a process whose standard input is a pipe that its parent holds open and never writes to."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def start(command: list[str], env: dict[str, str], **options: Any) -> subprocess.Popen:
    """As `subprocess.Popen`; a command that calls `hold` ends with this process. Close `stdin` when it has ended."""
    return subprocess.Popen(command, env={**env, VARIABLE: "stdin"}, stdin=subprocess.PIPE, **options)


def hold() -> None:
    """End this process with the one that started it by `start`; does nothing for any other."""
    if os.environ.pop(VARIABLE, None) is not None:
        threading.Thread(target=_end_after, args=(lambda: os.read(0, 1),), daemon=True).start()


def end_with(caller: BaseProcess, forked: bool) -> None:
    """End this process, a worker of `multiprocessing`, with its caller: its `parent_process()`.

    Its pool, too, ends it, by SIGTERM: at once, whatever handler the caller has and it inherited. A handler in Python
    waits for the next line of Python, which a worker that waits for a lock may never come to.

    `forked`: whether the caller itself forked this process, rather than a server that forks for it.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":  # where workers that are forked later hold open the pipe that `caller.join` waits on
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if (forked and os.getppid() != caller.pid) or not caller.is_alive():  # it died before
            os._exit(1)
    else:
        threading.Thread(target=_end_after, args=(caller.join,), daemon=True).start()


def _end_after(wait: Callable[[], object]) -> None:
    wait()
    os._exit(1)  # not sys.exit: that would end this thread alone
