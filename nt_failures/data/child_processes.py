"""Child processes that end with their parent, even if that is killed, without polling."""

import ctypes
import os
import signal
import sys
import threading
from multiprocessing.process import BaseProcess

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


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
        threading.Thread(target=_end_after, args=(caller,), daemon=True).start()


def _end_after(caller: BaseProcess) -> None:
    caller.join()
    os._exit(1)  # not sys.exit: that would end this thread alone
